package draft_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-mesh/weft/node/draft"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/kv"
	"github.com/weft-mesh/weft/shard/sample"
)

const (
	vocabulary = 50
	stepTime   = 5 * time.Millisecond
)

// next is what the model of the tests says: it depends on the last three tokens.
func next(tokens []int32) int32 {
	h := uint32(7)
	for _, t := range tokens[max(0, len(tokens)-3):] {
		h = h*31 + uint32(t)
	}
	return int32(h % vocabulary)
}

// stage is a model of a few lines that refuses what a real stage refuses.
type stage struct {
	t     *testing.T
	room  int // sessions
	open  map[shard.SessionID]*seq
	rows  []int // of each step
	fails int   // steps until the device is lost; 0: it is not
	ended bool
}

type seq struct {
	epoch   uint64
	tokens  []int32
	pending int32
	limit   int
	started bool
}

func (s *stage) Open(o shard.SessionSpec) (int, error) {
	if len(s.open) >= s.room {
		return 0, kv.ErrNoRoom
	}
	held := 0
	if n := len(o.Prompt); n > 0 {
		held = (n - 1) / kv.BlockPositions * kv.BlockPositions
	}
	s.open[o.ID] = &seq{tokens: slices.Clone(o.Prompt[:held]), pending: -1, limit: o.Positions}
	return held, nil
}

func (s *stage) Start(id shard.SessionID, epoch uint64, base int) error {
	q := s.open[id]
	if base > len(q.tokens) {
		return shard.ErrGap
	}
	q.started, q.epoch, q.tokens = true, epoch, q.tokens[:base]
	return nil
}

func (s *stage) Truncate(id shard.SessionID, epoch uint64, keep int) error {
	q := s.open[id]
	if epoch <= q.epoch || keep > len(q.tokens) {
		return fmt.Errorf("truncation to %d of %d in epoch %d after %d", keep, len(q.tokens), epoch, q.epoch)
	}
	q.epoch, q.tokens, q.pending = epoch, q.tokens[:keep], -1
	return nil
}

func (s *stage) CloseSession(id shard.SessionID) { delete(s.open, id) }

func (s *stage) Close() error { s.ended = true; return nil }

func (s *stage) Step(runs []shard.Run) ([]shard.Result, error) {
	time.Sleep(stepTime)
	if s.fails > 0 {
		if s.fails--; s.fails == 0 {
			return nil, errors.New("the device is gone")
		}
	}
	rows := 0
	var out []shard.Result
	for _, r := range runs {
		q := s.open[r.Session]
		res := shard.Result{Session: r.Session, Epoch: r.Epoch, Base: r.Base, N: len(r.Tokens), Accepted: len(r.Tokens)}
		switch {
		case q == nil || !q.started || r.Epoch != q.epoch || r.Base != len(q.tokens) || q.pending >= 0 && q.pending != r.Tokens[0]:
			s.t.Errorf("run at %d in epoch %d fits no session: %+v", r.Base, r.Epoch, q)
			res.Err = shard.ErrGap
		case len(q.tokens)+len(r.Tokens) > q.limit:
			res.Err = shard.ErrContextFull
		default:
			q.tokens = append(q.tokens, r.Tokens...)
			q.pending = -1
			if r.Sample == shard.SampleLast {
				q.pending = next(q.tokens)
				res.Tokens = []sample.Token{{ID: q.pending}}
			}
		}
		rows += len(r.Tokens)
		out = append(out, res)
	}
	s.rows = append(s.rows, rows)
	return out, nil
}

func newEngine(t *testing.T, s *stage) *draft.Engine {
	s.t, s.open = t, map[shard.SessionID]*seq{}
	if s.room == 0 {
		s.room = 100
	}
	return draft.New(draft.Options{Stage: s, Device: &sync.Mutex{}, Vocab: vocabulary, Context: 4096, MaxRows: 256})
}

// greedy is what follows in the model's own words.
func greedy(tokens []int32, n int) []int32 {
	all := slices.Clone(tokens)
	for range n {
		all = append(all, next(all))
	}
	return all[len(tokens):]
}

func prompt(n int, seed uint64) []int32 {
	rng := rand.New(rand.NewPCG(seed, 0))
	out := make([]int32, n)
	for i := range out {
		out[i] = rng.Int32N(vocabulary)
	}
	return out
}

// read waits until the model has read all of a source's sequence.
func read(s *draft.Source) bool {
	for range 1000 {
		if s.Cost() >= 0 {
			return true
		}
		time.Sleep(stepTime)
	}
	return false
}

func TestDraftsAreWhatTheModelSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &stage{}
		e := newEngine(t, st)
		var wg sync.WaitGroup
		for k := range 6 {
			wg.Go(func() {
				s := e.Open(4096, nil, k%2 == 0)
				defer s.Close()
				rng := rand.New(rand.NewPCG(uint64(k), 1))
				seq := prompt(1+rng.IntN(90), uint64(k))
				s.Begin(seq)
				for range 60 {
					if !read(s) {
						t.Errorf("reply %d: the model never gets ready", k)
						return
					}
					// Ahead is what the model said, something else, or both.
					ahead := greedy(seq, rng.IntN(4))
					for range rng.IntN(3) {
						ahead = append(ahead, rng.Int32N(vocabulary))
					}
					n := 1 + rng.IntN(5)
					if rng.IntN(3) > 0 {
						s.Await(ahead, n)
						want := greedy(append(slices.Clone(seq), ahead...), n)
						if d := s.Draft(ahead, n); !slices.Equal(d.Tokens, want) {
							t.Errorf("reply %d: %v was drafted behind %v, the model says %v", k, d.Tokens, ahead, want)
							return
						}
					} else {
						s.Aim(ahead, n)
						time.Sleep(time.Duration(rng.IntN(12)) * time.Millisecond)
						want := greedy(append(slices.Clone(seq), ahead...), n)
						if d := s.Draft(ahead, n); !slices.Equal(d.Tokens, want[:len(d.Tokens)]) {
							t.Errorf("reply %d: %v was drafted behind %v, the model says %v", k, d.Tokens, ahead, want)
							return
						}
					}
					got := greedy(seq, rng.IntN(6)) // what the target says: often the same
					got = append(got, rng.Int32N(vocabulary))
					s.Accept(got)
					seq = append(seq, got...)
				}
			})
		}
		wg.Wait()
		if err := e.Close(); err != nil || !st.ended {
			t.Errorf("close: %v", err)
		}
		if slices.Max(st.rows) < 4 || len(st.rows) > 6*60*20 {
			t.Errorf("steps of %v rows: replies are not drafted for together", st.rows)
		}
	})
}

func TestDraftingGoesOnWhileNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, &stage{})
		defer e.Close()
		s := e.Open(4096, nil, true)
		defer s.Close()
		seq := prompt(40, 1)
		s.Begin(seq)
		read(s)
		<-s.Wake() // what is drafted at the beginning
		s.Aim(nil, 6)
		if d := s.Draft(nil, 6); len(d.Tokens) == 6 {
			t.Error("six tokens were drafted in no time")
		}
		begin := time.Now()
		<-s.Wake()
		if took := time.Since(begin); took > 7*stepTime {
			t.Errorf("woken after %v", took)
		}
		s.Accept(greedy(seq, 2))
		if d := s.Draft(nil, 9); !slices.Equal(d.Tokens, greedy(append(slices.Clone(seq), greedy(seq, 2)...), 4)) {
			t.Errorf("%v is left of six drafted tokens after two were accepted", d.Tokens)
		}
		if c := s.Cost(); c != stepTime {
			t.Errorf("a token costs %v, a step takes %v", c, stepTime)
		}
	})
}

func TestWhatIsNotUsedReadsAlongOnlyForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &stage{}
		e := newEngine(t, st)
		defer e.Close()
		s := e.Open(4096, nil, true)
		defer s.Close()
		s.Begin(prompt(40, 1))
		read(s)
		time.Sleep(time.Second)
		synctest.Wait()
		before := len(st.rows)
		for i := range 400 {
			s.Accept([]int32{int32(i) % 7})
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		if n := len(st.rows) - before; n > 12 {
			t.Errorf("%d steps for a reply that never asks", n)
		}
		if s.Cost() >= 0 {
			t.Error("the source says that it can draft and has read nothing for long")
		}
	})
}

func TestASourceThatCannotDraftSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &stage{room: 1}
		e := newEngine(t, st)
		a, b, c := e.Open(30, nil, true), e.Open(4096, nil, true), e.Open(4096, nil, true)
		a.Begin(prompt(20, 1))
		read(a)
		b.Begin(prompt(20, 2))          // there is no room at the stage
		c.Begin([]int32{1, vocabulary}) // the model does not know that token
		time.Sleep(time.Second)
		if b.Cost() >= 0 || c.Cost() >= 0 {
			t.Errorf("costs %v and %v of sources that cannot draft", b.Cost(), c.Cost())
		}
		a.Await(nil, 20) // it has 30 positions
		if d := a.Draft(nil, 20); len(d.Tokens) > 10 {
			t.Errorf("%d tokens were drafted into 10 positions", len(d.Tokens))
		}
		b.Await(nil, 3)
		c.Await(nil, 3) // neither may hang
		a.Close()
		b.Begin(prompt(20, 2))
		if !read(b) {
			t.Error("there is no room though the other reply has ended")
		}
		if e.Rests(0) {
			t.Error("the engine rests while replies use it")
		}
		b.Close()
		c.Close()
		time.Sleep(time.Minute)
		if !e.Rests(time.Minute) || e.Rests(2*time.Minute) {
			t.Error("the engine does not know how long it has rested")
		}
		synctest.Wait()
		if len(st.open) != 0 {
			t.Errorf("%d sessions are left at the stage", len(st.open))
		}
		_ = e.Close()
		b.Begin(prompt(3, 2))
		b.Await(nil, 3)
	})
}

func TestALostDeviceEndsDraftingAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &stage{fails: 6}
		e := newEngine(t, st)
		s := e.Open(4096, nil, true)
		s.Begin(prompt(40, 1))
		read(s)
		s.Await(nil, 30)
		if s.Cost() >= 0 {
			t.Error("the source says that it can draft on a lost device")
		}
		s.Accept([]int32{1})
		s.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}
