package session_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-mesh/weft/node/session"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// stages are all stages of one plan behind a path, which is lost at a frame.
type stages struct {
	t    *testing.T
	path *session.Path
	pool pool
	held int  // positions that an opening finds, at most
	left *int // frames until the loss; below zero: there is none
	lost bool
	mute bool // the frame at which it is lost is taken and swallowed
	full int  // openings that are refused before one is taken
	// begun says that the session's first run has come.
	begun  bool
	effort *weftv1.Effort // that results tell of
}

func newStages(t *testing.T, end, held int, left *int) *stages {
	s := &stages{t: t, path: session.NewPath(), held: held, left: left, mute: *left%2 == 0}
	s.pool.end = end
	s.path.Attach(s, s)
	return s
}

func (s *stages) Busy(int)   {}
func (s *stages) Err() error { return nil }
func (s *stages) Close()     {}

var errBroke = errors.New("the chain broke")

// Send answers a frame at once, or loses the path.
func (s *stages) Send(f *weftv1.Frame, payload []byte) error {
	switch {
	case s.lost:
		return errBroke
	case *s.left == 0:
		s.lost = true
		s.path.Lost(&weftv1.Lost{Peer: "gone", Reason: "a test"})
		if s.mute {
			return nil
		}
		return errBroke
	}
	*s.left--
	s.answer(f, payload)
	return nil
}

func (s *stages) answer(f *weftv1.Frame, payload []byte) {
	switch b := f.Body.(type) {
	case *weftv1.Frame_Open:
		s.open(b.Open, payload)
	case *weftv1.Frame_Close:
		s.path.CloseReply(&weftv1.CloseReply{Session: b.Close.Session})
	case *weftv1.Frame_Confirm:
		if n := int(b.Confirm.Length); n > len(s.pool.tokens) {
			s.t.Errorf("%d positions are confirmed of %d", n, len(s.pool.tokens))
		}
		s.pool.confirmed = max(s.pool.confirmed, int(b.Confirm.Length))
	case *weftv1.Frame_Truncate:
		if err := s.pool.truncate(session.Truncation{Epoch: b.Truncate.Epoch, Keep: int(b.Truncate.Keep)}); err != nil {
			s.t.Error(err)
		}
	case *weftv1.Frame_Run:
		s.run(b.Run)
	}
}

// open takes a session in; its prompt is all that the head knows.
func (s *stages) open(o *weftv1.Open, payload []byte) {
	s.pool.tokens, s.begun = nil, false
	s.pool.ended, s.pool.pending = false, 0
	if s.full > 0 {
		s.full--
		s.path.OpenReply(&weftv1.OpenReply{Session: o.Session, Refused: "full", RefusedKind: weftv1.RefusedKind_REFUSED_BUSY})
		return
	}
	for i := range min(s.held, int(o.Prompt)) {
		s.pool.tokens = append(s.pool.tokens, int32(binary.LittleEndian.Uint32(payload[4*i:])))
	}
	s.pool.confirmed = len(s.pool.tokens)
	s.path.OpenReply(&weftv1.OpenReply{Session: o.Session, Held: uint32(len(s.pool.tokens))})
}

func (s *stages) run(r *weftv1.Run) {
	run := session.Run{Epoch: r.Epoch, Base: int(r.Base), Sample: int(r.Sample), WantHash: r.WantHash}
	for _, t := range r.Tokens {
		run.Tokens = append(run.Tokens, int32(t))
	}
	if !s.begun { // now it is known where the session resumes
		s.begun, s.pool.epoch = true, run.Epoch
		s.pool.tokens = s.pool.tokens[:min(run.Base, len(s.pool.tokens))]
	}
	res, err := s.pool.run(run)
	if err != nil {
		s.t.Error(err)
		return
	}
	out := &weftv1.Result{
		Session: r.Session, Epoch: res.Epoch, Base: uint32(res.Base), Count: uint32(res.Count), Accepted: uint32(res.Accepted), Stale: res.Stale, Effort: s.effort,
	}
	for i, d := range res.Drawn {
		out.Drawn = append(out.Drawn, uint32(d))
		out.StateHashes = append(out.StateHashes, stateHash(run.Base+len(run.Tokens)-run.Sample+i)...)
		out.Logprobs = append(out.Logprobs, &weftv1.Logprob{Logprob: float32(run.Base + len(run.Tokens) - run.Sample + i)})
	}
	s.path.Result(out)
}

// stateHash stands for the hash of the state at a position.
func stateHash(at int) []byte { return binary.LittleEndian.AppendUint64(make([]byte, 24), uint64(at)) }

