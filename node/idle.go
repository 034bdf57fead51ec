package node

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/weft-mesh/weft/node/session"
	"github.com/weft-mesh/weft/node/worker"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
	"github.com/weft-mesh/weft/shard/model"
)

const (
	// restTime is how long a plan is kept connected without a reply. After it
	// the stages stay loaded, but give way when memory is needed.
	restTime  = 5 * time.Minute
	restEvery = 15 * time.Second
	// idleTime is how long a plan must have been idle to give way to another
	// model of the same head.
	idleTime = time.Second
)

// use notes that a reply is about to begin, or says why the plan is of no use.
func (a *active) use() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastUsed = time.Now()
	return a.path.Err()
}

// idleFor says whether no reply has used the plan for d; a.mu is held.
func (a *active) idleFor(d time.Duration) bool {
	return a.path != nil && a.path.Err() == nil && a.users == 0 && a.path.Replies() == 0 && time.Since(a.lastUsed) >= d
}

// replies are those that cross the plan's path now.
func (a *active) replies() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.path == nil {
		return 0
	}
	return a.path.Replies()
}

// rest closes the path of a plan that was idle for d: use tells those who come
// now. It is false when the plan is in use.
func (a *active) rest(d time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.idleFor(d) {
		return false
	}
	a.path.Close()
	return true
}

// watch drops a ready plan when it loses a stage, so that the survivors are free
// before the next prompt comes, here or at another head; and lets an idle one
// rest.
func (p *planner) watch(a *active) {
	t := time.NewTicker(restEvery)
	defer t.Stop()
	for {
		select {
		case <-a.path.Done():
			if !errors.Is(a.path.Err(), session.ErrPathClosed) {
				p.drop(a)
			}
			return
		case <-p.ctx.Done():
			return
		case <-t.C:
			if p.isCopy(a) {
				if a.rest(copyRest) {
					p.retire(a, "the copy was idle")
					return
				}
				continue
			}
			if a.rest(restTime) {
				p.forget(a)
				return
			}
			if p.reconsider(a) {
				return
			}
		}
	}
}

// makeRoom gives back the plan that this head has not used for longest, when the
// model has room once all idle ones are gone.
func (p *planner) makeRoom(a *active) bool {
	idle := p.idle(a)
	if len(idle) == 0 {
		return false
	}
	s := p.snapshot(a.model)
	for _, b := range idle {
		b.uncount(&s)
	}
	if _, err := p.plan(s, a.model); err != nil {
		return false
	}
	for _, b := range idle {
		if b.rest(idleTime) {
			p.retire(b, "its memory is needed for another model")
			return true
		}
	}
	return false
}

// dropIdle gives back a stage of this node that nobody uses, so that its weights
// may leave the disk for those of another model: one without a chain, or one of a
// plan that this node heads and that has no reply.
func (n *Node) dropIdle(s worker.StageSpec) bool {
	const reason = "its room on the disk is needed for another model"
	if n.worker.DropIdle(s, reason) {
		return true
	}
	for _, a := range n.plans.idle(nil) {
		if a.model.entry.Model != s.Model && n.holdsStage(a) && a.rest(idleTime) {
			n.plans.retire(a, reason)
			return true
		}
	}
	return false
}

// holdsStage says whether this node computes a part of a plan.
func (n *Node) holdsStage(a *active) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.spec.GetStages(), func(st *weftv1.StageSpec) bool { return st.Peer == n.plans.self })
}

// idle lists the plans but a that nobody uses, least recently used first.
func (p *planner) idle(a *active) []*active {
	used := map[*active]time.Time{}
	var out []*active
	for _, b := range p.list() {
		b.mu.Lock()
		if b != a && b.idleFor(idleTime) {
			out = append(out, b)
			used[b] = b.lastUsed
		}
		b.mu.Unlock()
	}
	slices.SortFunc(out, func(x, y *active) int {
		return cmp.Or(used[x].Compare(used[y]), cmp.Compare(x.model.entry.Name, y.model.entry.Name))
	})
	return out
}

// uncount counts a plan's memory as free.
func (a *active) uncount(s *scheduler.Snapshot) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, st := range a.spec.GetStages() {
		for i := range s.Nodes {
			if s.Nodes[i].ID == st.Peer {
				s.Nodes[i].Return(int64(needsOf(a.model, stageRange(st), int(st.KvPositions)).Total()))
			}
		}
	}
}

func stageRange(st *weftv1.StageSpec) model.Range {
	return model.Range{First: int(st.First), End: int(st.Last) + 1}
}

// plan makes a plan of a snapshot.
func (p *planner) plan(s scheduler.Snapshot, m *opened) (scheduler.Plan, error) {
	p.mu.Lock()
	choose := p.choose
	p.mu.Unlock()
	if choose != nil {
		return choose(s, shape(m))
	}
	return scheduler.Make(s, shape(m))
}
