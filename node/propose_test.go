package node

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
	"github.com/weft-mesh/weft/shard/store"
)

// tinyModel opens a small model.
func tinyModel(t *testing.T) *opened {
	t.Helper()
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs("../shard/testdata/tiny/llama-Q4_0.gguf")
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Add(t.Context(), path, store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := (&library{store: s, cache: map[string]*opened{}}).read(e)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// answers is a mesh whose nodes answer as it says.
type answers func(peer string, req *weftv1.PlanRequest) (*weftv1.PlanReply, error)

func (f answers) Ask(_ context.Context, peer string, req *weftv1.PlanRequest, _ func(*weftv1.PlanReply)) (*weftv1.PlanReply, error) {
	return f(peer, req)
}

// plannerOf is a planner on node head, beside nodes a and b of which a is faster.
func plannerOf(ask answers) *planner {
	return &planner{
		self: "head", asker: ask, log: slog.New(slog.DiscardHandler), suspects: &suspects{}, plans: map[string]*active{},
		name: func(id string) string { return id }, peers: func() []string { return []string{"a", "b"} },
		known: func(*opened) []knownPlan { return nil },
		computes: func(id string) error {
			if id == "client" {
				return errors.New("it joined as a client")
			}
			return nil
		},
		snapshot: func(*opened) scheduler.Snapshot {
			return scheduler.Snapshot{Head: "head", Nodes: []scheduler.Node{
				{ID: "a", Name: "a", MemFree: 1 << 40, DecodeBps: 1e10, PrefillOps: 1e12},
				{ID: "b", Name: "b", MemFree: 1 << 40, DecodeBps: 1e9, PrefillOps: 1e11},
			}}
		},
	}
}

func TestANodeThatKeepsRefusingIsPassedBy(t *testing.T) {
	p := plannerOf(func(peer string, req *weftv1.PlanRequest) (*weftv1.PlanReply, error) {
		switch {
		case req.GetLookup() != nil:
			return &weftv1.PlanReply{State: weftv1.PlanReply_NONE}, nil
		case peer == "a" && req.GetReserve() != nil:
			return &weftv1.PlanReply{State: weftv1.PlanReply_REFUSED, Error: "its disk is full"}, nil
		case req.GetReserve() != nil:
			return &weftv1.PlanReply{State: weftv1.PlanReply_RESERVED}, nil
		}
		return &weftv1.PlanReply{State: weftv1.PlanReply_READY}, nil
	})
	a := &active{model: tinyModel(t)}
	found := &findings{at: map[string]finding{}}
	for try := range 2 {
		if spec, err := p.propose(t.Context(), a, found); err == nil {
			t.Fatalf("try %d gave %v", try, spec)
		}
	}
	spec, err := p.propose(t.Context(), a, found)
	if err != nil || len(spec.Stages) != 1 || spec.Stages[0].Peer != "b" {
		t.Errorf("the third try gave %v %v", spec, err)
	}
}

func TestPlansThatOthersTellOfAreHeldAgainstTheMesh(t *testing.T) {
	m := tinyModel(t)
	good := plannerOf(nil).spec(m, scheduler.Plan{Stages: []scheduler.Stage{
		{Node: "a", First: 0, Last: 0, KVPositions: 4096}, {Node: "b", First: 1, Last: m.config.Layers - 1, KVPositions: 4096},
	}})
	for name, c := range map[string]struct {
		ok     bool
		change func(*weftv1.PlanSpec)
	}{
		"good":                   {true, func(*weftv1.PlanSpec) {}},
		"a client as a stage":    {false, func(s *weftv1.PlanSpec) { s.Stages[1].Peer = "client" }},
		"the teller is not in":   {false, func(s *weftv1.PlanSpec) { s.Stages[0].Peer = "c" }},
		"another model":          {false, func(s *weftv1.PlanSpec) { s.Id.Model[0]++ }},
		"another profile":        {false, func(s *weftv1.PlanSpec) { s.Id.Profile.Context++ }},
		"a gap":                  {false, func(s *weftv1.PlanSpec) { s.Stages[1].First++ }},
		"a layer too few":        {false, func(s *weftv1.PlanSpec) { s.Stages[1].Last-- }},
		"no stages":              {false, func(s *weftv1.PlanSpec) { s.Stages = nil }},
		"nothing":                {false, func(s *weftv1.PlanSpec) { proto.Reset(s) }},
		"layers of another kind": {false, func(s *weftv1.PlanSpec) { s.Layers++ }},
	} {
		spec := proto.CloneOf(good)
		c.change(spec)
		p := plannerOf(func(string, *weftv1.PlanRequest) (*weftv1.PlanReply, error) {
			return &weftv1.PlanReply{State: weftv1.PlanReply_READY, Existing: spec}, nil
		})
		got, err := p.await(t.Context(), &active{model: m}, "a")
		if err != nil || (got != nil) != c.ok {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

// stuck is a mesh whose node a is asked to load and never gets on.
type stuck struct{ answers }

func (s stuck) Ask(ctx context.Context, peer string, req *weftv1.PlanRequest, progress func(*weftv1.PlanReply)) (*weftv1.PlanReply, error) {
	if req.GetCommit() == nil || peer != "a" {
		return s.answers(peer, req)
	}
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Second):
			progress(&weftv1.PlanReply{State: weftv1.PlanReply_FETCHING, BytesDone: 7, BytesTotal: 10})
		}
	}
}

func TestALoadThatDoesNotGetOnEnds(t *testing.T) {
	m := tinyModel(t)
	synctest.Test(t, func(t *testing.T) {
		p := plannerOf(nil)
		p.asker = stuck{func(_ string, req *weftv1.PlanRequest) (*weftv1.PlanReply, error) {
			switch {
			case req.GetLookup() != nil:
				return &weftv1.PlanReply{State: weftv1.PlanReply_NONE}, nil
			case req.GetReserve() != nil:
				return &weftv1.PlanReply{State: weftv1.PlanReply_RESERVED}, nil
			}
			return &weftv1.PlanReply{State: weftv1.PlanReply_READY}, nil
		}}
		a, found := &active{model: m}, &findings{at: map[string]finding{}}
		begin := time.Now()
		for range 2 {
			if _, err := p.propose(t.Context(), a, found); !errors.Is(err, errStalled) {
				t.Fatalf("%v", err)
			}
			if a.State() != "fetching 70%" {
				t.Errorf("the state was %q", a.State())
			}
		}
		if d := time.Since(begin); d > 5*stallTime {
			t.Errorf("it was waited for for %v", d)
		}
		if spec, err := p.propose(t.Context(), a, found); err != nil || spec.Stages[0].Peer != "b" {
			t.Errorf("then %v %v", spec, err)
		}
	})
}

// A node that stood still while a plan was given back has kept its part of it.
func TestAPlanIsUsedOnlyIfEveryStageStillHasIt(t *testing.T) {
	m := tinyModel(t)
	plan := plannerOf(nil).spec(m, scheduler.Plan{Stages: []scheduler.Stage{
		{Node: "a", First: 0, Last: 0, KVPositions: 4096}, {Node: "b", First: 1, Last: m.config.Layers - 1, KVPositions: 4096},
	}})
	for name, c := range map[string]struct {
		b    *weftv1.PlanReply
		err  error
		want bool
	}{
		"both have it":           {b: &weftv1.PlanReply{State: weftv1.PlanReply_READY, Existing: plan}, want: true},
		"one has none":           {b: &weftv1.PlanReply{State: weftv1.PlanReply_NONE}},
		"one does not answer":    {err: errors.New("slow"), want: true}, // the probe will tell
		"one has another's plan": {b: &weftv1.PlanReply{State: weftv1.PlanReply_READY, Existing: &weftv1.PlanSpec{Id: &weftv1.PlanID{Generation: 99}}}},
	} {
		var mu sync.Mutex // guards released
		var released []string
		p := plannerOf(func(peer string, req *weftv1.PlanRequest) (*weftv1.PlanReply, error) {
			switch {
			case req.GetRelease() != nil:
				mu.Lock()
				defer mu.Unlock()
				released = append(released, peer)
				return &weftv1.PlanReply{}, nil
			case peer == "b":
				return c.b, c.err
			case peer == "a":
				return &weftv1.PlanReply{State: weftv1.PlanReply_READY, Existing: plan}, nil
			}
			return &weftv1.PlanReply{State: weftv1.PlanReply_NONE}, nil
		})
		got := p.whole(t.Context(), &active{model: m}, plan)
		if got != c.want || (len(released) == 0) != c.want {
			t.Errorf("%s: whole is %v, released at %v", name, got, released)
		}
	}
}
