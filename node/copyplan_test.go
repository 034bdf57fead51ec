package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-mesh/weft/node/session"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

// crowded is a planner whose plan of m is on node "first" and has replies, beside
// nodes "second" and "third".
func crowded(t *testing.T, m *opened, ask answers) (*planner, *active, wish) {
	t.Helper()
	p := plannerOf(ask)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	p.ctx, p.opener, p.changed = ctx, noPaths{}, func() {}
	p.holds = func(_ *opened, id string) bool { return id != "head" }
	p.snapshot = func(*opened) scheduler.Snapshot {
		s := scheduler.Snapshot{Head: "head", Links: map[[2]string]scheduler.Link{}}
		for _, id := range []string{"first", "second", "third"} {
			s.Nodes = append(s.Nodes, scheduler.Node{ID: id, Name: id, MemFree: 1 << 40, DecodeBps: 1e7, PrefillOps: 1e7})
			s.Links[pair("head", id)] = scheduler.Link{RTT: time.Microsecond, Bandwidth: 1e9}
		}
		return s
	}
	path := session.NewPath()
	path.Attach(noChain{}, noChain{})
	a := &active{model: m, path: path, ready: make(chan struct{}), state: stateReady, users: 3}
	close(a.ready)
	a.spec = p.spec(m, whole(m, "first"))
	p.plans[a.slot()] = a
	cost, err := p.cost(p.snapshot(m), a, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p, a, wish{[]scheduler.Copy{cost}, scheduler.Reply{Prompt: 10, Tokens: 100, Positions: 128}}
}

// whole is a plan of all layers on one node.
func whole(m *opened, node string) scheduler.Plan {
	return scheduler.Plan{Stages: []scheduler.Stage{{Node: node, Name: node, First: 0, Last: m.config.Layers - 1, KVPositions: 4096}}}
}

func TestACopyComesWhereTheWeightsAreAndNoPlanIs(t *testing.T) {
	m := tinyModel(t)
	ready := func(node string, copied bool) knownPlan {
		return knownPlan{generation: 1, holder: node, ready: true, copy: copied, stages: []string{node}}
	}
	for name, c := range map[string]struct {
		known  []knownPlan
		holds  []string
		users  int
		holder string // whose copy is to be used
		on     string // where one is to be made; "" for none
	}{
		"all hold it":                         {holds: []string{"first", "second", "third"}, users: 3, on: "second"},
		"the plan has no other reply":         {holds: []string{"first", "second", "third"}},
		"one holds it":                        {holds: []string{"third"}, users: 3, on: "third"},
		"none holds it":                       {holds: nil, users: 3},
		"another head has made one":           {known: []knownPlan{ready("first", false), ready("third", true)}, holds: []string{"second", "third"}, users: 3, holder: "third"},
		"another head's is as busy":           {known: []knownPlan{{holder: "third", ready: true, copy: true, stages: []string{"third"}, sessions: 3}}, holds: []string{"second", "third"}, users: 3, on: "second"},
		"another head is making one":          {known: []knownPlan{{holder: "second", copy: true, stages: []string{"second"}}}, holds: []string{"second", "third"}, users: 3, on: "third"},
		"there is no node left":               {known: []knownPlan{{holder: "second", copy: true, stages: []string{"second", "third"}}}, holds: []string{"second", "third"}, users: 3},
		"records tell of this head's own one": {known: []knownPlan{ready("first", false)}, holds: []string{"first"}, users: 3},
	} {
		t.Run(name, func(t *testing.T) {
			p, a, w := crowded(t, m, nil)
			p.known = func(*opened) []knownPlan { return c.known }
			p.holds = func(_ *opened, id string) bool {
				for _, h := range c.holds {
					if h == id {
						return true
					}
				}
				return false
			}
			a.users = c.users
			w.have[0].Replies = c.users
			got, _ := p.found(p.look(a), w.have, w.reply)
			switch {
			case c.holder == "" && c.on == "":
				if got != nil {
					t.Errorf("%+v", got)
				}
			case got == nil || got.holder != c.holder:
				t.Errorf("it is had from %+v", got)
			case c.on != "" && (len(got.plan.Stages) != 1 || got.plan.Stages[0].Node != c.on):
				t.Errorf("it is made on %+v", got.plan.Stages)
			}
		})
	}
}

// TestWeightsTravelForALoadThatLasts has a copy pay on a node to which the weights
// would take ten seconds: nothing is begun until replies have lost as much.
func TestWeightsTravelForALoadThatLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tinyModel(t)
		p, a, w := crowded(t, m, nil)
		p.holds = func(_ *opened, id string) bool { return id == "first" }
		snapshot := p.snapshot
		bytes := 0.0
		for _, b := range shape(m).LayerBytes {
			bytes += float64(b)
		}
		bytes += float64(shape(m).EmbedBytes + shape(m).HeadBytes)
		p.snapshot = func(m *opened) scheduler.Snapshot {
			s := snapshot(m)
			for _, id := range []string{"second", "third"} { // half of it is left to weights
				s.Links[pair("first", id)] = scheduler.Link{RTT: time.Millisecond, Bandwidth: bytes / 5}
			}
			return s
		}
		now, err := scheduler.Price(p.snapshot(m), shape(m), whole(m, "second").Stages)
		if err != nil {
			t.Fatal(err)
		}
		sooner := scheduler.Sooner(w.have, scheduler.CopyOf(now, 0), w.reply)
		if sooner <= 0 {
			t.Fatal("a copy would not pay")
		}
		want := int((10*time.Second-1)/sooner) + 1
		g, replies := &growth{}, 0
		for ; replies < 10*want; replies++ {
			if c, err := p.found(p.look(a), w.have, w.reply); c != nil {
				t.Fatalf("a copy is made where no weights are: %+v %v", c, err)
			}
			if c := p.fetched(p.look(a), g, &w, 1); c != nil {
				if on := c.plan.Stages[0].Node; on == "first" {
					t.Errorf("the copy is on %s", on)
				}
				replies++
				break
			}
		}
		if replies != want {
			t.Errorf("the weights travel after %d replies that lost %v each, not %d", replies, sooner, want)
		}
		p.holds = func(*opened, string) bool { return false }
		if c := p.fetched(p.look(a), g, &w, 1000); c != nil {
			t.Errorf("weights that nobody has travel: %+v", c)
		}
	})
}

