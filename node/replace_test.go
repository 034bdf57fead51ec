package node

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-mesh/weft/node/session"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

// noChain is a chain of a plan that nobody uses.
type noChain struct{}

func (noChain) Send(*weftv1.Frame, []byte) error { return nil }
func (noChain) Busy(int)                         {}
func (noChain) Err() error                       { return nil }
func (noChain) Close()                           {}

// noPaths opens none.
type noPaths struct{}

func (noPaths) OpenPath(context.Context, *weftv1.PlanSpec) (*session.Path, error) {
	return nil, errors.New("not in this test")
}

func TestAPlanGivesWayToAClearlyBetterOneAtAPause(t *testing.T) {
	m := tinyModel(t)
	for name, c := range map[string]struct {
		want  bool
		set   func(p *planner, a *active)
		speed float64 // of the node that joined
	}{
		"a much faster node joined":  {want: true, speed: 1e9},
		"a little faster one joined": {speed: 1.1e8},
		"the plan is young":          {speed: 1e9, set: func(_ *planner, a *active) { a.since = time.Now() }},
		"the plan is another head's": {speed: 1e9, set: func(_ *planner, a *active) { a.spec.Id.Owner = "b" }},
		"a card is there again":      {want: true, speed: 1e7, set: func(p *planner, _ *active) { p.relaid = func(*active) bool { return true } }},
		"no card is there again":     {speed: 1e7, set: func(p *planner, _ *active) { p.relaid = func(*active) bool { return false } }},
		"a reply has just ended":     {speed: 1e9, set: func(_ *planner, a *active) { a.lastUsed = time.Now() }},
		"the weights would travel":   {speed: 1e9, set: func(p *planner, _ *active) { p.holds = func(_ *opened, id string) bool { return id != "fast" } }},
		"plans gave way ever so often": {speed: 2e8, set: func(p *planner, a *active) {
			for range 10 {
				p.note(a)
			}
		}},
		"they did so long ago": {want: true, speed: 1e9, set: func(p *planner, a *active) {
			p.note(a)
			for k := range p.gaveWay {
				p.gaveWay[k] = slices.Repeat([]time.Time{time.Now().Add(-2 * oftenTime)}, 50)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				released := 0
				p := plannerOf(func(_ string, req *weftv1.PlanRequest) (*weftv1.PlanReply, error) {
					if req.GetRelease() != nil {
						released++
						return &weftv1.PlanReply{State: weftv1.PlanReply_RELEASED}, nil
					}
					return &weftv1.PlanReply{State: weftv1.PlanReply_NONE}, nil
				})
				ctx, cancel := context.WithCancel(t.Context())
				p.ctx, p.opener, p.changed = ctx, noPaths{}, func() {}
				p.holds = func(*opened, string) bool { return true }
				p.snapshot = func(*opened) scheduler.Snapshot {
					near := scheduler.Link{RTT: time.Microsecond, Bandwidth: 1e9}
					return scheduler.Snapshot{Head: "head", Links: map[[2]string]scheduler.Link{{"head", "slow"}: near, {"fast", "head"}: near}, Nodes: []scheduler.Node{
						{ID: "slow", Name: "slow", MemFree: 1 << 40, DecodeBps: 1e8, PrefillOps: 1e11},
						{ID: "fast", Name: "fast", MemFree: 1 << 40, DecodeBps: c.speed, PrefillOps: 1e12},
					}}
				}
				path := session.NewPath()
				path.Attach(noChain{}, noChain{})
				a := &active{model: m, path: path, ready: make(chan struct{}), state: stateReady, since: time.Now().Add(-time.Hour), lastUsed: time.Now().Add(-time.Hour)}
				close(a.ready)
				a.spec = p.spec(m, scheduler.Plan{Stages: []scheduler.Stage{{Node: "slow", First: 0, Last: m.config.Layers - 1, KVPositions: 4096}}})
				p.plans[slotOf(m.entry.Model, m.entry.Profile)] = a
				if c.set != nil {
					c.set(p, a)
				}
				got := p.reconsider(a)
				if got != c.want || (path.Err() != nil) != c.want || (released > 0) != c.want {
					t.Errorf("gave way: %v; path %v, %d stages released", got, path.Err(), released)
				}
				if now := p.of(m.entry.Model, m.entry.Profile); c.want == (now == a) {
					t.Error("the next plan is not in the making, or is without need")
				}
				cancel()
				p.wg.Wait()
			})
		})
	}
}
