package session_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/node/session"
)

// station is one stage of a simulated pipeline. It holds to design section 6 as
// shard.Stage and node/worker do, and refuses what they refuse.
type station struct {
	inbox     []any // frames that are on their way here, in order
	queue     []session.Run
	step      *session.Run // under way
	tokens    []int32      // of the valid positions
	confirmed int
	epoch     uint32
	ended     bool  // the last stage: the epoch met a mismatch
	pending   int32 // the last stage: drawn for the next position; 0: nothing
}

// pipeline is a plan's stages with the links between them. Any of them may move
// at any time: each order of events is one that delays could bring about.
type pipeline struct {
	t        *rapid.T
	stations []*station
	results  []session.Result // on their way to the head
	last     session.Result   // the one delivered last
	end      int
}

func newPipeline(t *rapid.T, stages, end int, epoch uint32, known []int32) *pipeline {
	p := &pipeline{t: t, end: end}
	for range stages {
		p.stations = append(p.stations, &station{epoch: epoch, tokens: slices.Clone(known), confirmed: len(known)})
	}
	return p
}

// receive takes the next frame at a stage.
func (p *pipeline) receive(i int) {
	s := p.stations[i]
	frame := s.inbox[0]
	s.inbox = s.inbox[1:]
	switch f := frame.(type) {
	case int: // Confirm
		if f > len(s.tokens) && i < len(p.stations)-1 {
			p.t.Fatalf("stage %d: %d positions confirmed, %d valid", i, f, len(s.tokens))
		}
		s.confirmed = max(s.confirmed, f)
		p.pass(i, f)
	case session.Truncation:
		keep := s.confirmed
		if i == len(p.stations)-1 {
			keep = len(s.tokens) // it confirms itself
		}
		if f.Epoch <= s.epoch || f.Keep > keep || f.Keep > len(s.tokens) {
			p.t.Fatalf("stage %d: truncation to %d in epoch %d; %d confirmed, %d valid in %d", i, f.Keep, f.Epoch, s.confirmed, len(s.tokens), s.epoch)
		}
		s.queue = slices.DeleteFunc(s.queue, func(r session.Run) bool { return r.Epoch < f.Epoch })
		s.epoch, s.ended, s.pending, s.tokens = f.Epoch, false, 0, s.tokens[:f.Keep]
		p.pass(i, f)
	case session.Run:
		if f.Epoch > s.epoch {
			p.t.Fatalf("stage %d: run of epoch %d in %d", i, f.Epoch, s.epoch)
		}
		if f.Epoch == s.epoch {
			s.queue = append(s.queue, f)
		}
	}
}

func (p *pipeline) pass(i int, frame any) {
	if i+1 < len(p.stations) {
		p.stations[i+1].inbox = append(p.stations[i+1].inbox, frame)
	}
}

// begin starts a stage's next step.
func (p *pipeline) begin(i int) {
	s := p.stations[i]
	r := s.queue[0]
	s.queue = s.queue[1:]
	last := i == len(p.stations)-1
	if last && (s.ended || s.pending != 0 && r.Tokens[0] != s.pending) {
		s.ended = true // a mismatch with what was drawn behind the run before: nothing is computed
		p.results = append(p.results, session.Result{Epoch: r.Epoch, Base: r.Base, Count: len(r.Tokens), Stale: true})
		return
	}
	if r.Base != len(s.tokens) {
		p.t.Fatalf("stage %d: run at %d, %d valid", i, r.Base, len(s.tokens))
	}
	s.step = &r
}

// finish ends a stage's step: what is of an old epoch by now leaves no trace.
func (p *pipeline) finish(i int) {
	s := p.stations[i]
	r := *s.step
	s.step = nil
	if r.Epoch < s.epoch {
		return
	}
	if i < len(p.stations)-1 {
		s.tokens = append(s.tokens, r.Tokens...)
		p.pass(i, r)
		return
	}
	p.results = append(p.results, p.draw(s, r))
}

func (p *pipeline) draw(s *station, r session.Run) session.Result {
	res := session.Result{Epoch: r.Epoch, Base: r.Base, Count: len(r.Tokens)}
	first := len(r.Tokens) - r.Sample
	for i, t := range r.Tokens {
		s.tokens = append(s.tokens, t)
		if i < first {
			continue
		}
		d := draw(s.tokens, p.end)
		res.Drawn = append(res.Drawn, d)
		s.pending = d
		if i == len(r.Tokens)-1 {
			break
		}
		if r.Tokens[i+1] != d {
			s.ended = true
			break
		}
		res.Accepted++
	}
	return res
}

// move lets something happen somewhere: false when nothing can.
func (p *pipeline) move(s *session.Session) bool {
	var can []func()
	for i, st := range p.stations {
		if len(st.inbox) > 0 {
			can = append(can, func() { p.receive(i) })
		}
		if st.step == nil && len(st.queue) > 0 {
			can = append(can, func() { p.begin(i) })
		}
		if st.step != nil {
			can = append(can, func() { p.finish(i) })
		}
	}
	if len(p.results) > 0 {
		can = append(can, func() {
			p.last, p.results = p.results[0], p.results[1:]
			s.Result(p.last)
			if rapid.IntRange(0, 19).Draw(p.t, "once more") == 0 {
				s.Result(p.last)
			}
		})
	}
	if len(can) == 0 {
		return false
	}
	can[rapid.IntRange(0, len(can)-1).Draw(p.t, "next")]()
	return true
}

// send hands on what the session asks for.
func (p *pipeline) send(rd session.Ready) {
	first := p.stations[0]
	if rd.Confirm > 0 {
		first.inbox = append(first.inbox, rd.Confirm)
	}
	if rd.Truncate != nil {
		first.inbox = append(first.inbox, *rd.Truncate)
	}
	for _, r := range rd.Runs {
		r.Tokens = slices.Clone(r.Tokens)
		first.inbox = append(first.inbox, r)
	}
}