// TestACopyThatCannotBeMadeIsLeftAlone has nodes that refuse, and a head that was
// ahead: what was reserved is given back, and the next try waits.
func TestACopyThatCannotBeMadeIsLeftAlone(t *testing.T) {
	m := tinyModel(t)
	other := plannerOf(nil).spec(m, whole(m, "second"))
	other.Copy = true
	for name, c := range map[string]struct {
		reply *weftv1.PlanReply
		pause time.Duration
	}{
		"the node refuses":       {&weftv1.PlanReply{State: weftv1.PlanReply_REFUSED, Error: "its disk is full"}, copyPause},
		"another head was ahead": {&weftv1.PlanReply{State: weftv1.PlanReply_CONFLICT, Existing: other}, rivalPause},
		"its probe fails":        {&weftv1.PlanReply{State: weftv1.PlanReply_RESERVED}, copyPause},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked, released := 0, 0
				p, a, w := crowded(t, m, func(_ string, req *weftv1.PlanRequest) (*weftv1.PlanReply, error) {
					switch {
					case req.GetReserve() != nil:
						if asked++; !req.GetReserve().Plan.Copy {
							t.Error("a copy is not marked as one")
						}
						return c.reply, nil
					case req.GetRelease() != nil:
						released++
						return &weftv1.PlanReply{State: weftv1.PlanReply_RELEASED}, nil
					}
					return &weftv1.PlanReply{State: weftv1.PlanReply_READY}, nil
				})
				try := func() {
					p.grow(a, w)
					p.wg.Wait()
				}
				for range 3 {
					try()
				}
				if asked != 1 || released != 1 || len(p.plans) != 1 {
					t.Errorf("asked %d times, %d released, %d plans", asked, released, len(p.plans))
				}
				time.Sleep(c.pause + time.Millisecond)
				try()
				if asked != 2 {
					t.Errorf("after the pause it was asked %d times", asked)
				}
				if p.failure(a.slot()) != "" {
					t.Error("the model counts as failed")
				}
			})
		})
	}
}
