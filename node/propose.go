package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/api"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

// findings are what nodes turned out to be while one plan is made.
type findings struct {
	mu sync.Mutex // guards at
	at map[string]finding
}

// finding is about one node.
type finding struct {
	short int64  // bytes that it has less than its record says
	fails int    // times that it did not take its part
	why   string // for the last time
}

// failsOften is how often a node may fail to take its part: what it lacked once,
// such as a source of weights, may be there a moment later.
const failsOften = 2

// note adds what a stage has answered.
func (f *findings) note(peer string, short int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.at[peer]
	e.short += max(0, short)
	var won *supersededError
	if err != nil && short == 0 && !errors.As(err, &won) {
		e.fails, e.why = e.fails+1, err.Error()
	}
	f.at[peer] = e
}

// apply corrects a snapshot.
func (f *findings) apply(s *scheduler.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range s.Nodes {
		n := &s.Nodes[i]
		e := f.at[n.ID]
		n.MemFree -= e.short
		if n.Excluded == "" && e.fails >= failsOften {
			n.Excluded = e.why
		}
	}
}

// propose plans a model, reserves its stages and loads them; the plan is ready
// but for its probe. What nodes answer is added to found.
func (p *planner) propose(ctx context.Context, a *active, found *findings) (*weftv1.PlanSpec, error) {
	a.report(statePlanning, api.Progress{Phase: "plan", Text: "planning " + a.model.entry.Name})
	if p.awaits != nil {
		p.awaits(ctx)
	}
	s := p.snapshot(a.model)
	found.apply(&s)
	plan, err := p.plan(s, a.model)
	if err != nil {
		return nil, err
	}
	spec := p.spec(a.model, plan)
	a.mu.Lock()
	a.plan, a.spec = plan, spec
	a.mu.Unlock()
	if err := p.reserve(ctx, spec, found); err != nil {
		var won *supersededError
		if errors.As(err, &won) {
			return p.yield(ctx, a, spec, won)
		}
		p.release(ctx, spec, "not all stages could be reserved")
		return nil, err
	}
	if won := p.settle(ctx, a, spec); won != nil {
		return p.yield(ctx, a, spec, won)
	}
	if err := p.load(ctx, a, spec, found); err != nil {
		p.release(ctx, spec, "not all stages could be loaded")
		var won *supersededError
		if errors.As(err, &won) {
			return p.yield(ctx, a, spec, won)
		}
		return nil, err
	}
	// A node that was too slow to answer may have kept another head's plan secret.
	for _, r := range p.rivals(ctx, a, spec, rivalTime) {
		if r.ahead && !r.copy && before(r.spec.Id, spec.Id) {
			return p.yield(ctx, a, spec, r.won())
		}
	}
	return spec, nil
}

// spec writes a plan as the message that its stages get.
func (p *planner) spec(m *opened, plan scheduler.Plan) *weftv1.PlanSpec {
	spec := &weftv1.PlanSpec{
		Id:     &weftv1.PlanID{Model: m.entry.Model[:], Profile: profileProto(m.entry.Profile), Generation: p.nextGeneration(m), Owner: p.self},
		Layers: uint32(m.config.Layers), Name: m.entry.Name,
	}
	for _, st := range plan.Stages {
		spec.Stages = append(spec.Stages, &weftv1.StageSpec{
			Peer: st.Node, Name: st.Name, First: uint32(st.First), Last: uint32(st.Last), KvPositions: uint64(st.KVPositions) / kernels.BlockPositions * kernels.BlockPositions,
		})
	}
	return spec
}

// maxGeneration bounds what records may say, so that counting on cannot overflow.
const maxGeneration = 1 << 62

// nextGeneration is higher than every generation that is known.
func (p *planner) nextGeneration(m *opened) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.known(m) {
		if k.generation < maxGeneration { // a larger one is nobody's count
			p.generation = max(p.generation, k.generation)
		}
	}
	p.generation++
	return p.generation
}

// supersededError is another head's plan that stands in the way.
type supersededError struct {
	by     *weftv1.PlanSpec
	holder string
}

func (e *supersededError) Error() string {
	return fmt.Sprintf("the plan of %s came first", e.by.GetId().GetOwner())
}

// yield gives this head's own plan up for the one that came first.
func (p *planner) yield(ctx context.Context, a *active, own *weftv1.PlanSpec, won *supersededError) (*weftv1.PlanSpec, error) {
	p.release(ctx, own, "another head's plan came first")
	spec, err := p.await(ctx, a, won.holder)
	if err == nil && spec == nil {
		err = fmt.Errorf("%w, and was given up", won)
	}
	return spec, err
}

