package node

import (
	"slices"
	"sync"
	"time"

	"github.com/weft-mesh/weft/node/session"
	"github.com/weft-mesh/weft/scheduler"
)

// correctionTime is how long a measurement of a node counts: what slowed it down
// may have gone, and it gets another chance.
const correctionTime = 15 * time.Minute

// tempo is how long nodes take over what their speed promises, as this head
// measured it: by model, and, where weights weighed most, for any model. Nobody
// is asked, so nobody can lie about it.
type tempo struct {
	mu sync.Mutex // guards by
	by map[tempoKey]correction
}

type tempoKey struct{ node, model string } // no model: any

type correction struct {
	ratio float64
	at    time.Time
}

// note adds a measurement to the moving average.
func (t *tempo) note(node, model string, ratio float64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[tempoKey]correction{}
	}
	for k, c := range t.by {
		if now.Sub(c.at) > correctionTime {
			delete(t.by, k)
		}
	}
	key := tempoKey{node, model}
	c, ok := t.by[key]
	if ok {
		ratio = c.ratio + 0.5*(ratio-c.ratio)
	}
	t.by[key] = correction{ratio, now}
}

// of is a node's correction for a model, 0 when it was not measured.
func (t *tempo) of(node, model string, now time.Time) float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range []tempoKey{{node, model}, {node, ""}} {
		if c, ok := t.by[key]; ok && now.Sub(c.at) <= correctionTime {
			return c.ratio
		}
	}
	return 0
}

// correct fills a snapshot's corrections in.
func (t *tempo) correct(s *scheduler.Snapshot, model string, now time.Time) {
	for i := range s.Nodes {
		s.Nodes[i].Correction = t.of(s.Nodes[i].ID, model, now)
	}
}

// stepTimes are the times of decode steps of one position of a reply, from the
// head and back, that no other reply shared.
type stepTimes []time.Duration

// Bounds of a reply's step times.
const (
	fewSteps = 4  // fewer tell nothing
	mostKept = 64 // the last ones
)

func (s *stepTimes) add(d time.Duration) {
	if len(*s) == mostKept {
		*s = slices.Delete(*s, 0, 1)
	}
	*s = append(*s, d)
}

// median is the middle one, 0 for too few.
func (s *stepTimes) median() time.Duration {
	if len(*s) < fewSteps {
		return 0
	}
	sorted := slices.Sorted(slices.Values(*s))
	return sorted[len(sorted)/2]
}

// time has the reply's decode steps timed, beside what measures them already.
func (g *generation) time(r *session.Spec) {
	next := r.Measured
	r.Measured = func(m session.Measure) {
		if m.Width == 1 && m.Rows == 1 && m.Latency > 0 {
			g.steps.add(m.Latency)
		}
		if next != nil {
			next(m)
		}
	}
}

// learn takes what the steps of a plan took, 0 for nothing.
func (p *planner) learn(a *active, step time.Duration) {
	if step <= 0 {
		return
	}
	x := scheduler.Measure{Stages: stagesPlanned(a), Step: step, Known: map[string]time.Duration{}}
	if took := p.ownStep(a); took > 0 {
		x.Known[p.self] = took
	}
	by, weighty, err := scheduler.Correct(p.snapshot(a.model), shape(a.model), x)
	if err != nil {
		p.log.Debug("plan not measured", "model", a.model.entry.Name, "error", err)
		return
	}
	model, now := slotOf(a.model.entry.Model, a.model.entry.Profile), time.Now()
	for node, ratio := range by {
		p.tempo.note(node, model, ratio, now)
		if weighty {
			p.tempo.note(node, "", ratio, now)
		}
	}
}

// stagesPlanned are a plan's stages for the scheduler.
func stagesPlanned(a *active) []scheduler.Stage {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []scheduler.Stage
	for _, st := range a.spec.GetStages() {
		out = append(out, scheduler.Stage{Node: st.Peer, First: int(st.First), Last: int(st.Last), KVPositions: int(st.KvPositions)})
	}
	return out
}

// price is what a plan is predicted to take now.
func (p *planner) price(a *active) (scheduler.Plan, error) {
	return scheduler.Price(p.snapshot(a.model), shape(a.model), stagesPlanned(a))
}

// ownStep is how long this node's own stage of a plan takes for one position, 0
// when it has none or has not measured it.
func (n *Node) ownStep(a *active) time.Duration {
	a.mu.Lock()
	generation := a.spec.GetId().GetGeneration()
	a.mu.Unlock()
	for _, p := range n.worker.Stats().Plans {
		if p.Plan.Id.Generation == generation && string(p.Plan.Id.Model) == string(a.model.entry.Model[:]) && len(p.StepTimes) > 0 && p.StepTimes[0].Rows == 1 {
			return p.StepTimes[0].Time
		}
	}
	return 0
}

// acceptanceTokens is how many tokens have to be generated before the share of
// them that was drafted counts.
const acceptanceTokens = 1000

// acceptance is the share of this head's tokens that were drafted and accepted.
func (n *Node) acceptance() float64 {
	generated := n.generated.Load()
	if generated < acceptanceTokens {
		return 0
	}
	return min(1, float64(n.accepted.Load())/float64(generated))
}
