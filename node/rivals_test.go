package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

func TestAPlanYieldsToWhatHasGonePastItAndToWhatIsFirst(t *testing.T) {
	m := tinyModel(t)
	other := plannerOf(nil).spec(m, scheduler.Plan{Stages: []scheduler.Stage{{Node: "b", First: 0, Last: m.config.Layers - 1, KVPositions: 4096}}})
	const reserved, loading, ready = weftv1.PlanReply_RESERVED, weftv1.PlanReply_LOADING, weftv1.PlanReply_READY
	for name, c := range map[string]struct {
		owner  string // of the plan on b; this head's name is head
		states []weftv1.PlanReply_State
		yields bool
	}{
		"first and ready":             {"aaa", []weftv1.PlanReply_State{ready}, true},
		"first and reserved":          {"aaa", []weftv1.PlanReply_State{reserved, reserved, ready}, true},
		"later and ready":             {"zzz", []weftv1.PlanReply_State{ready}, true},
		"later and loading":           {"zzz", []weftv1.PlanReply_State{loading, ready}, true},
		"later and reserved, loads":   {"zzz", []weftv1.PlanReply_State{reserved, reserved, loading, ready}, true},
		"later and reserved, goes":    {"zzz", []weftv1.PlanReply_State{reserved, reserved, weftv1.PlanReply_NONE}, false},
		"later and reserved for ever": {"zzz", []weftv1.PlanReply_State{reserved}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				spec := proto.CloneOf(other)
				spec.Id.Owner = c.owner
				own, states := 0, c.states
				p := plannerOf(func(peer string, req *weftv1.PlanRequest) (*weftv1.PlanReply, error) {
					switch {
					case req.GetLookup() != nil && peer == "b":
						r := &weftv1.PlanReply{State: states[0]}
						if r.State != weftv1.PlanReply_NONE {
							r.Existing = spec
						}
						states = states[min(1, len(states)-1):]
						return r, nil
					case req.GetLookup() != nil:
						return &weftv1.PlanReply{State: weftv1.PlanReply_NONE}, nil
					case req.GetReserve() != nil:
						own++
						return &weftv1.PlanReply{State: reserved}, nil
					case req.GetRelease() != nil:
						own--
					}
					return &weftv1.PlanReply{State: ready}, nil
				})
				got, err := p.propose(t.Context(), &active{model: m}, &findings{at: map[string]finding{}})
				if err != nil || (got.Id.Owner == c.owner) != c.yields || (own == 0) != c.yields {
					t.Errorf("%v %v, %d of its own are left", got, err, own)
				}
			})
		})
	}
}

// shelf is a mesh whose nodes keep plans as workers do, and answer after a while
// that nobody can foresee.
type shelf struct {
	mu  sync.Mutex // guards everything below
	rng *rand.Rand
	at  map[string]*kept
}

// asking is the shelf as one head sees it.
type asking struct {
	*shelf
	head string
}

type kept struct {
	spec  *weftv1.PlanSpec
	state weftv1.PlanReply_State
}

// pause takes up to max, as a rule much less.
func (s *shelf) pause(most time.Duration) {
	s.mu.Lock()
	d := s.rng.Int64N(int64(most))
	if s.rng.IntN(4) > 0 {
		d /= 50
	}
	s.mu.Unlock()
	time.Sleep(time.Duration(d))
}

func (s asking) Ask(ctx context.Context, peer string, req *weftv1.PlanRequest, _ func(*weftv1.PlanReply)) (*weftv1.PlanReply, error) {
	s.pause(400 * time.Millisecond)
	defer s.pause(400 * time.Millisecond)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if req.GetCommit() != nil {
		if r := s.answer(s.head, peer, req); r.State != weftv1.PlanReply_LOADING {
			return r, nil
		}
		s.pause(3 * time.Second)
	}
	return s.answer(s.head, peer, req), nil
}

