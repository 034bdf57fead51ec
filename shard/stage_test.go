package shard_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/kv"
	"github.com/weft-mesh/weft/shard/sample"
)

const (
	tiny        = "testdata/tiny/llama-Q4_0.gguf"
	tinyExperts = "testdata/tiny/mixtral-Q4_K_M.gguf"
)

// solo is one stage of the whole tiny model, with a context of 128 positions.
func solo(t testing.TB, o pipeOptions) *shard.Stage {
	t.Helper()
	return soloOf(t, open(t, tiny), o)
}

// soloOf is a stage of all layers of w.
func soloOf(t testing.TB, w *weights, o pipeOptions) *shard.Stage {
	t.Helper()
	o.profile, o.device = f32Profile(w.cfg, 128), cpuDevice
	return newPipe(t, w, o).stages[0]
}

// opened opens and starts a session of 64 positions.
func opened(t testing.TB, s *shard.Stage, id byte, prompt ...int32) shard.SessionID {
	t.Helper()
	sid := shard.SessionID{id}
	held, err := s.Open(shard.SessionSpec{ID: sid, Positions: 64, Prompt: prompt})
	if err == nil {
		err = s.Start(sid, 0, held)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sid
}

func step(t testing.TB, s *shard.Stage, runs ...shard.Run) []shard.Result {
	t.Helper()
	res, err := s.Step(runs)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v; want %v", err, want)
	}
}

func TestRunsThatMakeNoSenseAreRefusedAndHarmNobody(t *testing.T) {
	s := solo(t, pipeOptions{maxRows: 16})
	good := opened(t, s, 1)
	idle := shard.SessionID{7}
	if _, err := s.Open(shard.SessionSpec{ID: idle, Positions: 10}); err != nil {
		t.Fatal(err)
	}
	ids := func(n int) []int32 { return slices.Repeat([]int32{50}, n) }
	res := step(t, s,
		shard.Run{Session: shard.SessionID{9}, Tokens: ids(1)},
		shard.Run{Session: good},
		shard.Run{Session: good, Tokens: ids(17)},
		shard.Run{Session: good, Tokens: []int32{-1}},
		shard.Run{Session: good, Tokens: []int32{320}},
		shard.Run{Session: good, Tokens: ids(1), Sample: 9},
		shard.Run{Session: good, Tokens: ids(1), Base: 1},
		shard.Run{Session: good, Tokens: ids(1), Base: -1},
		shard.Run{Session: good, Tokens: ids(1), Epoch: 1},
		shard.Run{Session: idle, Tokens: ids(1)},
		shard.Run{Session: good, Tokens: ids(10), Sample: shard.SampleLast},
		shard.Run{Session: good, Tokens: ids(7), Base: 10},
	)
	for i, want := range []error{
		shard.ErrUnknownSession, shard.ErrRun, shard.ErrRun, shard.ErrRun, shard.ErrRun, shard.ErrRun, shard.ErrGap, shard.ErrGap,
		shard.ErrGap, shard.ErrGap, nil, shard.ErrBatchFull,
	} {
		if !errors.Is(res[i].Err, want) || (want == nil) != (res[i].Err == nil) {
			t.Errorf("run %d: %v; want %v", i, res[i].Err, want)
		}
	}
	if r := res[10]; r.Accepted != 10 || len(r.Tokens) != 1 || r.Base != 0 || r.N != 10 {
		t.Errorf("the good run gave %+v", r)
	}
}

