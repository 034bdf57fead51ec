package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weft-mesh/weft/node/api"
)

// What people see of the copies of a model.

// copiesOf are the copies beside a head's plan of a model: its own, and those of
// other heads as the mesh tells of them.
func (n *Node) copiesOf(a *active) []api.PlanCopy {
	known := n.known(a.model)
	ours := []*active{a}
	var out []api.PlanCopy
	for _, c := range n.plans.besides(a) {
		ours = append(ours, c)
		one := api.PlanCopy{Generation: c.generation(), State: c.State(), Stages: n.stages(c), Replies: c.load(told(known, c))}
		if plan, err := n.plans.price(c); err == nil {
			one.TPOTms = millis(plan.TPOT)
		}
		c.mu.Lock()
		one.MeasTPOTms = c.tpot.v
		c.mu.Unlock()
		out = append(out, one)
	}
	for _, k := range known {
		if !k.copy || len(k.stages) == 0 || slices.ContainsFunc(ours, func(c *active) bool { return sharesNode(c, k.stages) }) ||
			slices.ContainsFunc(out, func(c api.PlanCopy) bool { return c.Stages[0].Node == k.stages[0] }) {
			continue
		}
		one := api.PlanCopy{Generation: k.generation, State: stateReady, Replies: k.sessions}
		if !k.ready {
			one.State = stateLoading
		}
		for _, id := range k.stages {
			one.Stages = append(one.Stages, api.PlanStage{Node: id, Name: n.nodeName(id)})
		}
		out = append(out, one)
	}
	return out
}

// besides are all copies of this head beside a plan, ready or not.
func (p *planner) besides(a *active) []*active {
	var out []*active
	for _, c := range p.list() {
		if c != a && c.slot() == a.slot() && p.isCopy(c) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(x, y *active) int { return strings.Compare(p.keyOf(x), p.keyOf(y)) })
	return out
}

// sharesNode says whether a plan has a stage on one of some nodes.
func sharesNode(a *active, nodes []string) bool {
	return slices.ContainsFunc(stagesOfPlan(a), func(id string) bool { return slices.Contains(nodes, id) })
}

func stagesOfPlan(a *active) []string {
	var out []string
	for _, st := range stagesPlanned(a) {
		out = append(out, st.Node)
	}
	return out
}

// generation is the number of the plan, 0 while it has none.
func (a *active) generation() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.spec.GetId().GetGeneration()
}

// planState is a plan of this head as `weft status` shows it.
func (n *Node) planState(a *active) api.PlanState {
	out := api.PlanState{Model: a.model.entry.Name, Generation: a.generation(), State: a.State(), Copy: n.plans.isCopy(a)}
	for _, st := range n.stages(a) {
		out.Nodes = append(out.Nodes, st.Name)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	out.Replies = a.users
	return out
}

// planFigures are the replies of this head's plans.
func (n *Node) planFigures() []gauge {
	var out []gauge
	for _, p := range n.plans.list() {
		s := n.planState(p)
		kind := "plan"
		if s.Copy {
			kind = "copy"
		}
		out = append(out, gauge{
			name: "weft_plan_replies", help: "Replies of this head over a plan, or waiting for room there; a copy is a further plan of the same model.",
			kind: prometheus.GaugeValue, labels: []string{"model", "kind", "generation", "nodes"},
			values: []string{s.Model, kind, fmt.Sprint(s.Generation), strings.Join(s.Nodes, " ")}, value: float64(s.Replies),
		})
	}
	return out
}
