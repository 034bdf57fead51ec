package node

import (
	"slices"
	"time"

	"github.com/weft-mesh/weft/scheduler"
)

const (
	// pauseTime is how long a plan must have been without a reply before a better
	// one may take its place: what merely got worse is left at the end of its
	// sessions.
	pauseTime = 5 * time.Second
	// oftenTime is how long a replacement counts against the next one.
	oftenTime = 30 * time.Minute
)

// reconsider gives a plan of this head back when it rests and a clearly better
// one could take its place without a byte of weights having to travel, and
// begins to make that one; false when the plan stays.
func (p *planner) reconsider(a *active) bool {
	a.mu.Lock()
	rests, own := a.idleFor(pauseTime), a.spec.GetId().GetOwner() == p.self
	age := time.Since(a.since)
	a.mu.Unlock()
	// Copies of it go first: they would be taken for the plan that stands.
	if !rests || !own || p.holds == nil || len(p.copies(a)) > 0 {
		return false
	}
	now, err := p.price(a)
	if err != nil {
		return false
	}
	s := p.snapshot(a.model)
	a.uncount(&s)
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Excluded == "" && !p.holds(a.model, n.ID) {
			n.Excluded = "it does not hold the model yet"
		}
	}
	better, err := p.plan(s, a.model)
	if err != nil {
		return false
	}
	old := scheduler.Standing{TPOT: now.TPOT, Age: age, Replaced: p.replaced(a)}
	if samePlaces(better.Stages, now.Stages) {
		// The prices are those of devices that are well. A device that came later, or
		// came back, is of use to a plan that is made anew.
		if p.relaid == nil || !p.relaid(a) {
			return false
		}
		old.TPOT, better.TPOT = 2*now.TPOT, now.TPOT
	}
	if !scheduler.Replace(old, better.TPOT) || !a.rest(pauseTime) {
		return false
	}
	p.log.Info("plan gives way to a better one", "model", a.model.entry.Name, "generation", a.spec.GetId().GetGeneration(), "tpot", now.TPOT, "better", better.TPOT)
	p.note(a)
	p.retire(a, "a clearly better plan takes its place")
	_, _ = p.enter(a.model)
	return true
}

// samePlaces says whether two plans have the same layers on the same nodes.
func samePlaces(a, b []scheduler.Stage) bool {
	return slices.EqualFunc(a, b, func(x, y scheduler.Stage) bool { return x.Node == y.Node && x.First == y.First && x.Last == y.Last })
}

// note remembers that a plan gave way.
func (p *planner) note(a *active) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gaveWay == nil {
		p.gaveWay = map[string][]time.Time{}
	}
	key := slotOf(a.model.entry.Model, a.model.entry.Profile)
	p.gaveWay[key] = append(p.gaveWay[key], time.Now())
}

// replaced counts the plans of the model that gave way of late.
func (p *planner) replaced(a *active) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := slotOf(a.model.entry.Model, a.model.entry.Profile)
	late := slices.DeleteFunc(p.gaveWay[key], func(t time.Time) bool { return time.Since(t) > oftenTime })
	if len(late) == 0 {
		delete(p.gaveWay, key)
		return 0
	}
	p.gaveWay[key] = late
	return len(late)
}

// holds says whether a node has all tensors of a model on its disk.
func (n *Node) holds(m *opened, id string) bool {
	if id == n.plans.self {
		h, err := n.store.Held(m.entry)
		return err == nil && h.Complete
	}
	for _, mem := range n.members() {
		if mem.Record == nil || mem.ID.String() != id {
			continue
		}
		for _, h := range mem.Record.Models {
			if h.Manifest == m.entry.Model && h.Complete {
				return true
			}
		}
	}
	return false
}