// probe says whether a token could cross a plan.
func (s *shelf) probe(spec *weftv1.PlanSpec) bool {
	s.pause(400 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range spec.Stages {
		if k := s.at[st.Peer]; k == nil || !proto.Equal(k.spec.Id, spec.Id) || k.state != weftv1.PlanReply_READY {
			return false
		}
	}
	return true
}

func (s *shelf) answer(from, peer string, req *weftv1.PlanRequest) *weftv1.PlanReply {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.at[peer]
	switch b := req.Body.(type) {
	case *weftv1.PlanRequest_Reserve:
		spec := b.Reserve.Plan
		if k != nil && (k.state == weftv1.PlanReply_READY || before(k.spec.Id, spec.Id)) {
			return &weftv1.PlanReply{State: weftv1.PlanReply_CONFLICT, Existing: k.spec}
		}
		s.at[peer] = &kept{spec, weftv1.PlanReply_RESERVED}
		return &weftv1.PlanReply{State: weftv1.PlanReply_RESERVED}
	case *weftv1.PlanRequest_Commit:
		switch {
		case k == nil:
			return &weftv1.PlanReply{State: weftv1.PlanReply_NONE}
		case !proto.Equal(k.spec.Id, b.Commit.Id):
			return &weftv1.PlanReply{State: weftv1.PlanReply_CONFLICT, Existing: k.spec}
		case k.state == weftv1.PlanReply_RESERVED:
			k.state = weftv1.PlanReply_LOADING
		case k.state == weftv1.PlanReply_LOADING:
			k.state = weftv1.PlanReply_READY
		}
		return &weftv1.PlanReply{State: k.state}
	case *weftv1.PlanRequest_Release: // what is being made is its owner's
		if k != nil && proto.Equal(k.spec.Id, b.Release.Id) && (k.state == weftv1.PlanReply_READY || from == k.spec.Id.Owner) {
			delete(s.at, peer)
		}
	case *weftv1.PlanRequest_Lookup:
		if k != nil {
			return &weftv1.PlanReply{State: k.state, Existing: k.spec}
		}
	}
	return &weftv1.PlanReply{State: weftv1.PlanReply_NONE}
}

// Heads that ask at once, over plans that meet, that do not, and that are the
// same, end with one plan of which every stage is held, and nothing else is.
func TestHeadsThatAskAtOnceEndWithOnePlan(t *testing.T) {
	m := tinyModel(t)
	for seed := range uint64(400) {
		synctest.Test(t, func(t *testing.T) {
			s := &shelf{rng: rand.New(rand.NewPCG(seed, 1)), at: map[string]*kept{}}
			nodes := []string{"a", "b", "c", "d", "e"}
			heads := 2 + s.rng.IntN(3)
			got, orders := make([]*weftv1.PlanSpec, heads), make([][]int, heads)
			for i := range orders {
				orders[i] = s.rng.Perm(len(nodes))
			}
			var wg sync.WaitGroup
			for i := range heads {
				p := plannerOf(nil)
				p.self = fmt.Sprint("head", i)
				p.asker = asking{s, p.self}
				p.peers = func() []string { return nodes }
				p.choose = func(scheduler.Snapshot, scheduler.Model) (scheduler.Plan, error) {
					return scheduler.Plan{Stages: []scheduler.Stage{
						{Node: nodes[orders[i][0]], First: 0, Last: 0, KVPositions: 4096},
						{Node: nodes[orders[i][1]], First: 1, Last: m.config.Layers - 1, KVPositions: 4096},
					}}, nil
				}
				wg.Go(func() {
					s.pause(time.Second)
					a := &active{model: m}
					for try := range planTries {
						spec, err := p.adopt(t.Context(), a)
						if err == nil && spec == nil {
							spec, err = p.propose(t.Context(), a, &findings{at: map[string]finding{}})
						}
						if err == nil && spec != nil {
							if s.probe(spec) {
								got[i] = spec
								return
							}
							p.release(t.Context(), spec, "its probe failed")
						}
						time.Sleep(time.Duration(try+1) * 300 * time.Millisecond)
					}
				})
			}
			wg.Wait()
			for i, spec := range got {
				switch {
				case spec == nil:
					t.Errorf("seed %d: head %d of %d has no plan", seed, i, heads)
				case !proto.Equal(spec.Id, got[0].GetId()):
					t.Errorf("seed %d: head %d of %d uses plan %s, head 0 plan %s", seed, i, heads, planName(spec), planName(got[0]))
				}
			}
			for node, k := range s.at {
				if !proto.Equal(k.spec.Id, got[0].GetId()) || k.state != weftv1.PlanReply_READY {
					t.Errorf("seed %d: %s holds plan %s, %s", seed, node, planName(k.spec), k.state)
				}
			}
			if len(s.at) != 2 {
				t.Errorf("seed %d: %d nodes hold a stage", seed, len(s.at))
			}
		})
		if t.Failed() {
			return
		}
	}
}

// TestAStageThatDoesNotAnswerHoldsNobodyUp takes up a plan of which one stage
// stands still: its loss is the probe's to find.
func TestAStageThatDoesNotAnswerHoldsNobodyUp(t *testing.T) {
	m := tinyModel(t)
	spec := plannerOf(nil).spec(m, scheduler.Plan{Stages: []scheduler.Stage{
		{Node: "a", First: 0, Last: 0, KVPositions: 4096}, {Node: "b", First: 1, Last: m.config.Layers - 1, KVPositions: 4096},
	}})
	synctest.Test(t, func(t *testing.T) {
		p := plannerOf(nil)
		p.asker = silent{"b", func(string, *weftv1.PlanRequest) (*weftv1.PlanReply, error) {
			return &weftv1.PlanReply{State: weftv1.PlanReply_READY, Existing: spec}, nil
		}}
		begin := time.Now()
		got, err := p.await(t.Context(), &active{model: m}, "a")
		if err != nil || got == nil || time.Since(begin) > 2*rivalTime {
			t.Errorf("%v %v after %v", got, err, time.Since(begin))
		}
		begin = time.Now()
		if got, err := p.await(t.Context(), &active{model: m}, "b"); err != nil || got != nil || time.Since(begin) != askTimeout {
			t.Errorf("of the silent one itself: %v %v after %v", got, err, time.Since(begin))
		}
	})
}

// silent is a mesh of which one node does not answer.
type silent struct {
	who string
	answers
}

func (s silent) Ask(ctx context.Context, peer string, req *weftv1.PlanRequest, progress func(*weftv1.PlanReply)) (*weftv1.PlanReply, error) {
	if peer == s.who {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.answers.Ask(ctx, peer, req, progress)
}
