package worker

import (
	"cmp"
	"slices"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard/kv"
)

// Stats is what a worker does now.
type Stats struct {
	Plans []PlanStats
	// ReservedBytes is the memory of all plans, of OfferedBytes.
	ReservedBytes, OfferedBytes uint64
}

// PlanStats is one plan on this node.
type PlanStats struct {
	Plan   *weftv1.PlanSpec // not to be changed
	Stage  int              // index of this node
	State  weftv1.PlanReply_State
	Error  string
	Needs  Needs
	Done   uint64 // bytes fetched or loaded, of Total, while loading
	Total  uint64
	Chains int
	// The rest is of loaded stages.
	Sessions      int
	QueuedRows    int // positions that wait for a step
	KV            kv.Stats
	Steps, Rows   uint64
	Busy          time.Duration // in steps, all together
	StepTimes     []StepTime    // by width, narrow first
	PrefillPerRow time.Duration
}

// StepTime is the moving average of steps of up to Rows rows and more than half
// of that.
type StepTime struct {
	Rows int
	Time time.Duration
}

// Stats is a snapshot, plans ordered by name and generation.
func (w *Worker) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := Stats{ReservedBytes: w.book.used(), OfferedBytes: w.cfg.Offered()}
	for _, p := range w.book.plans {
		r := p.reply()
		ps := PlanStats{
			Plan: p.spec, Stage: p.stage, State: r.State, Error: r.Error, Needs: p.needs,
			Done: p.done, Total: p.total, Chains: p.attached,
		}
		if p.served != nil {
			p.served.stats(&ps)
		}
		out.Plans = append(out.Plans, ps)
	}
	slices.SortFunc(out.Plans, func(a, b PlanStats) int {
		return cmp.Or(cmp.Compare(a.Plan.Name, b.Plan.Name), ComparePlans(a.Plan.Id, b.Plan.Id))
	})
	return out
}

// Serving says whether any stage has a session.
func (w *Worker) Serving() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.book.plans {
		if p.served != nil && p.served.busy() {
			return true
		}
	}
	return false
}

func (s *served) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions) > 0
}

func (s *served) stats(out *PlanStats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Sessions = len(s.sessions)
	for _, list := range [][]*work{s.queue.decode, s.queue.prefill} {
		for _, w := range list {
			out.QueuedRows += w.left()
		}
	}
	out.KV = s.kv
	out.Steps, out.Rows, out.Busy, out.PrefillPerRow = s.meter.steps, s.meter.rows, s.meter.busy, s.meter.perRow
	for i, t := range s.meter.byWidth {
		if t > 0 {
			out.StepTimes = append(out.StepTimes, StepTime{Rows: 1 << i, Time: t})
		}
	}
}
