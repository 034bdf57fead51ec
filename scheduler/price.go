package scheduler

import (
	"fmt"
	"slices"
	"time"
)

// Price predicts what a plan takes that stands: stages gives its nodes and their
// layers in order, and, if they are to be kept, KVPositions. Whether the nodes
// have room is not asked: a device's layers are those that it could hold alone.
func Price(s Snapshot, m Model, stages []Stage) (Plan, error) {
	if err := check(&s, &m); err != nil {
		return Plan{}, err
	}
	g := &grid{s: &s, m: &m}
	p := Plan{}
	prev, next := -1, 0
	var sum, most, through time.Duration
	for _, st := range stages {
		i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.ID == st.Node })
		switch {
		case i < 0:
			return Plan{}, fmt.Errorf("price a plan of %s: node %s is not known", m.Name, st.Node)
		case s.Nodes[i].DecodeBps <= 0:
			return Plan{}, fmt.Errorf("price a plan of %s: the speed of %s is not measured yet", m.Name, s.Nodes[i].Name)
		case st.First != next || st.Last < st.First || st.Last >= len(m.LayerBytes):
			return Plan{}, fmt.Errorf("price a plan of %s: layers %d to %d where %d is next", m.Name, st.First, st.Last, next)
		}
		n := s.Nodes[i].reading(&m)
		g.nodes = append(g.nodes, n)
		at := len(g.nodes) - 1
		st.Name, st.Hop = n.Name, g.into(prev, at)
		whole := n.whole()
		st.fill(&m, &whole, st.KVPositions, true)
		parts, _ := m.lay(&whole, st.First, st.Last, st.KVPositions, true)
		st.Step = m.step(&n, parts)
		pf := m.prefill(&n, parts, promptTokens)
		sum, most, through = sum+st.Step+st.Hop, max(most, st.Step), through+pf+st.Hop
		p.Row += m.row(&n, parts)
		p.Stages = append(p.Stages, st)
		prev, next = at, st.Last+1
	}
	if next != len(m.LayerBytes) {
		return Plan{}, fmt.Errorf("price a plan of %s: layers from %d on are missing", m.Name, next)
	}
	p.Back = g.back(prev)
	p.TPOT, p.TTFT = g.objective(sum+p.Back, most), through+p.Back
	return p, nil
}

// Measure is what was found out about a plan: how long a decode step of one
// position took from the head and back.
type Measure struct {
	Stages []Stage       // the plan
	Step   time.Duration // measured, all stages and hops
	// Known are steps that the head has measured itself, by node.
	Known map[string]time.Duration
}

// Bounds of corrections.
const (
	leastCorrection = 1.0 / 8
	mostCorrection  = 8
)

// Correct says how much longer each node of a measured plan takes over what its
// speed promises. What the head knows is told apart; the rest of the time is
// spread over the other nodes in proportion: which of them is to blame shows
// when they meet in other plans. Weighty says that the time for weights is long
// enough to tell anything of other models.
func Correct(s Snapshot, m Model, x Measure) (by map[string]float64, weighty bool, err error) {
	for i := range s.Nodes {
		if i == 0 {
			s.Nodes = slices.Clone(s.Nodes)
		}
		s.Nodes[i].Correction, s.Nodes[i].Sessions = 0, 0
	}
	p, err := Price(s, m, x.Stages)
	if err != nil {
		return nil, false, err
	}
	by = map[string]float64{}
	// Overheads are in what was promised and in what was measured, whatever the speed.
	ratio := func(took, promised, overhead time.Duration) float64 {
		return min(max(float64(took-overhead)/float64(max(promised-overhead, time.Microsecond)), leastCorrection), mostCorrection)
	}
	rest, promised, overheads := x.Step-p.Back, time.Duration(0), time.Duration(0)
	others := 0
	for _, st := range p.Stages {
		rest -= st.Hop
		if took, ok := x.Known[st.Node]; ok {
			by[st.Node] = ratio(took, st.Step, st.overhead())
			rest -= took
			continue
		}
		promised, overheads = promised+st.Step, overheads+st.overhead()
		others++
	}
	if others > 0 {
		r := ratio(rest, promised, overheads)
		for _, st := range p.Stages {
			if _, ok := x.Known[st.Node]; !ok {
				by[st.Node] = r
			}
		}
	}
	return by, p.TPOT > weightyTime, nil
}

// overhead is the part of a stage's step that no weights are read in.
func (st *Stage) overhead() time.Duration {
	return stageOverhead + time.Duration(max(0, len(st.Parts)-1))*partOverhead
}

// weightyTime is the promised time per token from which the rest of a step no
// longer matters beside the weights.
const weightyTime = 5 * time.Millisecond

// When a plan that stands gives way to a better one.
const (
	// replaceGain is how much faster the better one has to be.
	replaceGain = 1.25
	// replaceMore is added to it for each replacement of late: two plans that
	// are better in turn do not take turns for long.
	replaceMore = 0.25
	// replaceAge is how old a plan has to be.
	replaceAge = time.Minute
)

// Standing is a plan that is in use.
type Standing struct {
	TPOT     time.Duration // as the present snapshot prices it
	Age      time.Duration
	Replaced int // plans of the model that gave way of late
}

// Replace says whether a plan that stands should give way to one that would take
// tpot. A plan that was lost is no matter of this.
func Replace(old Standing, tpot time.Duration) bool {
	gain := replaceGain + replaceMore*float64(old.Replaced)
	return old.Age >= replaceAge && tpot > 0 && float64(tpot)*gain < float64(old.TPOT)
}
