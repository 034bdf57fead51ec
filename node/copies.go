package node

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/session"
	"github.com/weft-mesh/weft/scheduler"
)

// A model that is asked for by many at once is answered by copies of it: beside
// the plan that stands, further plans of the model over nodes that no plan of it
// uses: such that have its weights on their disks, or, where the load lasts, others,
// to which the weights travel. A copy is a plan like any other;
// it is only marked, so that heads which look for the one plan of a model do not
// take it for a rival of that. It is begun when a reply would be done clearly
// sooner over it, made while that reply goes on where it is, shared by all heads,
// and given back when it has been idle.

const (
	// copyRest is how long a copy is kept without a reply.
	copyRest = time.Minute
	// copyPause is how long no copy of a model is tried after one that could not
	// be made.
	copyPause = 30 * time.Second
	// rivalPause is the same after one that another head was ahead with.
	rivalPause = 2 * time.Second
	// lookShare bounds the looking for copies to a part of the time.
	lookShare = 9
	// loadLag is how old the load in another node's record may be.
	loadLag = 2 * recordEvery
	// usualTokens is what a reply without a limit is expected to have, and
	// longTokens what counts of a high one.
	usualTokens = 256
	longTokens  = 512
)

// copySource is where a copy comes from: another head has made it, and a node
// that takes part in it is asked, or it is to be made as planned.
type copySource struct {
	holder string
	plan   scheduler.Plan
}

// pick gives a ready plan of the model for a reply, the one that stands or a
// copy, by load and latency. Who gets it has to leave it.
func (p *planner) pick(ctx context.Context, m *opened, r scheduler.Reply, progress func(api.Progress)) (*active, error) {
	for {
		a, err := p.get(ctx, m, progress)
		if err != nil {
			return nil, err
		}
		if b := p.share(a, r); b.join() {
			return b, nil
		}
	}
}

// join notes that a reply begins; false when the plan is of no use any more.
func (a *active) join() bool {
	if a.use() != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users++
	return true
}

// leave notes that a reply that joined has ended or goes on elsewhere.
func (a *active) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.peaks = slices.DeleteFunc(a.peaks, func(p peak) bool { return p.users <= a.users || now.Sub(p.last) > loadLag })
	a.peaks = append(a.peaks, peak{a.users, now})
	a.users--
	a.lastUsed = now
}

// peak is how many replies a head had over a plan at once, and when for the last
// time.
type peak struct {
	users int
	last  time.Time
}

// load is how many replies a plan has: this head's, and those that records tell
// of beyond what they may count of this head's, as they are late.
func (a *active) load(told int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	most := a.users
	for _, p := range a.peaks {
		if time.Since(p.last) <= loadLag {
			most = max(most, p.users)
		}
	}
	return a.users + max(0, told-most)
}

// share chooses between the plan that stands and its copies. Where another copy
// would be better it has one made for the replies after this one.
func (p *planner) share(a *active, r scheduler.Reply) *active {
	list := append([]*active{a}, p.copies(a)...)
	known := p.known(a.model)
	busy := false
	for _, c := range list {
		busy = busy || c.load(told(known, c)) > 0
	}
	if !busy {
		return a
	}
	s := p.snapshot(a.model)
	var plans []*active
	var costs []scheduler.Copy
	for _, c := range list {
		if cost, err := p.cost(s, c, told(known, c)); err == nil {
			plans, costs = append(plans, c), append(costs, cost)
		}
	}
	if len(plans) == 0 || plans[0] != a {
		return a
	}
	best := plans[scheduler.Choose(costs, r, rand.IntN)]
	p.grow(a, wish{costs, r})
	return best
}

// cost is what a reply over a plan is predicted to take, with what was measured
// of it.
func (p *planner) cost(s scheduler.Snapshot, c *active, told int) (scheduler.Copy, error) {
	plan, err := scheduler.Price(s, shape(c.model), stagesPlanned(c))
	if err != nil {
		return scheduler.Copy{}, err
	}
	cost := scheduler.CopyOf(plan, c.load(told))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.costs != nil {
		if row := c.costs.Row(); row > 0 {
			cost.Row = row
		}
	}
	return cost, nil
}

// told is the number of replies that records give for a plan.
func told(known []knownPlan, a *active) int {
	stages, most := stagesOfPlan(a), 0
	for _, k := range known { // each of its nodes tells
		if k.ready && slices.Equal(k.stages, stages) {
			most = max(most, k.sessions)
		}
	}
	return most
}

// copies are the ready plans of a's model beside it, the oldest first.
func (p *planner) copies(a *active) []*active {
	slot := a.slot()
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*active
	for _, c := range p.plans {
		if c != a && c.source != nil && c.slot() == slot && c.up() {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(x, y *active) int { return x.since.Compare(y.since) })
	return out
}

// slot names what a head has one plan for, beside copies.
func (a *active) slot() string { return slotOf(a.model.entry.Model, a.model.entry.Profile) }

// up says whether the plan is ready and works.
func (a *active) up() bool {
	select {
	case <-a.ready:
		return a.path != nil && a.path.Err() == nil
	default:
		return false
	}
}

// promote makes a copy that is ready the plan that stands, where that one is
// gone; nil when there is none. mu is held.
func (p *planner) promote(slot string) *active {
	var best *active
	for _, c := range p.plans {
		if c.source != nil && c.slot() == slot && c.up() && (best == nil || c.since.Before(best.since)) {
			best = c
		}
	}
	if best == nil {
		return nil
	}
	delete(p.plans, best.place())
	best.key = slot
	p.plans[slot] = best
	return best
}

// isCopy says whether a plan stands beside another one at this head.
func (p *planner) isCopy(a *active) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return a.place() != a.slot()
}

// keyOf is where the planner has a plan.
func (p *planner) keyOf(a *active) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return a.place()
}

// place is the plan's key among the plans of its head; planner.mu is held.
func (a *active) place() string {
	if a.key == "" {
		return a.slot()
	}
	return a.key
}

// expected is what a reply is expected to take.
func expected(s session.Spec) scheduler.Reply {
	r := scheduler.Reply{Prompt: len(s.Prompt), Tokens: s.MaxTokens, Positions: s.Positions}
	if r.Tokens > longTokens {
		r.Tokens = longTokens
		if s.Positions == s.Context { // nobody said how long
			r.Tokens = usualTokens
		}
	}
	return r
}

// elsewhere moves a reply that waits for room to a plan that has some; nil when
// there is none.
func (g *generation) elsewhere() *session.Path {
	p := g.n.plans
	p.mu.Lock()
	a := p.plans[g.a.slot()]
	p.mu.Unlock()
	if a == nil || !a.up() {
		return nil
	}
	b := p.share(a, g.expected)
	if b == g.a || !b.join() {
		return nil
	}
	g.a.leave()
	g.a = b
	g.spec.Over(b.measuredCosts())
	return b.path
}