func TestContextEndsWithTheReservation(t *testing.T) {
	s := solo(t, pipeOptions{})
	id := opened(t, s, 1)
	tokens := slices.Repeat([]int32{60}, 64)
	if r := step(t, s, shard.Run{Session: id, Tokens: tokens})[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	r := step(t, s, shard.Run{Session: id, Tokens: tokens[:1], Base: 64})[0]
	wantErr(t, r.Err, shard.ErrContextFull)
	_, err := s.Open(shard.SessionSpec{ID: shard.SessionID{2}, Positions: 129})
	wantErr(t, err, shard.ErrContextFull)
	_, err = s.Open(shard.SessionSpec{ID: shard.SessionID{2}, Positions: 5, Prompt: tokens})
	wantErr(t, err, shard.ErrContextFull)
}

func TestSessionsCannotOvercommitTheStage(t *testing.T) {
	s := solo(t, pipeOptions{blocks: 8})
	opened(t, s, 1)
	id := opened(t, s, 2)
	_, err := s.Open(shard.SessionSpec{ID: shard.SessionID{3}, Positions: 1})
	wantErr(t, err, kv.ErrNoRoom)
	_, err = s.Open(shard.SessionSpec{ID: id, Positions: 1})
	wantErr(t, err, shard.ErrSessionExists)
	s.CloseSession(id)
	s.CloseSession(id)
	opened(t, s, 3)
	if got := s.Stats(); got.Sessions != 2 || got.KV.Reserved != 8 {
		t.Errorf("%+v", got)
	}
}

func TestOpenRefusesWhatTheSamplerCannotDo(t *testing.T) {
	s := solo(t, pipeOptions{})
	_, err := s.Open(shard.SessionSpec{ID: shard.SessionID{1}, Positions: 8, Sampling: sample.Params{TopP: 2}})
	if err == nil || !strings.Contains(err.Error(), "top_p") {
		t.Errorf("error %v; want one about top_p", err)
	}
	_, err = s.Open(shard.SessionSpec{ID: shard.SessionID{1}, Positions: 8, Prompt: []int32{1000}})
	wantErr(t, err, shard.ErrRun)
	if got := s.Stats(); got.Sessions != 0 || got.KV.Reserved != 0 {
		t.Errorf("refused sessions left %+v", got)
	}
}

// decode draws n tokens after a prompt.
func decode(t testing.TB, s *shard.Stage, id shard.SessionID, base int, prompt []int32, n int) []int32 {
	t.Helper()
	var out []int32
	tokens := prompt
	for range n {
		r := step(t, s, shard.Run{Session: id, Base: base, Tokens: tokens, Sample: shard.SampleLast})[0]
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		base += len(tokens)
		tokens = []int32{r.Tokens[0].ID}
		out = append(out, tokens[0])
	}
	return out
}

func TestARunThatDoesNotBeginAsDrawnEndsTheEpoch(t *testing.T) {
	s := solo(t, pipeOptions{})
	prompt := []int32{40, 50, 60}
	want := decode(t, s, opened(t, s, 1), 0, prompt, 3)
	id := opened(t, s, 2)
	step(t, s, shard.Run{Session: id, Tokens: prompt, Sample: shard.SampleLast})
	bad := shard.Run{Session: id, Base: 3, Tokens: []int32{(want[0] + 1) % 320, want[1]}, Sample: shard.SampleAll, States: true}
	if r := step(t, s, bad)[0]; r.Err != nil || r.Accepted != 0 || !r.EpochEnded || len(r.Tokens) != 0 || len(r.StateHashes) != 0 {
		t.Fatalf("a wrong first token gave %+v; want nothing accepted", r)
	}
	good := shard.Run{Session: id, Base: 3, Tokens: []int32{want[0]}, Sample: shard.SampleAll}
	wantErr(t, step(t, s, good)[0].Err, shard.ErrStale)
	if err := s.Truncate(id, 1, 3); err != nil {
		t.Fatal(err)
	}
	good.Epoch = 1
	if r := step(t, s, good)[0]; r.Err != nil || len(r.Tokens) != 1 || r.Tokens[0].ID != want[1] {
		t.Fatalf("after the truncation: %+v", r)
	}
}

func TestMismatchEndsTheEpochUntilTruncation(t *testing.T) {
	s := solo(t, pipeOptions{})
	prompt := []int32{40, 50, 60}
	want := decode(t, s, opened(t, s, 1), 0, prompt, 8)
	bad := func(id int32) int32 { return (id + 1) % 320 }

	id := opened(t, s, 2)
	res := step(t, s,
		shard.Run{Session: id, Tokens: prompt, Sample: shard.SampleLast},
		shard.Run{Session: id, Base: 3, Tokens: []int32{want[0], want[1], bad(want[2]), want[3]}, Sample: shard.SampleAll},
		shard.Run{Session: id, Base: 7, Tokens: []int32{want[4]}, Sample: shard.SampleAll},
	)
	if r := res[1]; r.Err != nil || r.Accepted != 2 || !r.EpochEnded || len(r.Tokens) != 2 || r.Tokens[1].ID != want[2] {
		t.Fatalf("verification gave %+v; want 2 accepted and the correction %d", r, want[2])
	}
	wantErr(t, res[2].Err, shard.ErrStale)
	r := step(t, s, shard.Run{Session: id, Base: 5, Tokens: []int32{want[2]}})[0]
	wantErr(t, r.Err, shard.ErrStale)

	if err := s.Truncate(id, 1, 5); err != nil {
		t.Fatal(err)
	}
	r = step(t, s, shard.Run{Session: id, Base: 5, Tokens: []int32{want[2]}})[0]
	wantErr(t, r.Err, shard.ErrStale) // still of epoch 0
	// The next run's first token is a draft too: it must be the one that was drawn last.
	res = step(t, s,
		shard.Run{Session: id, Epoch: 1, Base: 5, Tokens: []int32{want[2], want[3]}, Sample: shard.SampleAll},
		shard.Run{Session: id, Epoch: 1, Base: 7, Tokens: []int32{want[4], want[5]}, Sample: shard.SampleAll},
		shard.Run{Session: id, Epoch: 1, Base: 9, Tokens: []int32{bad(want[6])}, Sample: shard.SampleAll},
	)
	if res[0].Accepted != 2 || res[1].Accepted != 2 || res[1].Tokens[1].ID != want[6] {
		t.Fatalf("good drafts in flight gave %+v", res[:2])
	}
	if r := res[2]; r.Err != nil || r.Accepted != 0 || !r.EpochEnded || len(r.Tokens) != 0 {
		t.Fatalf("a wrong first token gave %+v; want nothing accepted", r)
	}
	if err := s.Truncate(id, 2, 9); err != nil {
		t.Fatal(err)
	}
	r = step(t, s, shard.Run{Session: id, Epoch: 2, Base: 9, Tokens: []int32{want[6]}, Sample: shard.SampleAll})[0]
	if r.Err != nil || r.Tokens[0].ID != want[7] {
		t.Fatalf("after the correction %+v; want token %d", r, want[7])
	}
}

func TestTruncationKeepsWithinTheConfirmedLength(t *testing.T) {
	w := open(t, tiny)
	p := newPipe(t, w, pipeOptions{cuts: []int{1}, profile: f32Profile(w.cfg, 128), device: cpuDevice})
	s := p.stages[0]
	id := opened(t, s, 1)
	wantErr(t, s.Confirm(id, 1), shard.ErrGap)
	if r := step(t, s, shard.Run{Session: id, Tokens: make([]int32, 20)})[0]; r.Err != nil || len(r.Hidden) != 20*w.cfg.Embd || r.Accepted != 20 {
		t.Fatalf("first stage gave %+v", r)
	}
	wantErr(t, s.Truncate(id, 1, 1), shard.ErrTruncate)
	if err := s.Confirm(id, 18); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.Truncate(id, 0, 10), shard.ErrStale)
	wantErr(t, s.Truncate(id, 1, 19), shard.ErrTruncate)
	wantErr(t, s.Truncate(id, 1, -1), shard.ErrTruncate)
	if err := s.Truncate(id, 1, 17); err != nil {
		t.Fatal(err)
	}
	if r := step(t, s, shard.Run{Session: id, Epoch: 1, Base: 18, Tokens: make([]int32, 1)})[0]; !errors.Is(r.Err, shard.ErrGap) {
		t.Errorf("a run beyond the kept length: %v; want ErrGap", r.Err)
	}
	if r := step(t, s, shard.Run{Session: id, Epoch: 1, Base: 17, Tokens: make([]int32, 1)})[0]; r.Err != nil {
		t.Error(r.Err)
	}
	for _, err := range []error{
		s.Confirm(shard.SessionID{9}, 0), s.Truncate(shard.SessionID{9}, 1, 0), s.Start(shard.SessionID{9}, 0, 0),
	} {
		wantErr(t, err, shard.ErrUnknownSession)
	}
	if err := s.Start(id, 2, 0); err == nil {
		t.Error("a session was started twice")
	}
}

