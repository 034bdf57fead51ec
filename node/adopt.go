package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/p2p/admission"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

// stallTime is how long another head's plan may load without getting on before
// it is no longer waited for.
const stallTime = 2 * time.Minute

// rivalTime bounds how long other nodes are asked for plans of theirs.
const rivalTime = time.Second

// knownPlan is a plan that a record speaks of.
type knownPlan struct {
	generation uint64
	holder     string // a node that takes part in it
	ready      bool
	copy       bool     // it was made beside another plan
	stages     []string // nodes, in order
	sessions   int      // replies that it has, as far as its nodes have told
}

// adopt finds the plan that stands in the mesh for a model, waiting for one
// that is being loaded; nil when there is none.
func (p *planner) adopt(ctx context.Context, a *active) (*weftv1.PlanSpec, error) {
	for _, k := range p.known(a.model) {
		spec, err := p.await(ctx, a, k.holder)
		if err != nil {
			return nil, err
		}
		if spec != nil && p.whole(ctx, a, spec) {
			return spec, nil
		}
	}
	// Records may be behind: another head may have begun a moment ago.
	if r := foremost(p.rivals(ctx, a, nil, rivalTime)); r != nil {
		spec, err := p.await(ctx, a, r.holder)
		if spec != nil && !p.whole(ctx, a, spec) {
			spec = nil
		}
		return spec, err
	}
	return nil, nil
}

// whole says whether every stage of a plan still has it. One that stood still
// while the plan was given back has kept its part: what is left is given back.
func (p *planner) whole(ctx context.Context, a *active, spec *weftv1.PlanSpec) bool {
	actx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(rivalTime, cancel).Stop()
	var gone atomic.Bool
	var wg sync.WaitGroup
	for _, st := range spec.Stages {
		wg.Go(func() {
			r, err := p.asker.Ask(actx, st.Peer, lookupOf(a.model), nil)
			if err == nil && !proto.Equal(r.GetExisting().GetId(), spec.Id) {
				gone.Store(true)
			}
		})
	}
	wg.Wait()
	if gone.Load() {
		p.release(ctx, spec, "a stage does not hold it any more")
	}
	return !gone.Load()
}

// standing is the plan of the mesh for a model that this head does not use, nil
// when there is none. Nothing is waited for.
func (p *planner) standing(ctx context.Context, m *opened) *weftv1.PlanSpec {
	ctx, cancel := context.WithTimeout(ctx, rivalTime)
	defer cancel()
	for _, k := range p.known(m) {
		r, err := p.asker.Ask(ctx, k.holder, lookupOf(m), nil)
		if err == nil && r.Existing != nil && p.check(m, r.Existing, k.holder) == nil {
			return r.Existing
		}
	}
	return nil
}

func lookupOf(m *opened) *weftv1.PlanRequest {
	return &weftv1.PlanRequest{Body: &weftv1.PlanRequest_Lookup{Lookup: &weftv1.Lookup{
		Model: m.entry.Model[:], Profile: profileProto(m.entry.Profile),
	}}}
}

// await asks a node for the plan it takes part in until every stage of that is
// ready; nil when the node has none (any more).
func (p *planner) await(ctx context.Context, a *active, holder string) (*weftv1.PlanSpec, error) {
	r, err := p.underWay(ctx, a, holder, nil, askTimeout)
	if err != nil || r.GetState() != weftv1.PlanReply_READY {
		return nil, err
	}
	spec := r.Existing
	if err := p.check(a.model, spec, holder); err != nil {
		p.log.Warn("plan of another node is not used", "model", a.model.entry.Name, "holder", holder, "error", err)
		return nil, nil
	}
	// A probe that found a stage unready would have the plan given back. Of a stage
	// that does not answer the probe will tell.
	for _, st := range spec.Stages {
		if _, err := p.underWay(ctx, a, st.Peer, spec.Id, rivalTime); err != nil {
			return nil, err
		}
	}
	a.set(spec)
	return spec, nil
}

// underWay asks a node for its part of a plan, of that one where id is given, for
// as long as it is being made and gets on, and gives the last answer: nil when the
// node did not answer within patience, stands still or has another plan.
func (p *planner) underWay(ctx context.Context, a *active, peer string, id *weftv1.PlanID, patience time.Duration) (*weftv1.PlanReply, error) {
	last, moved := &weftv1.PlanReply{}, time.Now()
	for time.Since(moved) < stallTime {
		r, err := p.lookUp(ctx, a, peer, patience)
		if err != nil || id != nil && !proto.Equal(r.GetExisting().GetId(), id) {
			return nil, ctx.Err() // gone: its record will be, too
		}
		if r.State != last.State || r.BytesDone != last.BytesDone {
			last, moved = r, time.Now()
		}
		switch r.State {
		case weftv1.PlanReply_RESERVED, weftv1.PlanReply_FETCHING, weftv1.PlanReply_LOADING:
			a.report(progressOf(r), api.Progress{Phase: "load", Text: "waiting for the plan of " + p.name(r.Existing.GetId().GetOwner()), Node: peer, Done: int64(r.BytesDone), Total: int64(r.BytesTotal), Unit: "bytes"})
		default:
			return r, nil
		}
		select {
		case <-time.After(2 * pollEvery):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, nil
}

// lookUp asks a node once. One that does not answer in askTimeout is suspected, not
// one that is only slow.
func (p *planner) lookUp(ctx context.Context, a *active, peer string, patience time.Duration) (*weftv1.PlanReply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if patience < askTimeout {
		defer time.AfterFunc(patience, cancel).Stop()
	}
	return p.asker.Ask(ctx, peer, lookupOf(a.model), nil)
}

// progressOf is the state that a stage's answer means for its model.
func progressOf(r *weftv1.PlanReply) string {
	word := stateLoading
	switch r.State {
	case weftv1.PlanReply_RESERVED:
		return statePlanning
	case weftv1.PlanReply_FETCHING:
		word = stateFetching
	}
	if r.BytesTotal > 0 {
		word += fmt.Sprintf(" %d%%", 100*min(r.BytesDone, r.BytesTotal)/r.BytesTotal)
	}
	return word
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

// planPeers are the live nodes that speak the plan protocol, but for this one.
func (n *Node) planPeers() []string {
	var out []string
	for _, m := range n.members() {
		id := m.ID.String()
		if m.Record != nil && m.Record.Wire == WireVersion && m.Record.Contract == kernels.ContractVersion && !n.lost(id) {
			out = append(out, id)
		}
	}
	return out
}
