package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weft-mesh/weft/node/session"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

// How a copy of a model comes about.

// growth is the making of copies of a model.
type growth struct {
	runs bool      // somebody is at it
	next time.Time // not before
	wish *wish     // the latest that was not looked at; nil: none
	// wishes is how many came since the last look, want what they lost for want of
	// a copy where the weights are not yet.
	wishes int
	want   scheduler.Want
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
	g.wishes++
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
	w, wishes := g.wish, g.wishes
	g.wish, g.wishes = nil, 0
	if w == nil || p.closed {
		g.runs = false
		p.mu.Unlock()
		return false
	}
	p.mu.Unlock()
	begin := time.Now()
	source, err := p.found(a, w.have, w.reply)
	if source == nil {
		if far := p.fetched(a, g, w, wishes); far != nil {
			source = far
		}
	}
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
	taken := p.taken(a)
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
		if n := &s.Nodes[i]; n.Excluded == "" && !p.holds(a.model, n.ID) {
			n.Excluded = "it does not hold the model"
		}
	}
	plan, err := p.beside(a, s, taken)
	if err != nil {
		return nil, err
	}
	if now, err := scheduler.Price(s, m, plan.Stages); err == nil && scheduler.Pays(have, scheduler.CopyOf(now, 0), r) {
		return &copySource{plan: plan}, nil
	}
	return nil, nil
}

// fetched looks for a copy over nodes that no plan of the model uses, whose weights
// would have to travel. It gives one when the load has lasted long enough for that,
// by what the replies that came lost for want of it; nil otherwise.
func (p *planner) fetched(a *active, g *growth, w *wish, wishes int) *copySource {
	s, taken := p.snapshot(a.model), p.taken(a)
	for _, k := range p.known(a.model) {
		for _, id := range k.stages {
			taken[id] = true
		}
	}
	plan, err := p.beside(a, s, taken)
	if err != nil {
		return nil
	}
	now, err := scheduler.Price(s, shape(a.model), plan.Stages)
	if err != nil {
		return nil
	}
	travel, ok := scheduler.Travel(s, now, func(id string) bool { return p.holds(a.model, id) })
	if !ok {
		return nil
	}
	g.want.Add(scheduler.Sooner(w.have, scheduler.CopyOf(now, 0), w.reply), wishes, time.Now())
	if !g.want.Pays(travel) {
		return nil
	}
	p.log.Info("the weights of a copy travel", "model", a.model.entry.Name, "predicted", travel)
	g.want = scheduler.Want{}
	return &copySource{plan: plan}
}

// taken are the nodes that this head's plans of the model use.
func (p *planner) taken(a *active) map[string]bool {
	taken := map[string]bool{}
	for _, c := range append(p.copies(a), a) {
		for _, id := range stagesOfPlan(c) {
			taken[id] = true
		}
	}
	return taken
}

// beside plans the model over nodes that are not taken.
func (p *planner) beside(a *active, s scheduler.Snapshot, taken map[string]bool) (scheduler.Plan, error) {
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Excluded == "" && taken[n.ID] {
			n.Excluded = "it has a part in a plan of the model"
		}
	}
	plan, err := p.plan(s, a.model)
	if err != nil {
		return scheduler.Plan{}, err
	}
	for _, st := range plan.Stages {
		if taken[st.Node] {
			return scheduler.Plan{}, fmt.Errorf("%s has a part in a plan of the model", p.name(st.Node))
		}
	}
	return plan, nil
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
