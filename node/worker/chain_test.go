package worker_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// promptOf is a prompt of n tokens that are all in the tiny vocabulary.
func promptOf(n, seed int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = uint32((i*37+seed*11)%200 + 3)
	}
	return out
}

// cuts are plans of one, two and three stages; the asked node is the first
// stage, a later one, or none of them.
var cuts = []struct {
	name   string
	layers int
	head   string
	stages []string
	at     []int
}{
	{"one stage, which is the head", 4, "a", []string{"a"}, nil},
	{"one stage elsewhere", 4, "head", []string{"a"}, nil},
	{"two stages, the head is the first", 4, "a", []string{"a", "b"}, []int{1}},
	{"two stages, the head is the last", 4, "b", []string{"a", "b"}, []int{2}},
	{"three stages and a head beside them", 5, "head", []string{"a", "b", "c"}, []int{1, 3}},
	{"three stages, the head is in the middle", 5, "b", []string{"a", "b", "c"}, []int{2, 3}},
}

func TestRepliesDoNotDependOnTheCut(t *testing.T) {
	for _, c := range cuts {
		t.Run(c.name, func(t *testing.T) {
			w := repeated(c.layers)
			prompt := promptOf(45, 1)
			tokens, hash := direct(t, w, prompt, 12)
			m := newMesh(t, meshOptions{weights: w}, "a", "b", "c", "head")
			p := planOf(w, c.head, 1, c.stages, c.at...)
			m.load(p)
			h := openHead(t, m.nodes[c.head], p)
			for _, chunk := range []int{16, 64} {
				got, gotHash := h.reply(prompt, 12, chunk, nil)
				if d := cmp.Diff(tokens, got); d != "" {
					t.Errorf("chunk %d: tokens differ: %s", chunk, d)
				}
				if d := cmp.Diff(hash, gotHash); d != "" {
					t.Errorf("chunk %d: state differs: %s", chunk, d)
				}
			}
			h.close()
			m.idle()
		})
	}
}

func TestDraftsDoNotChangeTheReply(t *testing.T) {
	w := repeated(5)
	prompt := promptOf(20, 2)
	tokens, _ := direct(t, w, prompt, 24)
	m := newMesh(t, meshOptions{weights: w}, "a", "b", "c", "head")
	p := planOf(w, "head", 1, []string{"a", "b", "c"}, 2, 3)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	// Some drafts are right for one, two or three tokens, then wrong.
	got, _ := h.reply(prompt, 24, 32, func(at int) []uint32 {
		d := slices.Clone(tokens[at:min(at+at%4, len(tokens))])
		return append(d, 5, 6)
	})
	if d := cmp.Diff(tokens, got); d != "" {
		t.Error(d)
	}
	h.close()
	m.idle()
}

func TestSessionsOfTwoHeadsRunAtOnce(t *testing.T) {
	w := repeated(4)
	m := newMesh(t, meshOptions{weights: w, maxRows: 64}, "a", "b", "x", "y")
	p := planOf(w, "x", 1, []string{"a", "b"}, 2)
	m.load(p)
	var wg sync.WaitGroup
	for i := range 6 {
		prompt := promptOf(30+7*i, i)
		tokens, _ := direct(t, w, prompt, 10)
		h := openHead(t, m.nodes[[]string{"x", "y"}[i%2]], p)
		wg.Go(func() {
			defer h.close()
			if got, _ := h.reply(prompt, 10, 16, nil); !slices.Equal(got, tokens) {
				t.Errorf("session %d: %v, want %v", i, got, tokens)
			}
		})
	}
	wg.Wait()
	m.idle()
	m.unchained("a")
	for _, p := range m.nodes["a"].worker.Stats().Plans {
		if p.Chains != 0 || p.Steps == 0 || p.Rows < 6*40 || len(p.StepTimes) == 0 || p.Busy == 0 {
			t.Errorf("stats %+v", p)
		}
	}
}