func TestStartTakesAnyPrefixThatIsHeld(t *testing.T) {
	s := solo(t, pipeOptions{})
	prompt := make([]int32, 50)
	for i := range prompt {
		prompt[i] = int32(40 + i)
	}
	want := decode(t, s, opened(t, s, 1), 0, prompt, 4)
	s.CloseSession(shard.SessionID{1})
	for _, base := range []int{48, 32, 0} {
		id := shard.SessionID{byte(base)}
		held, err := s.Open(shard.SessionSpec{ID: id, Positions: 60, Prompt: prompt})
		if err != nil || held != 48 {
			t.Fatalf("held %d, %v; want 48", held, err)
		}
		for _, wrong := range []int{64, 47, -16} {
			wantErr(t, s.Start(id, 0, wrong), shard.ErrGap)
		}
		if err := s.Start(id, 0, base); err != nil {
			t.Fatal(err)
		}
		if got := decode(t, s, id, base, prompt[base:], 4); !slices.Equal(got, want) {
			t.Errorf("from %d on: %v; want %v", base, got, want)
		}
		s.CloseSession(id)
	}
	held, err := s.Open(shard.SessionSpec{ID: shard.SessionID{5}, Positions: 60, Prompt: prompt, Salt: []byte("other tenant")})
	if err != nil || held != 0 {
		t.Errorf("another tenant's prefix: held %d, %v; want 0", held, err)
	}
	s.CloseSession(shard.SessionID{5})
	s.ForgetPrefixes()
	if got := s.Stats().KV; got.Free != got.Blocks {
		t.Errorf("after forgetting: %+v", got)
	}
}

