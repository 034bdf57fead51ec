package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// reserve answers a proposal: phase one. It waits for the Loader to say what the
// stage takes.
func (w *Worker) reserve(ctx context.Context, from string, m *weftv1.Reserve) *weftv1.PlanReply {
	spec := m.GetPlan()
	if err := checkPlan(spec); err != nil {
		return refused("%v", err)
	}
	if spec.Id.Owner != from {
		return refused("the plan's owner is %s, not %s", spec.Id.Owner, from)
	}
	i := int(m.Stage)
	if i >= len(spec.Stages) || spec.Stages[i].Peer != w.self {
		return refused("stage %d of the plan is not this node", i)
	}
	if r := w.standing(spec); r != nil {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.NeedsTime)
	defer cancel()
	needs, err := w.needs(ctx, stageSpec(spec, i))
	if err != nil {
		return refused("%v", err)
	}
	return w.enter(&plan{key: slotOf(spec.Id.Model, spec.Id.Profile), spec: proto.CloneOf(spec), stage: i, needs: needs})
}

// needs asks the Loader, for a few proposals at once.
func (w *Worker) needs(ctx context.Context, s StageSpec) (Needs, error) {
	select {
	case w.asking <- struct{}{}:
		defer func() { <-w.asking }()
		return w.cfg.Loader.Needs(ctx, s)
	case <-ctx.Done():
		return Needs{}, errors.New("this node is busy with other proposals; try again")
	}
}

// stageSpec is what the Loader is told.
func stageSpec(s *weftv1.PlanSpec, i int) StageSpec {
	st := s.Stages[i]
	out := StageSpec{
		Profile: s.Id.Profile, Name: s.Name, Layers: int(s.Layers), Owner: s.Id.Owner,
		First: int(st.First), Last: int(st.Last), KVPositions: int(st.KvPositions),
	}
	copy(out.Model[:], s.Id.Model)
	return out
}

func refused(format string, args ...any) *weftv1.PlanReply {
	return &weftv1.PlanReply{State: weftv1.PlanReply_REFUSED, Error: fmt.Sprintf(format, args...)}
}

// standing answers a proposal that its slot already settles; nil: it does not.
func (w *Worker) standing(spec *weftv1.PlanSpec) *weftv1.PlanReply {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return refused("the node is shutting down")
	}
	switch v, p := w.book.judge(slotOf(spec.Id.Model, spec.Id.Profile), spec, w.cfg.Alive); v {
	case same:
		return p.reply()
	case conflict:
		return &weftv1.PlanReply{State: weftv1.PlanReply_CONFLICT, Existing: p.spec, Error: "another plan of this model stands"}
	}
	return nil
}

// enter puts a reservation into the book, clearing away what it supersedes and,
// where memory lacks, idle plans.
func (w *Worker) enter(p *plan) *weftv1.PlanReply {
	for {
		p.changed = make(chan struct{})
		w.mu.Lock()
		victim, reason, reply := w.try(p)
		w.mu.Unlock()
		if victim == nil {
			return reply
		}
		w.release(victim, reason)
	}
}

// try enters p, or names a plan that has to be released first; mu is held.
func (w *Worker) try(p *plan) (victim *plan, reason string, reply *weftv1.PlanReply) {
	if w.closed {
		return nil, "", refused("the node is shutting down")
	}
	v, old := w.book.judge(p.key, p.spec, w.cfg.Alive)
	switch v {
	case same:
		return nil, "", old.reply()
	case conflict:
		return nil, "", &weftv1.PlanReply{State: weftv1.PlanReply_CONFLICT, Existing: old.spec, Error: "another plan of this model stands"}
	case supersedes:
		return old, fmt.Sprintf("plan %d of %s takes its place", p.spec.Id.Generation, p.spec.Id.Owner), nil
	}
	if victim, reason, reply := w.makeRoom(p); victim != nil || reply != nil {
		return victim, reason, reply
	}
	w.book.plans[p.key] = p
	p.set(reserved, time.Now())
	return nil, "", p.reply()
}