func TestAPrefixIsReusedByTheNextSession(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "b", "head")
	p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	prompt := promptOf(70, 3)
	first, _ := h.reply(prompt, 8, 32, nil)
	id := newSession()
	f, payload := openFrame(id, prompt, 100)
	h.send(h.decode, f, payload)
	if r := want[*weftv1.OpenReply](t, h.in); r.Held != 64 {
		t.Errorf("%d positions held, want 64", r.Held)
	}
	h.send(h.decode, closeFrame(id), nil)
	want[*weftv1.CloseReply](t, h.in)
	if second, _ := h.reply(prompt, 8, 32, nil); !slices.Equal(first, second) {
		t.Errorf("%v after %v", second, first)
	}
	h.close()
	m.idle()
}

func TestACancelledSessionGivesEverythingBack(t *testing.T) {
	m := newMesh(t, meshOptions{weights: repeated(4)}, "a", "b", "head")
	p := planOf(repeated(4), "head", 1, []string{"a", "b"}, 2)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	id := newSession()
	prompt := promptOf(250, 1)
	f, payload := openFrame(id, prompt, 400)
	h.send(h.decode, f, payload)
	want[*weftv1.OpenReply](t, h.in)
	for at := 0; at < 250; at += 50 {
		h.send(h.prefill, runFrame(id, 0, at, prompt[at:at+50], 0), nil)
	}
	h.send(h.decode, closeFrame(id), nil)
	want[*weftv1.CloseReply](t, h.in)
	m.idle()
	// A session that is closed before its opening was answered.
	id = newSession()
	f, payload = openFrame(id, prompt, 400)
	h.send(h.decode, f, payload)
	h.send(h.decode, closeFrame(id), nil)
	want[*weftv1.OpenReply](t, h.in)
	want[*weftv1.CloseReply](t, h.in)
	m.idle()
	h.close()
}

func TestARunThatFailsHarmsItsOwnSessionOnly(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "b", "head")
	p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	good, bad := newSession(), newSession()
	for _, id := range [][]byte{good, bad} {
		f, payload := openFrame(id, promptOf(4, 1), 64)
		h.send(h.decode, f, payload)
		want[*weftv1.OpenReply](t, h.in)
	}
	h.send(h.decode, runFrame(bad, 0, 0, []uint32{1 << 31}, 1), nil)
	r := want[*weftv1.Result](t, h.in)
	if r.Error == "" || r.ErrorBy != "a" || !slices.Equal(r.Session, bad) {
		t.Errorf("result %v", r)
	}
	h.send(h.decode, runFrame(good, 0, 0, promptOf(4, 1), 1), nil)
	if r := want[*weftv1.Result](t, h.in); r.Error != "" || len(r.Drawn) != 1 || !slices.Equal(r.Session, good) {
		t.Errorf("result %v", r)
	}
	// A gap is an error of the session too; so is a run after it, in silence.
	h.send(h.decode, runFrame(good, 0, 9, promptOf(1, 1), 1), nil)
	if r := want[*weftv1.Result](t, h.in); !strings.Contains(r.Error, "continue") {
		t.Errorf("result %v", r)
	}
	for _, id := range [][]byte{good, bad} {
		h.send(h.decode, closeFrame(id), nil)
		want[*weftv1.CloseReply](t, h.in)
	}
	h.close()
	m.idle()
}