func TestTruncationIntoASharedBlockIsRefused(t *testing.T) {
	s := solo(t, pipeOptions{})
	prompt := slices.Repeat([]int32{45}, 40)
	a := opened(t, s, 1)
	decode(t, s, a, 0, prompt, 1)
	opened(t, s, 2, prompt...)
	err := s.Truncate(a, 1, 20)
	wantErr(t, err, shard.ErrTruncate)
	wantErr(t, err, kv.ErrShared)
	if err := s.Truncate(a, 1, 16); err != nil {
		t.Error(err)
	}
}

func TestFaultFailsItsOwnSessionOnly(t *testing.T) {
	w := open(t, tiny)
	p := newPipe(t, w, pipeOptions{cuts: []int{1}, profile: f32Profile(w.cfg, 128), device: cpuDevice})
	first, last := p.stages[0], p.stages[1]
	tokens := []int32{40, 41, 42}
	hidden := slices.Clone(step(t, first, shard.Run{Session: opened(t, first, 1), Tokens: tokens})[0].Hidden)
	a, b := opened(t, last, 1), opened(t, last, 2)
	want := step(t, last, shard.Run{Session: a, Tokens: tokens, Hidden: hidden, Sample: shard.SampleLast})[0].Tokens[0].ID

	bad := slices.Clone(hidden)
	bad[w.cfg.Embd+3] = float32(math.NaN())
	c := opened(t, last, 3)
	res := step(t, last,
		shard.Run{Session: b, Tokens: tokens, Hidden: bad, Sample: shard.SampleAll},
		shard.Run{Session: c, Tokens: tokens, Hidden: hidden, Sample: shard.SampleLast},
		shard.Run{Session: b, Base: 3, Tokens: tokens, Hidden: hidden},
	)
	var fault *shard.FaultError
	if !errors.As(res[0].Err, &fault) || fault.Layer != 1 || fault.Op != "norm" || fault.Position != 1 {
		t.Errorf("error %v; want a norm fault in layer 1 at position 1", res[0].Err)
	}
	if res[1].Err != nil || res[1].Tokens[0].ID != want {
		t.Errorf("the other session got %+v; want token %d", res[1], want)
	}
	wantErr(t, res[2].Err, shard.ErrGap)
	if r := step(t, last, shard.Run{Session: b, Tokens: tokens, Hidden: hidden, Sample: shard.SampleLast})[0]; r.Err != nil || r.Tokens[0].ID != want {
		t.Errorf("the session after its failed run got %+v; want token %d", r, want)
	}
	r := step(t, last, shard.Run{Session: b, Base: 3, Tokens: tokens, Hidden: hidden[1:]})[0]
	wantErr(t, r.Err, shard.ErrRun)
	for _, f := range []shard.FaultError{{Layer: 3, Op: "kv"}, {Layer: -1, Op: "logits"}} {
		if f.Error() == "" {
			t.Error("a fault without words")
		}
	}
}

func TestManyRowsAreProjectedInPieces(t *testing.T) {
	s := solo(t, pipeOptions{})
	prompt := []int32{40}
	want := append([]int32{}, decode(t, s, opened(t, s, 1), 0, prompt, 41)...)
	id := opened(t, s, 2)
	run := shard.Run{Session: id, Tokens: append(slices.Clone(prompt), want[:40]...), Sample: shard.SampleAll, States: true}
	r := step(t, s, run)[0]
	if r.Accepted != 41 || len(r.Tokens) != 41 || len(r.StateHashes) != 41 {
		t.Fatalf("%d accepted, %d drawn; want 41", r.Accepted, len(r.Tokens))
	}
	for i, tok := range r.Tokens {
		if tok.ID != want[i] {
			t.Fatalf("token %d is %d; want %d", i, tok.ID, want[i])
		}
	}
}
