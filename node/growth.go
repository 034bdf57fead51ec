package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	v := p.look(a)
	source, err := p.found(v, w.have, w.reply)
	if source == nil {
		source = p.fetched(v, g, w, wishes)
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

// sight is the mesh at one moment, as a copy of a plan's model is looked for in it.
type sight struct {
	plan     *active
	snapshot scheduler.Snapshot
	model    scheduler.Model
	known    []knownPlan
	ours     map[string]bool // nodes that this head's plans of the model use
	taken    map[string]bool // those and the ones of others' plans
}

func (p *planner) look(a *active) *sight {
	v := &sight{plan: a, snapshot: p.snapshot(a.model), model: shape(a.model), known: p.known(a.model), ours: map[string]bool{}, taken: map[string]bool{}}
	for _, c := range append(p.copies(a), a) {
		for _, id := range stagesOfPlan(c) {
			v.ours[id], v.taken[id] = true, true
		}
	}
	for _, k := range v.known {
		for _, id := range k.stages {
			v.taken[id] = true
		}
	}
	return v
}

// found looks for a copy that pays: one of another head, or else a plan over
// nodes that no plan of the model uses and that have its weights. Nil when there
// is none.
func (p *planner) found(v *sight, have []scheduler.Copy, r scheduler.Reply) (*copySource, error) {
	for _, k := range v.known {
		ours := slices.ContainsFunc(k.stages, func(id string) bool { return v.ours[id] })
		if ours || !k.ready || len(k.stages) == 0 {
			continue
		}
		// Its layers are not told: the model's time on its slowest node bounds it.
		if c, ok := guess(v.snapshot, v.model, k); ok && scheduler.Pays(have, c, r) {
			return &copySource{holder: k.holder}, nil
		}
	}
	plan, now, err := p.beside(v, true)
	if err != nil || !scheduler.Pays(have, scheduler.CopyOf(now, 0), r) {
		return nil, err
	}
	return &copySource{plan: plan}, nil
}

// fetched looks for a copy over nodes that no plan of the model uses, whose weights
// would have to travel. It gives one when the load has lasted long enough for that,
// by what the replies that came lost for want of it; nil otherwise.
func (p *planner) fetched(v *sight, g *growth, w *wish, wishes int) *copySource {
	plan, now, err := p.beside(v, false)
	if err != nil {
		return nil
	}
	m := v.plan.model
	travel, ok := scheduler.Travel(v.snapshot, now, func(id string) bool { return p.holds(m, id) })
	if !ok {
		return nil
	}
	g.want.Add(scheduler.Sooner(w.have, scheduler.CopyOf(now, 0), w.reply), wishes, time.Now())
	if !g.want.Pays(travel) {
		return nil
	}
	p.log.Info("the weights of a copy travel", "model", m.entry.Name, "predicted", travel)
	g.want = scheduler.Want{}
	return &copySource{plan: plan}
}

// beside plans the model over nodes that no plan of it uses, of those that have its
// weights where held says so, and prices the plan.
func (p *planner) beside(v *sight, held bool) (plan, now scheduler.Plan, err error) {
	s, m := v.snapshot, v.plan.model
	s.Nodes = slices.Clone(s.Nodes)
	for i := range s.Nodes {
		switch n := &s.Nodes[i]; {
		case n.Excluded != "":
		case v.taken[n.ID]:
			n.Excluded = "it has a part in a plan of the model"
		case held && !p.holds(m, n.ID):
			n.Excluded = "it does not hold the model"
		}
	}
	if plan, err = p.plan(s, m); err != nil {
		return plan, now, err
	}
	for _, st := range plan.Stages {
		if v.taken[st.Node] {
			return plan, now, fmt.Errorf("%s has a part in a plan of the model", p.name(st.Node))
		}
	}
	now, err = scheduler.Price(s, v.model, plan.Stages)
	return plan, now, err
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
