package node

import (
	"context"
	"slices"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/scheduler"
)

// Plan implements api.Node.
func (n *Node) Plan(ctx context.Context, r api.PlanRequest, progress func(api.Progress)) (api.Plan, error) {
	ctx, cancel := n.alive(ctx)
	defer cancel()
	m, err := n.lib.open(ctx, r.Model, progress)
	if err != nil {
		return api.Plan{}, err
	}
	if r.Load {
		a, err := n.plans.get(ctx, m, progress)
		if err != nil {
			return api.Plan{}, n.replyError(ctx, err)
		}
		return n.planOf(a), nil
	}
	if a := n.plans.of(m.entry.Model, m.entry.Profile); a != nil && len(n.stages(a)) > 0 {
		return n.planOf(a), nil
	}
	if spec := n.plans.standing(ctx, m); spec != nil {
		return n.planOf(&active{model: m, spec: spec, state: n.stateOf(m.entry.Model, m.entry.Profile)}), nil
	}
	s := n.snapshot(m)
	p, err := scheduler.Make(s, shape(m))
	if err != nil {
		return api.Plan{}, api.Errorf(api.KindNoCapacity, "%w", err)
	}
	out := api.Plan{Model: m.entry.Name, State: "proposed", Head: n.name()}
	fillPlan(&out, p, s)
	return out, nil
}

// fillPlan writes the scheduler's predictions.
func fillPlan(out *api.Plan, p scheduler.Plan, s scheduler.Snapshot) {
	out.TTFTms, out.TPOTms, out.Why = millis(p.TTFT), millis(p.TPOT), p.Why
	out.Stages = nil
	for _, st := range p.Stages {
		one := api.PlanStage{
			Node: st.Node, Name: st.Name, First: st.First, Last: st.Last, Bytes: st.Bytes, KVBytes: st.KVBytes, StepMs: millis(st.Step), HopMs: millis(st.Hop),
		}
		for i := range s.Nodes {
			if s.Nodes[i].ID == st.Node {
				one.Parts = partsPlanned(st.Parts, s.Nodes[i].Devices)
			}
		}
		out.Stages = append(out.Stages, one)
	}
}

// planOf is a plan of this head with what was measured.
func (n *Node) planOf(a *active) api.Plan {
	s := n.plans.snapshot(a.model)
	now, err := scheduler.Price(s, shape(a.model), stagesPlanned(a))
	out := api.Plan{Model: a.model.entry.Name, State: a.State(), Head: n.name(), Copies: n.copiesOf(a), Replies: a.load(told(n.known(a.model), a))}
	a.mu.Lock()
	defer a.mu.Unlock()
	out.Generation = a.spec.GetId().GetGeneration()
	out.MeasTTFTms, out.MeasTPOTms = a.ttft.v, a.tpot.v
	why := slices.Clone(a.plan.Why)
	if len(a.plan.Stages) == 0 {
		why = []string{"the plan of " + n.nodeName(a.spec.GetId().GetOwner()) + " stands already and is used"}
	}
	if err == nil { // with what was measured since it was made
		fillPlan(&out, now, s)
	} else {
		out.Stages = n.stagesOf(a)
	}
	out.Why = why
	for i := range out.Stages {
		if g := n.toldOf(a.spec, i); g != nil {
			out.Stages[i].Parts = partsTold(g.Placed)
		}
	}
	for _, p := range n.worker.Stats().Plans {
		if !samePlan(p.Plan.Id, a.spec.GetId()) || p.Stage >= len(out.Stages) {
			continue
		}
		st := &out.Stages[p.Stage]
		st.Parts = n.partsOf(p.Needs.Places) // here it is known
		if len(p.StepTimes) > 0 && p.StepTimes[0].Rows == 1 {
			st.MeasStep = millis(p.StepTimes[0].Time)
		}
	}
	return out
}

// stages are a plan's stages for a reply.
func (n *Node) stages(a *active) []api.PlanStage {
	a.mu.Lock()
	defer a.mu.Unlock()
	return n.stagesOf(a)
}

func (n *Node) stagesOf(a *active) []api.PlanStage {
	var out []api.PlanStage
	for _, st := range a.spec.GetStages() {
		name := st.Name
		if name == "" {
			name = n.nodeName(st.Peer)
		}
		out = append(out, api.PlanStage{Node: st.Peer, Name: name, First: int(st.First), Last: int(st.Last)})
	}
	return out
}