// makeRoom says whether p has room in the machine's memory and on its devices: all
// nil, or the idle plan that has to go first, or why there is none; mu is held.
func (w *Worker) makeRoom(p *plan) (victim *plan, reason string, reply *weftv1.PlanReply) {
	const reasonIdle = "its memory is needed for another model"
	idle := w.book.idle(p.key)
	need, used, offered := p.needs.Machine(), w.book.used(), w.cfg.Offered()
	if used+need > offered {
		var back uint64
		for _, q := range idle {
			back += q.needs.Machine()
		}
		if used-back+need > offered {
			missing := used - back + need - offered
			r := refused("%d bytes of memory are missing: the stage takes %d (weights %d, KV %d, activations %d), %d are offered, %d are in use; offer more, free a model, or give this node fewer layers",
				missing, need, p.needs.Weights, p.needs.KV, p.needs.Activations, offered, used-back)
			r.MissingBytes = missing
			return nil, "", r
		}
		return idle[0], reasonIdle, nil
	}
	for _, at := range p.needs.Places {
		need, used, room := p.needs.On(at.Device), w.book.usedOn(at.Device), w.cfg.Room(at.Device)
		if !at.Own || used+need <= room {
			continue
		}
		for _, q := range idle {
			if q.needs.On(at.Device) > 0 {
				return q, reasonIdle, nil
			}
		}
		return nil, "", refused("%d bytes are missing on the node's device %d, which had them a moment ago; propose again", used+need-room, at.Device)
	}
	return nil, "", nil
}

// reply is the plan's state as a message; Worker.mu is held.
func (p *plan) reply() *weftv1.PlanReply {
	r := &weftv1.PlanReply{BytesDone: p.done, BytesTotal: p.total}
	switch p.state {
	case reserved:
		r.State = weftv1.PlanReply_RESERVED
	case loading:
		r.State = weftv1.PlanReply_FETCHING
		if p.phase == Loading {
			r.State = weftv1.PlanReply_LOADING
		}
	case ready:
		r.State = weftv1.PlanReply_READY
	case failed:
		r.State, r.Error = weftv1.PlanReply_FAILED, p.err.Error()
	case released:
		r.State, r.Error = weftv1.PlanReply_RELEASED, p.reason
	}
	return r
}

// commit begins phase two if that has not happened, and returns the plan to
// watch, or an answer.
func (w *Worker) commit(from string, id *weftv1.PlanID) (*plan, *weftv1.PlanReply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.book.find(id)
	switch {
	case p == nil:
		return nil, w.missing(id)
	case p.spec.Id.Owner != from:
		return nil, refused("only its owner %s commits a plan", p.spec.Id.Owner)
	case p.state != reserved:
		return p, nil
	case w.closed:
		return nil, refused("the node is shutting down")
	}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(w.ctx)
	p.stopped = make(chan struct{})
	p.set(loading, time.Now())
	w.wg.Go(func() {
		defer close(p.stopped)
		w.load(ctx, p)
	})
	return p, nil
}

// missing answers about a plan that is not here: a winner in its slot is named;
// mu is held.
func (w *Worker) missing(id *weftv1.PlanID) *weftv1.PlanReply {
	if p := w.book.plans[slotOf(id.GetModel(), id.GetProfile())]; p != nil {
		return &weftv1.PlanReply{State: weftv1.PlanReply_CONFLICT, Existing: p.spec, Error: "another plan of this model took its place"}
	}
	return &weftv1.PlanReply{State: weftv1.PlanReply_NONE, Error: "no such plan on this node"}
}

// load runs the Loader for a committed plan.
func (w *Worker) load(ctx context.Context, p *plan) {
	start := time.Now()
	spec := stageSpec(p.spec, p.stage)
	spec.Reserved = p.needs
	l, err := w.cfg.Loader.Load(ctx, spec, func(phase Phase, done, total uint64) {
		w.mu.Lock()
		defer w.mu.Unlock()
		p.phase, p.done, p.total = phase, done, total
		p.notify()
	})
	if err == nil {
		err = l.check()
	}
	defer w.cfg.Changed() // runs after the unlock below
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil && p.state == loading:
		p.err = err
		p.set(failed, time.Now())
		w.cfg.Log.Warn("stage not loaded", "model", p.spec.Name, "first", p.spec.Stages[p.stage].First, "last", p.spec.Stages[p.stage].Last, "error", err)
	case err == nil && p.state == loading:
		if l.Needs != nil {
			p.needs = *l.Needs
		}
		p.served = newServed(w, p, l)
		p.idle = time.Now()
		p.set(ready, time.Now())
		w.cfg.Log.Info("stage loaded", "model", p.spec.Name, "first", p.spec.Stages[p.stage].First, "last", p.spec.Stages[p.stage].Last, "took", time.Since(start))
	case err == nil: // released meanwhile
		w.wg.Go(l.free)
	}
}

