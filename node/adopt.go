package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/p2p/admission"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

// stallTime is how long another head's plan may load without getting on before
// it is no longer waited for.
const stallTime = 2 * time.Minute

// knownPlan is a plan that a record speaks of.
type knownPlan struct {
	generation uint64
	holder     string // a node that takes part in it
	ready      bool
}

// adopt finds the plan that stands in the mesh for a model, waiting for one
// that is being loaded; nil when there is none.
func (p *planner) adopt(ctx context.Context, a *active) (*weftv1.PlanSpec, error) {
	for _, k := range p.known(a.model) {
		spec, err := p.await(ctx, a, k.holder)
		if err != nil {
			return nil, err
		}
		if spec != nil {
			return spec, nil
		}
	}
	return nil, nil
}

// await asks a node for the plan it takes part in until that is ready; nil when
// the node has none (any more).
func (p *planner) await(ctx context.Context, a *active, holder string) (*weftv1.PlanSpec, error) {
	last, moved := &weftv1.PlanReply{}, time.Now()
	for time.Since(moved) < stallTime {
		actx, cancel := context.WithTimeout(ctx, askTimeout)
		r, err := p.asker.Ask(actx, holder, &weftv1.PlanRequest{Body: &weftv1.PlanRequest_Lookup{Lookup: &weftv1.Lookup{
			Model: a.model.entry.Model[:], Profile: profileProto(a.model.entry.Profile),
		}}}, nil)
		cancel()
		if err != nil {
			return nil, nil // gone: its record will be, too
		}
		spec := r.Existing
		if r.State != last.State || r.BytesDone != last.BytesDone {
			last, moved = r, time.Now()
		}
		switch r.State {
		case weftv1.PlanReply_READY:
			if err := p.check(a.model, spec, holder); err != nil {
				p.log.Warn("plan of another node is not used", "model", a.model.entry.Name, "holder", holder, "error", err)
				return nil, nil
			}
			a.set(spec)
			return spec, nil
		case weftv1.PlanReply_RESERVED, weftv1.PlanReply_FETCHING, weftv1.PlanReply_LOADING:
			a.report("loading", api.Progress{Phase: "load", Text: "waiting for the plan of " + p.name(spec.GetId().GetOwner()), Node: holder, Done: int64(r.BytesDone), Total: int64(r.BytesTotal), Unit: "bytes"})
		default:
			return nil, nil
		}
		select {
		case <-time.After(2 * pollEvery):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, nil
}

// check holds a plan that another node told of against the model and the mesh:
// prompts go to its stages.
func (p *planner) check(m *opened, spec *weftv1.PlanSpec, holder string) error {
	id := spec.GetId()
	if id == nil || !bytes.Equal(id.Model, m.entry.Model[:]) || !proto.Equal(id.Profile, profileProto(m.entry.Profile)) {
		return fmt.Errorf("a node told of a plan for another model")
	}
	next, takesPart := uint32(0), false
	for _, st := range spec.Stages {
		if err := p.computes(st.Peer); err != nil {
			return fmt.Errorf("a node told of a plan with %s: %w", p.name(st.Peer), err)
		}
		takesPart = takesPart || st.Peer == holder
		if st.First != next || st.Last < st.First {
			return fmt.Errorf("a node told of a plan with a gap at layer %d", next)
		}
		next = st.Last + 1
	}
	if !takesPart {
		return fmt.Errorf("a node told of a plan that it takes no part in")
	}
	if int(next) != m.config.Layers || int(spec.Layers) != m.config.Layers {
		return fmt.Errorf("a node told of a plan for %d layers, the model has %d", next, m.config.Layers)
	}
	return nil
}

func (a *active) set(spec *weftv1.PlanSpec) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spec, a.plan = spec, scheduler.Plan{} // nothing was predicted for it here
}

// computes is why a node may not be a stage, nil if it may: prompts are shown to
// members that joined to compute.
func (n *Node) computes(id string) error {
	if n.mesh == nil || id == n.plans.self {
		return nil
	}
	pid, err := peer.Decode(id)
	if err != nil {
		return err
	}
	if _, ok := n.mesh.gossip.Member(pid); !ok {
		return errors.New("it is not a live member")
	}
	if m, ok := n.mesh.host.Member(pid); ok && m.Role < admission.Compute {
		return errors.New("it joined as a client")
	}
	return nil
}
