package node

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/weft-mesh/weft/node/api"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

// Holders counts the nodes that a head knows to hold all of a model.
func Holders(r api.Running, ref string) int {
	n := r.(*Node)
	m, err := n.lib.open(context.Background(), ref, func(api.Progress) {})
	if err != nil {
		return 0
	}
	count := 0
	for _, node := range n.snapshot(m).Nodes {
		if n.holds(m, node.ID) {
			count++
		}
	}
	return count
}

// Copies counts the copies of a head.
func Copies(r api.Running) int {
	count := 0
	p := r.(*Node).plans
	for _, a := range p.list() {
		if p.isCopy(a) {
			count++
		}
	}
	return count
}

// StandingPlans are the plans that a node takes part in and that are no copies,
// by generation and owner.
func StandingPlans(r api.Running) []string {
	var out []string
	for _, p := range r.(*Node).worker.Stats().Plans {
		if !p.Plan.Copy {
			out = append(out, planName(p.Plan))
		}
	}
	return out
}

// StandingPlan is the plan that a head has of its only model, beside copies; "" if
// it has none or has taken a copy for it.
func StandingPlan(r api.Running) string {
	p := r.(*Node).plans
	for _, a := range p.list() {
		if !p.isCopy(a) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.spec.GetCopy() {
				return ""
			}
			return planName(a.spec)
		}
	}
	return ""
}

func planName(s *weftv1.PlanSpec) string {
	return fmt.Sprintf("%d of %s", s.GetId().GetGeneration(), s.GetId().GetOwner())
}

// RestCopies ends the copies of a head as if they had been idle for long.
func RestCopies(r api.Running) {
	p := r.(*Node).plans
	for _, a := range p.list() {
		if p.isCopy(a) && a.rest(0) {
			p.retire(a, "the copy was idle")
		}
	}
}

// Narrow makes a head plan with KV for that many positions.
func Narrow(r api.Running, positions int) {
	p := r.(*Node).plans
	p.mu.Lock()
	defer p.mu.Unlock()
	p.choose = func(s scheduler.Snapshot, m scheduler.Model) (scheduler.Plan, error) {
		plan, err := scheduler.Make(s, m)
		for i := range plan.Stages {
			plan.Stages[i].KVPositions = positions
		}
		return plan, err
	}
}

// Steady lets a head take all nodes for equally slow and near, so that what it
// chooses does not hang on what the machine is doing.
func Steady(r api.Running) {
	p := r.(*Node).plans
	snapshot := p.snapshot
	p.snapshot = func(m *opened) scheduler.Snapshot {
		s := snapshot(m)
		for i := range s.Nodes {
			n := &s.Nodes[i]
			n.DecodeBps, n.PrefillOps, n.Correction = 1e6, 1e9, 0
			s.Links[pair(s.Head, n.ID)] = scheduler.Link{RTT: time.Microsecond, Bandwidth: 1e9}
		}
		return s
	}
}

// Protocols are those that a node serves.
func Protocols(r api.Running) []protocol.ID { return r.(*Node).mesh.host.Protocols() }
