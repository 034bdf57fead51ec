package scheduler

import (
	"fmt"
	"strings"
)

// NoRoomError says that no plan fits the memory of the mesh.
type NoRoomError struct {
	Model string
	Need  int64    // bytes for weights, and KV of one session
	Have  int64    // free bytes of all usable nodes
	Where []string // in words, a node each
}

func (e *NoRoomError) Error() string {
	msg := fmt.Sprintf("no plan for %s: it needs %s (weights and one session's KV)", e.Model, Size(e.Need))
	if e.Have < e.Need {
		msg += fmt.Sprintf(", the mesh offers %s: %s are missing", Size(e.Have), Size(e.Need-e.Have))
	} else {
		msg += fmt.Sprintf("; %s are free in all, but not in pieces that whole layers fit", Size(e.Have))
	}
	if len(e.Where) > 0 {
		msg += " (" + strings.Join(e.Where, "; ") + ")"
	}
	return msg + ". Start weft on another machine, offer more with --memory, or add the model with a smaller --ctx"
}

// Make plans a model over a snapshot's nodes. The error is a *NoRoomError when
// memory is lacking.
func Make(s Snapshot, m Model) (Plan, error) { return plan(s, m, exactNodes) }

func plan(s Snapshot, m Model, exact int) (Plan, error) {
	if err := check(&s, &m); err != nil {
		return Plan{}, err
	}
	nodes, out := usable(&s, &m)
	g := newGrid(&s, &m, nodes)
	g.exact = exact
	solo := g.solo()
	var best *draft
	if s.Stages <= 1 {
		best = solo
	}
	if s.Stages != 1 {
		// Small fast nodes together can beat a large slow one; but what can be
		// lost has to be worth it.
		if b := g.split(); b != nil && (best == nil || float64(b.tpot)*Gain < float64(best.tpot)) {
			if even := g.balance(b); best == nil || even.tpot < best.tpot {
				b = even
			}
			best = b
		}
	}
	if best == nil {
		return Plan{}, g.noRoom(nodes, out)
	}
	return g.explain(best, solo, out), nil
}
