package node

import (
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/draft"
	"github.com/weft-mesh/weft/node/session"
	"github.com/weft-mesh/weft/node/spec"
)

// measuredCosts is what runs cost over the plan, beginning with its predictions.
// They serve all replies of the plan.
func (a *active) measuredCosts() *spec.Costs {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.costs == nil {
		var compute, slowest, hops time.Duration
		for _, st := range a.plan.Stages {
			compute += st.Step
			slowest = max(slowest, st.Step)
			hops += st.Hop
		}
		a.costs = spec.NewCosts(compute, slowest, hops+a.plan.Back)
	}
	return a.costs
}

// speculation is how a reply of the node is speculated, by its request or else
// by the node's setting.
func (n *Node) speculation(r api.GenerateRequest) (spec.Mode, error) {
	s := r.Speculate
	if s == "" {
		s = n.cfg.Speculate
	}
	m, err := spec.ParseMode(s)
	if err != nil {
		return m, &api.Error{Kind: api.KindInvalid, Param: "speculate", Message: err.Error()}
	}
	return m, nil
}

// speculate gives the reply its drafter.
func (g *generation) speculate(s *session.Spec, m spec.Mode, model *draft.Source) {
	o := spec.Options{Mode: m, Costs: g.a.measuredCosts(), Others: func() int { return g.a.path.Replies() - 1 }}
	if m != spec.ModeOff {
		o.Sources = []spec.Source{spec.NewAutomaton(0)}
		if !g.r.NoPrefix { // who wants nothing reused is not remembered either
			o.Sources = append(o.Sources, g.n.grams.Open(g.r.Tenant, slotOf(g.m.entry.Model, g.m.entry.Profile)))
		}
		if model != nil {
			o.Sources = append(o.Sources, model)
			o.Ahead = !g.n.holdsStage(g.a)
		}
	}
	g.spec = spec.New(o)
	s.Drafter = g.spec
	s.Measured = func(t session.Measure) {
		g.spec.Answered(spec.Answer{Width: t.Width, Rows: t.Rows, Latency: t.Latency, Late: t.Late, Compute: t.Compute, Slowest: t.Slowest})
	}
}

// speculated reports what speculation did, and counts it for the node.
func (g *generation) speculated(tokens int) *api.Speculation {
	r := g.spec.Report()
	g.n.drafted.Add(int64(r.Drafted))
	g.n.accepted.Add(int64(r.Accepted))
	g.n.runs.Add(int64(r.Runs))
	g.n.bySource.add(r.By)
	out := &api.Speculation{Source: r.Source, Drafted: r.Drafted, Accepted: r.Accepted, AcceptedByPosition: r.ByPosition, Runs: r.Runs}
	if out.AcceptedByPosition == nil {
		out.AcceptedByPosition = []int{}
	}
	if d := g.last.Sub(g.first); d > 0 && tokens > 1 {
		out.BoundShare = float64(g.spec.Bound()) * float64(tokens-1) / float64(d)
	}
	return out
}