func TestARunOfTheNextEpochWaitsForItsTruncation(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "b", "head")
	p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	id := newSession()
	f, payload := openFrame(id, promptOf(4, 1), 64)
	h.send(h.decode, f, payload)
	want[*weftv1.OpenReply](t, h.in)
	h.send(h.prefill, runFrame(id, 0, 0, promptOf(4, 1), 0), nil)
	want[*weftv1.Result](t, h.pre)
	h.send(h.prefill, runFrame(id, 1, 0, promptOf(6, 2), 1), nil)
	time.Sleep(20 * time.Millisecond)
	h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: &weftv1.Truncate{Session: id, Epoch: 1, Keep: 0}}}, nil)
	r := want[*weftv1.Result](t, h.pre)
	tokens, _ := direct(t, tiny(), promptOf(6, 2), 1)
	if r.Epoch != 1 || !slices.Equal(r.Drawn, tokens) {
		t.Errorf("result %v, want %v", r, tokens)
	}
	h.send(h.decode, closeFrame(id), nil)
	want[*weftv1.CloseReply](t, h.in)
	h.close()
	m.idle()
}

func TestWhatFollowsAMismatchIsDiscardedAsStale(t *testing.T) {
	m := newMesh(t, meshOptions{weights: repeated(4)}, "a", "b", "head")
	p := planOf(repeated(4), "head", 1, []string{"a", "b"}, 2)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	prompt := promptOf(10, 3)
	tokens, _ := direct(t, repeated(4), prompt, 3)
	id := newSession()
	f, payload := openFrame(id, prompt, 64)
	f.GetOpen().Sampling = &weftv1.Sampling{WantLogprobs: true, Logprobs: 2}
	h.send(h.decode, f, payload)
	want[*weftv1.OpenReply](t, h.in)
	h.send(h.prefill, runFrame(id, 0, 0, prompt, 1), nil)
	r := want[*weftv1.Result](t, h.pre)
	if len(r.Logprobs) != 1 || r.Logprobs[0].Token != r.Drawn[0] || len(r.Logprobs[0].TopTokens) != 2 || r.Logprobs[0].TopTokens[0] != r.Drawn[0] || r.Logprobs[0].Logprob >= 0 {
		t.Errorf("logprobs %v", r.Logprobs)
	}
	// Three runs at once; the second token of the first is wrong.
	wrong := (tokens[1] + 1) % 200
	h.send(h.decode, runFrame(id, 0, 10, []uint32{tokens[0], wrong}, 2), nil)
	h.send(h.decode, runFrame(id, 0, 12, []uint32{4}, 1), nil)
	h.send(h.decode, runFrame(id, 0, 13, []uint32{4}, 1), nil)
	r = want[*weftv1.Result](t, h.in)
	if !r.EpochEnded || r.Accepted != 0 || r.Confirmed != 11 || len(r.Drawn) != 1 || r.Drawn[0] != tokens[1] {
		t.Errorf("result %v, want token %d", r, tokens[1])
	}
	for base := uint32(12); base < 14; base++ {
		if r := want[*weftv1.Result](t, h.in); !r.Stale || r.Base != base || r.Error != "" {
			t.Errorf("result %v", r)
		}
	}
	// The next epoch goes on; a straggler of the old one says nothing.
	h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Confirm{Confirm: &weftv1.Confirm{Session: id, Length: 11}}}, nil)
	h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: &weftv1.Truncate{Session: id, Epoch: 1, Keep: 11}}}, nil)
	h.send(h.decode, runFrame(id, 0, 14, []uint32{4}, 1), nil)
	h.send(h.decode, runFrame(id, 1, 11, []uint32{tokens[1]}, 1), nil)
	if r := want[*weftv1.Result](t, h.in); r.Epoch != 1 || len(r.Drawn) != 1 || r.Drawn[0] != tokens[2] {
		t.Errorf("result %v, want token %d", r, tokens[2])
	}
	// Truncating behind what is confirmed is an error of the session.
	h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: &weftv1.Truncate{Session: id, Epoch: 2, Keep: 60}}}, nil)
	if r := want[*weftv1.Result](t, h.in); !strings.Contains(r.Error, "truncation is refused") {
		t.Errorf("result %v", r)
	}
	h.send(h.decode, closeFrame(id), nil)
	for {
		if _, ok := (<-h.in.frames).(*weftv1.CloseReply); ok {
			break
		}
	}
	h.close()
	m.idle()
}
