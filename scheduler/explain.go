package scheduler

import (
	"fmt"
	"time"
)

// sessionsRoom is how many full-context sessions KV room is made for at most.
const sessionsRoom = 4

// explain writes a draft out as a plan with its reasons.
func (g *grid) explain(d, solo *draft, out []string) Plan {
	p := Plan{TPOT: d.tpot, Back: g.back(d.order[len(d.order)-1])}
	prev := -1
	first := 0
	var slowest, through time.Duration
	for k, node := range d.order {
		a, b := g.layers(first, d.last[k])
		n := &g.nodes[node]
		st := Stage{Node: n.ID, Name: n.Name, First: a, Last: b, Bytes: g.m.weights(a, b), Step: g.m.step(n, a, b), Hop: g.into(prev, node)}
		p.Stages = append(p.Stages, st)
		pf := g.m.prefill(n, a, b, promptTokens)
		slowest = max(slowest, pf)
		through += pf
		p.TTFT += st.Hop
		prev, first = node, d.last[k]+1
	}
	// A prompt of one chunk passes the stages one after the other.
	p.TTFT += through + p.Back
	g.room(&p)
	p.Why = append(g.reasons(d, solo), out...)
	return p
}

// room sets the KV positions that every stage of the plan can hold: those of
// one session at least, of sessionsRoom at most.
func (g *grid) room(p *Plan) {
	positions := sessionsRoom * g.m.Context
	for i := range p.Stages {
		st := &p.Stages[i]
		layers := int64(st.Last - st.First + 1)
		if per := layers * g.m.KVBytes; per > 0 {
			free := g.free(st.Node) - st.Bytes - g.m.StepBytes
			positions = min(positions, int(free/per))
		}
	}
	positions = max(positions, g.m.Context)
	for i := range p.Stages {
		st := &p.Stages[i]
		st.KVPositions = positions
		st.KVBytes = int64(st.Last-st.First+1) * g.m.KVBytes * int64(positions)
	}
}

func (g *grid) free(id string) int64 {
	for i := range g.nodes {
		if g.nodes[i].ID == id {
			return g.nodes[i].MemFree
		}
	}
	return 0
}

// reasons says in words why d won.
func (g *grid) reasons(d, solo *draft) []string {
	var why []string
	switch {
	case len(d.order) == 1:
		why = append(why, fmt.Sprintf("%s holds the whole model and is the fastest node that does (%s a token): no split can be faster for one reply",
			g.nodes[d.order[0]].Name, ms(d.tpot)))
	case solo == nil:
		why = append(why, fmt.Sprintf("no single node has the %s that the model needs, so %d nodes share it",
			Size(g.m.need(0, len(g.m.LayerBytes)-1)), len(d.order)))
	default:
		why = append(why, fmt.Sprintf("%d nodes take %s a token; %s alone would take %s",
			len(d.order), ms(d.tpot), g.nodes[solo.order[0]].Name, ms(solo.tpot)))
	}
	if len(d.order) > 1 {
		why = append(why, "layers are split by measured speed within each node's memory")
	}
	if len(d.order) == 1 && len(g.nodes) > 1 {
		g.s.Stages = 2
		if b := g.split(); b != nil {
			why = append(why, fmt.Sprintf("splitting over 2 nodes would take %s a token", ms(b.tpot)))
		}
		g.s.Stages = 0
	}
	return why
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

// noRoom is the error when no plan fits.
func (g *grid) noRoom(nodes []Node, out []string) error {
	e := &NoRoomError{Model: g.m.Name, Need: g.m.need(0, len(g.m.LayerBytes)-1)}
	for _, n := range nodes {
		e.Have += n.MemFree
		e.Where = append(e.Where, fmt.Sprintf("%s has %s", n.Name, Size(n.MemFree)))
	}
	e.Where = append(e.Where, out...)
	return e
}
