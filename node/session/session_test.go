package session_test

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/node/session"
)

// next is the simulated model: the token that follows a sequence.
func next(tokens []int32) int32 {
	h := fnv.New32a()
	for _, t := range tokens {
		fmt.Fprintf(h, "%d,", t)
	}
	return int32(h.Sum32()%40) + 2 // 1 is the end token, which draw gives
}

const eog = 1

// draw is next with an end token now and then, once the sequence is long.
func draw(tokens []int32, end int) int32 {
	if end > 0 && len(tokens) >= end {
		return eog
	}
	return next(tokens)
}

// pool simulates all stages of a plan in order: what it refuses, real stages refuse.
type pool struct {
	tokens    []int32
	confirmed int
	epoch     uint32
	ended     bool  // the epoch met a mismatch
	pending   int32 // drawn for the next position; 0: nothing
	end       int
	queue     []any
}

func (p *pool) truncate(tr session.Truncation) error {
	if tr.Epoch <= p.epoch {
		return fmt.Errorf("truncate to epoch %d in epoch %d", tr.Epoch, p.epoch)
	}
	if tr.Keep > p.confirmed || tr.Keep > len(p.tokens) {
		return fmt.Errorf("truncate keeps %d of %d confirmed, %d valid", tr.Keep, p.confirmed, len(p.tokens))
	}
	p.epoch, p.ended, p.pending = tr.Epoch, false, 0
	p.tokens = p.tokens[:tr.Keep]
	return nil
}

func (p *pool) run(r session.Run) (session.Result, error) {
	if r.Epoch != p.epoch {
		return session.Result{}, fmt.Errorf("run of epoch %d in %d", r.Epoch, p.epoch)
	}
	res := session.Result{Epoch: r.Epoch, Base: r.Base, Count: len(r.Tokens)}
	if p.ended || p.pending != 0 && r.Tokens[0] != p.pending {
		p.ended, res.Stale = true, true
		return res, nil
	}
	if r.Base != len(p.tokens) {
		return session.Result{}, fmt.Errorf("run at %d, valid %d", r.Base, len(p.tokens))
	}
	first := len(r.Tokens) - r.Sample
	for i, t := range r.Tokens {
		p.tokens = append(p.tokens, t)
		if i < first {
			continue
		}
		d := draw(p.tokens, p.end)
		res.Drawn = append(res.Drawn, d)
		p.pending = d
		if i == len(r.Tokens)-1 {
			break
		}
		if r.Tokens[i+1] != d {
			p.ended = true
			break
		}
		res.Accepted++
	}
	return res, nil
}

// plain is what the reply must be.
func plain(prompt []int32, maxTokens, context, end int) []int32 {
	seq := slices.Clone(prompt)
	for len(seq)-len(prompt) < maxTokens && len(seq) < context {
		t := draw(seq, end)
		seq = append(seq, t)
		if t == eog {
			break
		}
	}
	return seq[len(prompt):]
}

type scenario struct {
	prompt                           []int32
	max, context, end, chunk, credit int
	held                             int
	draftGood, draftLen, reopens     int
	runs                             int // in flight
}