// check holds the session's invariants against the stages.
func (p *pipeline) check(s *session.Session, credit int) error {
	if n := s.InFlight(); n > credit {
		return fmt.Errorf("%d positions in flight over a credit of %d", n, credit)
	}
	// Prefixes that every stage takes for valid in the session's epoch are of
	// the reply, as far as it is known.
	known := append(slices.Clone(s.Tokens()), s.Ahead()...)
	for i, st := range p.stations {
		if st.epoch != s.Epoch() {
			continue
		}
		n := min(len(st.tokens), len(known))
		if !slices.Equal(st.tokens[:n], known[:n]) {
			return fmt.Errorf("stage %d holds %v as valid, the reply is %v", i, st.tokens, known)
		}
	}
	return nil
}

// TestRunsAheadOfTheAnswersGiveTheReplyOfPlainDecoding plays replies over
// pipelines of several stages in every order of events, with drafts that are
// wrong now and then, results that come twice, cancellations, and the loss of all
// that the stages hold.
func TestRunsAheadOfTheAnswersGiveTheReplyOfPlainDecoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := scenario{
			prompt:    rapid.SliceOfN(rapid.Int32Range(2, 41), 1, 12).Draw(t, "prompt"),
			max:       rapid.IntRange(1, 30).Draw(t, "max"),
			chunk:     rapid.IntRange(1, 8).Draw(t, "chunk"),
			credit:    rapid.IntRange(1, 40).Draw(t, "credit"),
			draftLen:  rapid.IntRange(0, 5).Draw(t, "draft"),
			draftGood: rapid.IntRange(0, 10).Draw(t, "goodness"),
			runs:      rapid.IntRange(1, 8).Draw(t, "runs in flight"),
			reopens:   rapid.IntRange(0, 2).Draw(t, "losses"),
		}
		sc.context = len(sc.prompt) + rapid.IntRange(1, 40).Draw(t, "context")
		sc.end = rapid.SampledFrom([]int{0, len(sc.prompt) + 4, len(sc.prompt) + 15}).Draw(t, "end")
		stages := rapid.IntRange(1, 4).Draw(t, "stages")
		cancel := rapid.IntRange(-300, 300).Draw(t, "cancelled after")
		s, err := session.New(session.Params{
			Prompt: sc.prompt, MaxTokens: sc.max, Context: sc.context, Chunk: sc.chunk, Credit: sc.credit,
			EOG: func(id int32) bool { return id == eog }, Drafter: &drafter{t: t, sc: sc},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Opened(0)
		p := newPipeline(t, stages, sc.end, 0, nil)
		var got []int32
		for step := 0; ; step++ {
			if step > 50000 {
				t.Fatal("the session does not end")
			}
			rd := s.Ready()
			got = append(got, rd.Committed...)
			if rd.Done != session.FinishNone {
				break
			}
			p.send(rd)
			if err := p.check(s, max(sc.credit, 1)); err != nil {
				t.Fatal(err)
			}
			if step == cancel {
				s.Cancel()
			}
			if sc.reopens > 0 && rapid.IntRange(0, 40).Draw(t, "lose") == 0 {
				sc.reopens--
				s.Reopen()
				held := rapid.IntRange(0, len(s.Tokens())-1).Draw(t, "held")
				p = newPipeline(t, stages, sc.end, s.Epoch(), s.Tokens()[:held])
				s.Opened(held)
				continue
			}
			if !p.move(s) && len(rd.Runs) == 0 && s.Runs() > 0 {
				t.Fatalf("%d runs in flight and nothing moves", s.Runs())
			}
		}
		want := plain(sc.prompt, sc.max, sc.context, sc.end)
		if cancel >= 0 && len(got) < len(want) {
			want = want[:len(got)]
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(slices.Equal[[]int32])); diff != "" {
			t.Fatalf("tokens differ from plain decoding (-plain +session):\n%s", diff)
		}
		if s.Err() != nil {
			t.Fatal(s.Err())
		}
	})
}

// TestTheLastStageDropsWhatFollowsAMismatchWithinAStep fills a pipeline with runs
// behind a wrong draft and counts the steps that stages still make for them.
func TestTheLastStageDropsWhatFollowsAMismatchWithinAStep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wrong := &session.Drafts{Runs: 8, Give: func(tokens []int32, room int) []int32 { return []int32{next(tokens)%40 + 2 + 1} }}
		s, err := session.New(session.Params{Prompt: []int32{5, 6, 7}, MaxTokens: 30, Context: 100, Drafter: wrong})
		if err != nil {
			t.Fatal(err)
		}
		s.Opened(0)
		p := newPipeline(t, 3, 0, 0, nil)
		for {
			rd := s.Ready()
			if rd.Done != session.FinishNone {
				break
			}
			p.send(rd)
			// The last stage, once it has met the mismatch, computes nothing of
			// that epoch; an earlier one nothing but the step it is in once it
			// has seen the new epoch.
			for i, st := range p.stations {
				if st.step != nil && st.step.Epoch < st.epoch && i == len(p.stations)-1 && st.ended {
					t.Fatal("the last stage steps on behind a mismatch")
				}
				for _, r := range st.queue {
					if r.Epoch < st.epoch {
						t.Fatalf("stage %d still has a run of epoch %d in %d", i, r.Epoch, st.epoch)
					}
				}
			}
			if !p.move(s) {
				t.Fatal("nothing moves")
			}
		}
		if want := plain([]int32{5, 6, 7}, 30, 100, 0); !slices.Equal(s.Generated(), want) {
			t.Fatalf("%v, want %v", s.Generated(), want)
		}
	})
}