// TestALossAtAnyFrameChangesNothingOfAReply drives replies that lose their path
// at every frame in turn, once and again at every third frame after that.
func TestALossAtAnyFrameChangesNothingOfAReply(t *testing.T) {
	prompt := []int32{7, 9, 4, 30, 12, 8, 8, 21, 5, 3, 17}
	for _, c := range []struct {
		name             string
		max, end, drafts int
		again            int // frames until each further loss; below zero: there is none
		stopAt           int // tokens after which the caller ends the reply
	}{
		{"length", 9, 0, 0, -1, 0},
		{"end of generation", 40, len(prompt) + 7, 0, -1, 0},
		{"drafts", 14, 0, 3, -1, 0},
		{"lost again", 9, 0, 0, 3, 0},
		{"drafts lost again", 14, 0, 3, 4, 0},
		{"stopped", 20, 0, 3, -1, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := plain(prompt, c.max, 64, c.end)
			if c.stopAt > 0 {
				want = want[:c.stopAt]
			}
			synctest.Test(t, func(t *testing.T) { // replies that are refused try again in a while
				for at := 0; ; at++ {
					if at > 200 {
						t.Fatal("the reply never ends without a loss")
					}
					if lossAt(t, prompt, want, at, c.max, c.end, c.drafts, c.again, c.stopAt) == 0 {
						break
					}
				}
			})
		})
	}
}

// lossAt drives one reply and returns how often it went on.
func lossAt(t *testing.T, prompt, want []int32, at, most, end, drafts, again, stopAt int) int {
	t.Helper()
	left := at
	first := newStages(t, end, 0, &left)
	var got []int32
	var probs []float32
	losses := 0
	spec := session.Spec{
		Params:   session.Params{Prompt: prompt, MaxTokens: most, Context: 64, Chunk: 3, Credit: 9, EOG: func(id int32) bool { return id == eog }, WantHash: true},
		Sampling: &weftv1.Sampling{}, Positions: 64, QueueWait: time.Minute,
		Tokens: func(list []session.Token) (bool, error) {
			for _, tok := range list {
				got, probs = append(got, tok.ID), append(probs, tok.Logprob)
			}
			return len(got) == stopAt, nil
		},
		Failover: func(_ context.Context, cause error) (*session.Path, error) {
			var lost *session.LostError
			if !errors.As(cause, &lost) || lost.Peer != "gone" {
				t.Errorf("loss at %d: the cause is %v", at, cause)
			}
			losses++
			left = again
			if losses > 4 {
				left = -1
			}
			next := newStages(t, end, losses, &left)
			next.full = at % 2
			return next.path, nil
		},
	}
	if drafts > 0 {
		spec.Drafter = &session.Drafts{Runs: 1 + drafts%3, Give: func(tokens []int32, room int) []int32 {
			seq := slices.Clone(tokens)
			for range min(room, drafts) {
				seq = append(seq, draw(seq, end))
			}
			out := seq[len(tokens):]
			if n := len(out); n > 1 && len(tokens)%2 == 0 {
				out[n-1] = out[n-1]%40 + 2
			}
			return out
		}}
	}
	out, err := session.Drive(t.Context(), first.path, spec)
	if err != nil {
		t.Fatalf("loss at frame %d: %v", at, err)
	}
	if !slices.Equal(out.Tokens, want) || !slices.Equal(got, want) || out.Failovers != losses {
		t.Fatalf("loss at frame %d: %v, streamed %v, want %v; %d failovers, %d losses", at, out.Tokens, got, want, out.Failovers, losses)
	}
	for i, p := range probs {
		if p != float32(len(prompt)-1+i) {
			t.Fatalf("loss at frame %d: token %d has the log-probability of another (%v)", at, i, p)
		}
	}
	if last := stateHash(len(prompt) + len(want) - 2); !slices.Equal(out.Hash, last) {
		t.Fatalf("loss at frame %d: hash %x of %d tokens, %x was expected", at, out.Hash, len(want), last)
	}
	if first.path.Replies() != 0 {
		t.Fatalf("loss at frame %d: the reply is still on its first path", at)
	}
	return losses
}

func TestAReplyIsGivenUpWhenPlanAfterPlanIsLost(t *testing.T) {
	left, asked := 0, 0
	spec := aReply(4)
	spec.Failover = func(context.Context, error) (*session.Path, error) {
		asked++
		return newStages(t, 0, 0, &left).path, nil
	}
	out, err := session.Drive(t.Context(), newStages(t, 0, 0, &left).path, spec)
	var lost *session.LostError
	if !errors.As(err, &lost) || out.Finish != session.FinishFailed || asked != 5 {
		t.Fatalf("%v after %d plans: %+v", err, asked, out)
	}
}

func TestTheReplyEndsWithWhatFailoverSays(t *testing.T) {
	for _, c := range []struct {
		name string
		give func(cancel func(), cause error) error
		want session.Finish
	}{
		{"no other plan", func(_ func(), cause error) error { return fmt.Errorf("no plan without it: %w", cause) }, session.FinishFailed},
		{"the caller has gone", func(cancel func(), _ error) error { cancel(); return context.Canceled }, session.FinishCancelled},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		left := 3
		spec := aReply(20)
		var got int
		spec.Tokens = func(list []session.Token) (bool, error) { got += len(list); return false, nil }
		spec.Failover = func(_ context.Context, cause error) (*session.Path, error) { return nil, c.give(cancel, cause) }
		out, err := session.Drive(ctx, newStages(t, 0, 0, &left).path, spec)
		cancel()
		if out.Finish != c.want || (err != nil) != (c.want == session.FinishFailed) || len(out.Tokens) != 2 || got != 2 {
			t.Errorf("%s: %v, %q with %d tokens, %d streamed", c.name, err, out.Finish, len(out.Tokens), got)
		}
	}
}