// each asks all stages at once and gives the first error, a superseding plan
// before others.
func each(spec *weftv1.PlanSpec, f func(i int, st *weftv1.StageSpec) error) error {
	errs := make([]error, len(spec.Stages))
	var wg sync.WaitGroup
	for i, st := range spec.Stages {
		wg.Go(func() { errs[i] = f(i, st) })
	}
	wg.Wait()
	var first error
	for _, err := range errs {
		var won *supersededError
		if errors.As(err, &won) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// reserve is phase one.
func (p *planner) reserve(ctx context.Context, spec *weftv1.PlanSpec, found *findings) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return each(spec, func(i int, st *weftv1.StageSpec) error {
		r, err := p.asker.Ask(ctx, st.Peer, &weftv1.PlanRequest{Body: &weftv1.PlanRequest_Reserve{Reserve: &weftv1.Reserve{Plan: spec, Stage: uint32(i)}}}, nil)
		if err != nil {
			return fmt.Errorf("reserve layers %d to %d on %s: %w", st.First, st.Last, st.Name, err)
		}
		err = outcome(r, st, spec, weftv1.PlanReply_RESERVED)
		found.note(st.Peer, int64(r.MissingBytes), err)
		return err
	})
}

// errStalled ends the loading of a stage that does not get on.
var errStalled = fmt.Errorf("it has not got on with it for %v", stallTime)

// load is phase two: every stage fetches what it lacks and loads. It may take
// as long as it gets on.
func (p *planner) load(ctx context.Context, a *active, spec *weftv1.PlanSpec, found *findings) error {
	return each(spec, func(_ int, st *weftv1.StageSpec) error {
		r, err := p.commit(ctx, a, spec, st)
		if err != nil {
			err = fmt.Errorf("load layers %d to %d on %s: %w", st.First, st.Last, st.Name, err)
			if errors.Is(err, errStalled) {
				found.note(st.Peer, 0, err)
			}
			return err
		}
		err = outcome(r, st, spec, weftv1.PlanReply_READY)
		if r.State != weftv1.PlanReply_RELEASED && r.State != weftv1.PlanReply_NONE { // others may have made it so
			found.note(st.Peer, 0, err)
		}
		return err
	})
}

// commit has one stage loaded and reports how it gets on.
func (p *planner) commit(ctx context.Context, a *active, spec *weftv1.PlanSpec, st *weftv1.StageSpec) (*weftv1.PlanReply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(stallTime, func() { cancel(errStalled) })
	defer stall.Stop()
	last := &weftv1.PlanReply{}
	r, err := p.asker.Ask(ctx, st.Peer, &weftv1.PlanRequest{Body: &weftv1.PlanRequest_Commit{Commit: &weftv1.Commit{Id: spec.Id}}}, func(r *weftv1.PlanReply) {
		if r.State != last.State || r.BytesDone != last.BytesDone {
			last = r
			stall.Reset(stallTime)
		}
		pr := api.Progress{Phase: "load", Text: fmt.Sprintf("loading layers %d-%d on %s", st.First, st.Last, st.Name), Node: st.Name, Done: int64(r.BytesDone), Total: int64(r.BytesTotal), Unit: "bytes"}
		state := stateLoading
		if r.State == weftv1.PlanReply_FETCHING && r.BytesTotal > 0 { // before that it only looks what it has
			pr.Phase, pr.Text = "fetch", fmt.Sprintf("%s fetches layers %d-%d", st.Name, st.First, st.Last)
			state = stateFetching
		}
		if r.BytesTotal > 0 {
			state += fmt.Sprintf(" %d%%", 100*min(r.BytesDone, r.BytesTotal)/r.BytesTotal)
		}
		a.report(state, pr)
	})
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errStalled) {
		err = cause
	}
	return r, err
}

// outcome is the error that a stage's reply means, if it is not the wanted one.
func outcome(r *weftv1.PlanReply, st *weftv1.StageSpec, spec *weftv1.PlanSpec, want weftv1.PlanReply_State) error {
	switch {
	case r.State == want, r.State == weftv1.PlanReply_READY:
		return nil
	case r.State == weftv1.PlanReply_CONFLICT && r.Existing != nil && !proto.Equal(r.Existing.Id, spec.Id):
		return &supersededError{by: r.Existing, holder: st.Peer}
	case r.Error != "":
		return fmt.Errorf("%s cannot take layers %d to %d: %s", st.Name, st.First, st.Last, r.Error)
	default:
		return fmt.Errorf("%s cannot take layers %d to %d: it answered %s", st.Name, st.First, st.Last, r.State)
	}
}

// shape is what the scheduler needs to know of a model.
func shape(m *opened) scheduler.Model {
	c, p := m.config, m.entry.Profile
	s := scheduler.Model{
		Name: m.entry.Name, LayerBytes: m.sizes.Layers, EmbedBytes: m.sizes.Embed, HeadBytes: m.sizes.Head, Tied: c.Tied,
		KVBytes:     c.KVLayout(p, c.All()).BlockBytes() / int64(c.Layers) / 16,
		StepBytes:   c.WorkBytes(p, c.All(), maxRows) + m.sizes.Shared,
		HiddenBytes: int64(4 * c.Embd),
		// Stages hold whole blocks.
		Context: (p.Context + kernels.BlockPositions - 1) / kernels.BlockPositions * kernels.BlockPositions,
	}
	attn := 2 * int64(c.Embd) * int64(c.HeadDim) * int64(c.Heads+c.KVHeads)
	for range c.Layers {
		s.LayerMacs = append(s.LayerMacs, attn+c.FeedForwardMacs())
	}
	if c.HasExperts() {
		for l := range c.Layers {
			one := m.sizes.Read(l, 1)
			s.LayerReads, s.LayerMore = append(s.LayerReads, one), append(s.LayerMore, m.sizes.Read(l, 2)-one)
		}
	}
	return s
}