// check refuses a loaded stage that could not be served.
func (l *Loaded) check() error {
	if l == nil || l.Stage == nil || l.Embd <= 0 || l.Vocab <= 0 || l.Context <= 0 || l.MaxRows <= 0 || l.Blocks <= 0 || l.KV == nil {
		return errors.New("the loader gave an incomplete stage")
	}
	return nil
}

// free closes the stage while nothing else uses its device.
func (l *Loaded) free() {
	if l.Device != nil {
		l.Device.Lock()
		defer l.Device.Unlock()
	}
	_ = l.Stage.Close()
	if l.Free != nil {
		l.Free()
	}
}

// release takes a plan out of the book, ends its chains and frees its stage. It
// waits for a step or a load that is under way.
func (w *Worker) release(p *plan, reason string) {
	w.mu.Lock()
	if p.state == released {
		w.mu.Unlock()
		return
	}
	if w.book.plans[p.key] == p {
		delete(w.book.plans, p.key)
	}
	p.reason = reason
	cancel, stopped, s := p.cancel, p.stopped, p.served
	p.set(released, time.Now())
	w.mu.Unlock()
	if cancel != nil {
		cancel()
		<-stopped
	}
	if s != nil {
		s.close(reason)
	}
	w.cfg.Log.Info("plan released", "model", p.spec.Name, "generation", p.spec.Id.Generation, "reason", reason)
	w.cfg.Changed()
}

// releaseBy answers a request to give a plan back. A finished plan goes when no
// other head uses it: whoever asks has found that it does not work for him, and
// the heads for which it does are not to lose their replies over that. One that
// is being made is its owner's.
func (w *Worker) releaseBy(from string, m *weftv1.Release) *weftv1.PlanReply {
	w.mu.Lock()
	p := w.book.find(m.GetId())
	var no *weftv1.PlanReply
	switch {
	case p == nil:
		no = &weftv1.PlanReply{State: weftv1.PlanReply_NONE, Error: "no such plan on this node"}
	case p.served != nil && p.served.usedByOthers(from):
		no = refused("another head uses the plan")
	case p.spec.Id.Owner != from && (p.state == reserved || p.state == loading) && w.cfg.Alive(p.spec.Id.Owner):
		no = refused("the plan's owner is %s, which is making it, and lives", p.spec.Id.Owner)
	}
	w.mu.Unlock()
	if no != nil {
		return no
	}
	w.release(p, "released by "+from+": "+clip(m.Reason, maxReason))
	return &weftv1.PlanReply{State: weftv1.PlanReply_RELEASED}
}

// lookup answers with the finished or unfinished plan of a model, if its nodes
// live.
func (w *Worker) lookup(m *weftv1.Lookup) *weftv1.PlanReply {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.book.plans[slotOf(m.GetModel(), m.GetProfile())]
	if p == nil || p.broken(w.cfg.Alive) {
		return &weftv1.PlanReply{State: weftv1.PlanReply_NONE, Error: "no plan of this model on this node"}
	}
	r := p.reply()
	r.Existing = p.spec
	return r
}

// Release gives a plan of this node back, for the daemon: when a user frees a
// model. It returns false when there is none of that id.
func (w *Worker) Release(id *weftv1.PlanID, reason string) bool {
	w.mu.Lock()
	p := w.book.find(id)
	w.mu.Unlock()
	if p == nil {
		return false
	}
	w.release(p, reason)
	return true
}

// DropIdle gives back the stage that no chain has used for longest, except one of
// the model and profile that are named: its weights may leave the disk then. It
// returns false when there is none, and waits until the stage is gone.
func (w *Worker) DropIdle(except StageSpec, reason string) bool {
	w.mu.Lock()
	idle := w.book.idle(slotOf(except.Model[:], except.Profile))
	idle = slices.DeleteFunc(idle, func(p *plan) bool { return p.state != ready })
	w.mu.Unlock()
	if len(idle) == 0 {
		return false
	}
	w.release(idle[0], reason)
	return true
}