// play runs a session against the pool; order and timing are drawn from t.
func play(t *rapid.T, sc scenario) (*session.Session, session.Finish) {
	s, err := session.New(session.Params{
		Prompt: sc.prompt, MaxTokens: sc.max, Context: sc.context, Chunk: sc.chunk,
		Credit: sc.credit, EOG: func(id int32) bool { return id == eog }, WantHash: true,
		Drafter: &drafter{t: t, sc: sc},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &pool{end: sc.end}
	open := func(held int) {
		p.tokens = slices.Clone(s.Tokens()[:min(held, len(s.Tokens())-1)])
		p.confirmed = len(p.tokens)
		s.Opened(held)
	}
	open(sc.held)
	var got []int32
	for step := 0; step < 20000; step++ {
		rd := s.Ready()
		if rd.Confirm > 0 {
			p.queue = append(p.queue, rd.Confirm)
		}
		if rd.Truncate != nil {
			p.queue = append(p.queue, *rd.Truncate)
		}
		for _, r := range rd.Runs {
			r.Tokens = slices.Clone(r.Tokens)
			p.queue = append(p.queue, r)
		}
		got = append(got, rd.Committed...)
		if s.InFlight() > max(sc.credit, 1) {
			t.Fatalf("%d positions in flight over a credit of %d", s.InFlight(), sc.credit)
		}
		if rd.Done != session.FinishNone {
			if !slices.Equal(got, s.Generated()) {
				t.Fatalf("committed %v, generated %v", got, s.Generated())
			}
			return s, rd.Done
		}
		if sc.reopens > 0 && rapid.IntRange(0, 9).Draw(t, "lose") == 0 {
			sc.reopens--
			s.Reopen()
			*p = pool{end: sc.end, epoch: s.Epoch()}
			open(rapid.IntRange(0, len(s.Tokens())).Draw(t, "held again"))
			continue
		}
		deliver(t, s, p)
	}
	t.Fatal("the session does not end")
	return nil, ""
}

// drafter drafts tokens some of which are right, and checks what it is told.
type drafter struct {
	t      *rapid.T
	sc     scenario
	tokens []int32 // committed
}

func (d *drafter) Begin(tokens []int32) { d.tokens = slices.Clone(tokens) }

func (d *drafter) Draft(ahead []int32, runs, room int) []int32 {
	if runs >= d.sc.runs {
		return nil
	}
	seq := append(slices.Clone(d.tokens), ahead...)
	from := len(seq)
	for range rapid.IntRange(0, d.sc.draftLen).Draw(d.t, "draft length") {
		next := draw(seq, d.sc.end)
		if rapid.IntRange(0, 9).Draw(d.t, "good") >= d.sc.draftGood {
			next = next%40 + 2
		}
		seq = append(seq, next)
	}
	return seq[from:]
}

func (d *drafter) Wake() <-chan struct{}        { return nil }
func (d *drafter) Commit(tokens, ahead []int32) { d.tokens = append(d.tokens, tokens...) }
func (d *drafter) Sent(int)                     {}
func (d *drafter) Drop()                        {}

// deliver lets the pool work off what it was sent and answers in order.
func deliver(t *rapid.T, s *session.Session, p *pool) {
	n := rapid.IntRange(0, len(p.queue)).Draw(t, "worked off")
	if n == 0 {
		n = min(1, len(p.queue))
	}
	for _, e := range p.queue[:n] {
		switch e := e.(type) {
		case int:
			p.confirmed = max(p.confirmed, e)
		case session.Truncation:
			if err := p.truncate(e); err != nil {
				t.Fatal(err)
			}
		case session.Run:
			res, err := p.run(e)
			if err != nil {
				t.Fatal(err)
			}
			s.Result(res)
		}
	}
	p.queue = append([]any(nil), p.queue[n:]...)
}

func TestReplyIsThatOfPlainDecodingWhateverChunksDraftsAndLosses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := scenario{
			prompt:    rapid.SliceOfN(rapid.Int32Range(2, 41), 1, 60).Draw(t, "prompt"),
			max:       rapid.IntRange(1, 40).Draw(t, "max"),
			chunk:     rapid.IntRange(1, 30).Draw(t, "chunk"),
			credit:    rapid.IntRange(1, 40).Draw(t, "credit"),
			held:      rapid.IntRange(0, 80).Draw(t, "held"),
			draftLen:  rapid.IntRange(0, 6).Draw(t, "draft"),
			draftGood: rapid.IntRange(0, 10).Draw(t, "goodness"),
			reopens:   rapid.IntRange(0, 3).Draw(t, "losses"),
			runs:      rapid.IntRange(1, 6).Draw(t, "runs in flight"),
		}
		sc.context = len(sc.prompt) + rapid.IntRange(1, 50).Draw(t, "context")
		sc.end = rapid.SampledFrom([]int{0, len(sc.prompt) + 5, len(sc.prompt) + 20}).Draw(t, "end")
		s, fin := play(t, sc)
		want := plain(sc.prompt, sc.max, sc.context, sc.end)
		if diff := cmp.Diff(want, s.Generated()); diff != "" {
			t.Fatalf("tokens differ from plain decoding (-plain +session):\n%s", diff)
		}
		if fin == session.FinishFailed || fin == session.FinishCancelled {
			t.Fatalf("finish %q: %v", fin, s.Err())
		}
	})
}

