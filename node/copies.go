package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/session"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

// A model that is asked for by many at once is answered by copies of it: beside
// the plan that stands, further plans of the model over nodes that no plan of it
// uses and that have its weights on their disks. A copy is a plan like any other;
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

// growth is the making of copies of a model.
type growth struct {
	runs bool      // somebody is at it
	next time.Time // not before
	wish *wish     // the latest that was not looked at; nil: none
}

// wish is a reply that may want a copy, and what there was when it came.
type wish struct {
	have  []scheduler.Copy
	reply scheduler.Reply
}

// grow has a copy made in the background, if one pays; one of a model at a time.
func (p *planner) grow(a *active, w wish) {
	slot := a.slot()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.holds == nil {
		return
	}
	if p.growths == nil {
		p.growths = map[string]*growth{}
	}
	g := p.growths[slot]
	if g == nil {
		g = &growth{}
		p.growths[slot] = g
	}
	g.wish = &w
	if g.runs || time.Now().Before(g.next) {
		return
	}
	g.runs = true
	p.wg.Go(func() {
		for p.tryGrow(a, g) {
		}
	})
}

// tryGrow looks at the latest wish; false when there is no more to be done.
func (p *planner) tryGrow(a *active, g *growth) bool {
	p.mu.Lock()
	w := g.wish
	g.wish = nil
	if w == nil || p.closed {
		g.runs = false
		p.mu.Unlock()
		return false
	}
	p.mu.Unlock()
	begin := time.Now()
	source, err := p.found(a, w.have, w.reply)
	if source == nil {
		if err != nil {
			p.log.Debug("no copy", "model", a.model.entry.Name, "error", err)
		}
		// A large mesh takes a while to be looked at.
		select {
		case <-time.After(lookShare * time.Since(begin)):
		case <-p.ctx.Done():
		}
		return true
	}
	c := &active{model: a.model, source: source, ready: make(chan struct{}), state: statePlanning, changed: p.changed}
	p.mu.Lock()
	p.copied++
	c.key = fmt.Sprintf("%s copy %d", a.slot(), p.copied)
	p.plans[c.key] = c
	p.mu.Unlock()
	p.build(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	g.runs, g.wish = false, nil
	var won *supersededError
	switch {
	case errors.As(c.err, &won): // another head makes one: soon it can be used
		g.next = time.Now().Add(rivalPause)
	case c.err != nil:
		g.next = time.Now().Add(copyPause)
	}
	return false
}

// found looks for a copy that pays: one of another head, or else a plan over
// nodes that no plan of the model uses and that have its weights. Nil when there
// is none.
func (p *planner) found(a *active, have []scheduler.Copy, r scheduler.Reply) (*copySource, error) {
	s, m := p.snapshot(a.model), shape(a.model)
	taken := map[string]bool{}
	for _, c := range append(p.copies(a), a) {
		for _, id := range stagesOfPlan(c) {
			taken[id] = true
		}
	}
	for _, k := range p.known(a.model) {
		ours := false
		for _, id := range k.stages {
			ours = ours || taken[id]
		}
		if ours || !k.ready || len(k.stages) == 0 {
			continue
		}
		// Its layers are not told: the model's time on its slowest node bounds it.
		if c, ok := guess(s, m, k); ok && scheduler.Pays(have, c, r) {
			return &copySource{holder: k.holder}, nil
		}
	}
	for _, k := range p.known(a.model) {
		for _, id := range k.stages {
			taken[id] = true
		}
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		switch {
		case n.Excluded != "":
		case taken[n.ID]:
			n.Excluded = "it has a part in a plan of the model"
		case !p.holds(a.model, n.ID):
			n.Excluded = "it does not hold the model"
		}
	}
	plan, err := p.plan(s, a.model)
	if err != nil {
		return nil, err
	}
	for _, st := range plan.Stages {
		if taken[st.Node] {
			return nil, fmt.Errorf("%s has a part in a plan of the model", p.name(st.Node))
		}
	}
	if now, err := scheduler.Price(s, m, plan.Stages); err == nil && scheduler.Pays(have, scheduler.CopyOf(now, 0), r) {
		return &copySource{plan: plan}, nil
	}
	return nil, nil
}

// guess prices another head's plan as if its layers were spread evenly.
func guess(s scheduler.Snapshot, m scheduler.Model, k knownPlan) (scheduler.Copy, bool) {
	layers := len(m.LayerBytes)
	if len(k.stages) > layers {
		return scheduler.Copy{}, false
	}
	var stages []scheduler.Stage
	for i, id := range k.stages {
		stages = append(stages, scheduler.Stage{Node: id, First: i * layers / len(k.stages), Last: (i+1)*layers/len(k.stages) - 1})
	}
	plan, err := scheduler.Price(s, m, stages)
	return scheduler.CopyOf(plan, k.sessions), err == nil
}

// makeCopy makes a copy ready: once, as the plan that stands answers meanwhile.
func (p *planner) makeCopy(ctx context.Context, c *active) (*session.Path, error) {
	p.given()
	spec, err := p.obtain(ctx, c)
	if err != nil {
		p.log.Info("no copy", "model", c.model.entry.Name, "error", err)
		return nil, err
	}
	path, err := p.connect(ctx, c, spec)
	if err != nil {
		p.log.Info("copy does not answer", "model", c.model.entry.Name, "error", err)
		p.release(ctx, spec, "its probe failed")
	}
	return path, err
}

// obtain gives the plan of a copy, reserved and loaded.
func (p *planner) obtain(ctx context.Context, c *active) (*weftv1.PlanSpec, error) {
	if c.source.holder != "" {
		spec, err := p.await(ctx, c, c.source.holder)
		switch {
		case err != nil:
			return nil, err
		case spec == nil || !p.whole(ctx, c, spec):
			return nil, errors.New("the copy of another head is gone")
		}
		return spec, nil
	}
	spec := p.spec(c.model, c.source.plan)
	spec.Copy = true
	c.mu.Lock()
	c.plan, c.spec = c.source.plan, spec
	c.mu.Unlock()
	found := &findings{at: map[string]finding{}}
	err := p.reserve(ctx, spec, found)
	if err == nil {
		err = p.load(ctx, c, spec, found)
	}
	if err != nil {
		p.release(ctx, spec, "not all stages of the copy could be made ready")
		return nil, err
	}
	return spec, nil
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