func TestFinishSaysWhy(t *testing.T) {
	for _, tc := range []struct {
		name              string
		max, context, end int
		want              session.Finish
	}{
		{"end of generation", 50, 100, 8, session.FinishStop},
		{"max tokens", 5, 100, 0, session.FinishLength},
		{"context full", 50, 9, 0, session.FinishContext},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				_, fin := play(t, scenario{prompt: []int32{5, 6, 7}, max: tc.max, context: tc.context, end: tc.end, chunk: 2, credit: 8})
				if fin != tc.want {
					t.Fatalf("finish %q, want %q", fin, tc.want)
				}
			})
		})
	}
}

func TestNewRefusesWhatCannotBeAnswered(t *testing.T) {
	for name, p := range map[string]session.Params{
		"empty prompt": {MaxTokens: 1, Context: 10},
		"no tokens":    {Prompt: []int32{1}, Context: 10},
		"full context": {Prompt: []int32{1, 2, 3}, MaxTokens: 1, Context: 3},
	} {
		if _, err := session.New(p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func started(t *testing.T) *session.Session {
	t.Helper()
	s, err := session.New(session.Params{Prompt: []int32{2, 3, 4}, MaxTokens: 10, Context: 100})
	if err != nil {
		t.Fatal(err)
	}
	s.Opened(0)
	return s
}

func TestAResultThatFitsNoRunFailsTheReply(t *testing.T) {
	for name, r := range map[string]session.Result{
		"wrong base":        {Base: 1, Count: 3, Drawn: []int32{1}},
		"wrong count":       {Base: 0, Count: 2, Drawn: []int32{1}},
		"nothing drawn":     {Base: 0, Count: 3},
		"too much drawn":    {Base: 0, Count: 3, Drawn: []int32{1, 2}, Accepted: 1},
		"future epoch":      {Epoch: 4, Base: 0, Count: 3, Drawn: []int32{1}},
		"stale in its time": {Base: 0, Count: 3, Stale: true},
		"accepted mismatch": {Base: 0, Count: 3, Drawn: []int32{1}, Accepted: 1},
	} {
		s := started(t)
		s.Ready()
		s.Result(r)
		if rd := s.Ready(); rd.Done != session.FinishFailed || !errors.Is(s.Err(), session.ErrProtocol) {
			t.Errorf("%s: done %q, err %v", name, rd.Done, s.Err())
		}
	}
}

func TestCancelWaitsForRunsInFlight(t *testing.T) {
	s := started(t)
	if n := len(s.Ready().Runs); n != 1 {
		t.Fatalf("%d runs", n)
	}
	s.Cancel()
	if rd := s.Ready(); rd.Done != session.FinishNone || len(rd.Runs) > 0 {
		t.Fatalf("ended with a run in flight: %+v", rd)
	}
	s.Result(session.Result{Base: 0, Count: 3, Drawn: []int32{9}})
	rd := s.Ready()
	if rd.Done != session.FinishCancelled || len(s.Generated()) != 0 {
		t.Fatalf("done %q with %v", rd.Done, s.Generated())
	}
	if rd := s.Ready(); rd.Done != session.FinishNone {
		t.Fatal("done twice")
	}
}

func TestARunsErrorEndsTheReplyWithIt(t *testing.T) {
	s := started(t)
	s.Ready()
	cause := errors.New("layer 3: value is not finite")
	s.Result(session.Result{Base: 0, Count: 3, Err: cause})
	if rd := s.Ready(); rd.Done != session.FinishFailed || !errors.Is(s.Err(), cause) {
		t.Fatalf("done %q, err %v", rd.Done, s.Err())
	}
}

func TestPrefillKeepsSeveralRunsInFlight(t *testing.T) {
	prompt := make([]int32, 100)
	s, _ := session.New(session.Params{Prompt: prompt, MaxTokens: 1, Context: 200, Chunk: 10, Credit: 40})
	s.Opened(0)
	rd := s.Ready()
	if len(rd.Runs) != 4 {
		t.Fatalf("%d runs in flight, want 4", len(rd.Runs))
	}
	for i, r := range rd.Runs {
		if !r.Prefill || r.Sample != 0 || r.Base != 10*i {
			t.Fatalf("run %d: %+v", i, r)
		}
	}
	s.Result(session.Result{Base: 0, Count: 10})
	rd = s.Ready()
	if len(rd.Runs) != 1 || s.Prefilled() != 10 {
		t.Fatalf("after an answer: %d runs, %d prefilled", len(rd.Runs), s.Prefilled())
	}
}
