package scheduler

import (
	"fmt"
	"slices"
	"sort"
	"strings"
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
		st := Stage{Node: n.ID, Name: n.Name, First: a, Last: b, Hop: g.into(prev, node)}
		st.Parts, _ = g.m.lay(n, a, b, g.m.Context, false)
		st.Step = g.m.step(n, st.Parts)
		p.Stages = append(p.Stages, st)
		pf := g.m.prefill(n, st.Parts, promptTokens)
		slowest = max(slowest, pf)
		through += pf
		p.Row += g.m.row(n, st.Parts)
		p.TTFT += st.Hop
		prev, first = node, d.last[k]+1
	}
	// A prompt of one chunk passes the stages one after the other.
	p.TTFT += through + p.Back
	g.room(&p)
	p.Why = append(g.reasons(d, solo, p.Stages), out...)
	return p
}

// room sets the KV positions that every stage of the plan can hold: those of
// one session at least, of sessionsRoom at most, and where the layers lie then.
func (g *grid) room(p *Plan) {
	positions := sessionsRoom * g.m.Context
	for i := range p.Stages {
		st := &p.Stages[i]
		positions = min(positions, g.positions(g.node(st.Node), st, positions))
	}
	for i := range p.Stages {
		p.Stages[i].fill(g.m, g.node(p.Stages[i].Node), positions, false)
	}
}

// positions is for how many a stage has room without a layer that moves to another
// device, up to most.
func (g *grid) positions(n *Node, st *Stage, most int) int {
	layers := int64(st.Last - st.First + 1)
	if per := layers * g.m.KVBytes; len(n.Devices) == 0 && per > 0 {
		free := n.MemFree - g.m.weights(st.First, st.Last) - g.m.StepBytes
		return max(min(most, int(free/per)), g.m.Context)
	}
	if len(n.Devices) == 0 {
		return most
	}
	more := sort.Search(most-g.m.Context, func(k int) bool {
		parts, ok := g.m.lay(n, st.First, st.Last, g.m.Context+k+1, false)
		return !ok || !slices.EqualFunc(parts, st.Parts, func(a, b Part) bool { return a.Device == b.Device && a.First == b.First && a.Last == b.Last })
	})
	return g.m.Context + more
}

// node is a node of the grid by its id.
func (g *grid) node(id string) *Node {
	return &g.nodes[slices.IndexFunc(g.nodes, func(n Node) bool { return n.ID == id })]
}

// fill sets what a stage takes with KV for so many positions.
func (st *Stage) fill(m *Model, n *Node, positions int, loose bool) {
	st.KVPositions = positions
	st.Bytes, st.KVBytes = 0, int64(st.Last-st.First+1)*m.KVBytes*int64(positions)
	st.Parts, _ = m.lay(n, st.First, st.Last, positions, loose)
	for _, p := range st.Parts {
		st.Bytes += p.Bytes
	}
	if len(n.Devices) == 0 {
		st.Parts = nil // nothing to tell apart
	}
}

// reasons says in words why d won, and what the alternatives would cost.
func (g *grid) reasons(d, solo *draft, stages []Stage) []string {
	var why []string
	switch {
	case g.s.Stages > 0:
		why = append(why, fmt.Sprintf("%s were asked for; they take %s a token", count(len(d.order), "stage"), ms(d.tpot)))
	case len(d.order) == 1:
		why = append(why, fmt.Sprintf("%s holds the whole model and is the fastest node that does (%s a token)", g.nodes[d.order[0]].Name, ms(d.tpot)))
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
	why = append(why, g.places(stages)...)
	if a := g.s.Acceptance; a > 0 {
		why = append(why, fmt.Sprintf("%.0f%% of what is drafted ahead is accepted, so the slowest stage (%s) counts more than the sum of all", 100*a, ms(d.most)))
	}
	why = append(why, g.alternatives(d)...)
	return append(why, g.corrections()...)
}

// places says which layers lie on which devices of their nodes.
func (g *grid) places(stages []Stage) []string {
	var why []string
	for _, st := range stages {
		if len(st.Parts) == 0 {
			continue
		}
		n := g.node(st.Node)
		var list []string
		for _, p := range st.Parts {
			name := "the processor"
			if p.Device != Host {
				name = n.Devices[p.Device].Name
			}
			list = append(list, fmt.Sprintf("%s on %s", layerRange(p.First, p.Last), name))
		}
		why = append(why, fmt.Sprintf("%s computes layers %s", st.Name, strings.Join(list, ", ")))
	}
	return why
}

func layerRange(first, last int) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// alternatives says what other plans would cost: other nodes alone, and splits of
// one stage less and one more.
func (g *grid) alternatives(d *draft) []string {
	if g.s.Stages > 0 {
		return nil
	}
	why := g.others(d)
	for _, k := range []int{len(d.order) - 1, len(d.order) + 1} {
		if k < 2 || k > len(g.nodes) || k > len(g.ends) {
			continue
		}
		g.s.Stages, g.quick = k, true
		b := g.split()
		g.s.Stages, g.quick = 0, false
		switch {
		case b == nil:
			why = append(why, fmt.Sprintf("no %d nodes hold it", k))
		case len(d.order) == 1 && b.tpot >= d.tpot:
			why = append(why, fmt.Sprintf("splitting over %d nodes would be slower: %s a token over %s", k, ms(b.tpot), g.names(b)))
		case len(d.order) == 1:
			why = append(why, fmt.Sprintf("splitting over %d nodes would take %s a token over %s: not enough to make a reply depend on more nodes", k, ms(b.tpot), g.names(b)))
		default:
			why = append(why, fmt.Sprintf("%d nodes would take %s a token (%s)", k, ms(b.tpot), g.names(b)))
		}
	}
	return why
}

// othersShown is how many other nodes alone are spoken of.
const othersShown = 3

// others are the nodes that hold the whole model and would be slower alone.
func (g *grid) others(d *draft) []string {
	if len(d.order) > 1 {
		return nil
	}
	var why []string
	end := len(g.ends) - 1
	for i := range g.nodes { // fastest first
		step, ok := g.cost(i, 0, end)
		if !ok || i == d.order[0] || len(why) == othersShown {
			continue
		}
		why = append(why, fmt.Sprintf("%s alone would take %s a token, %s of it on the way", g.nodes[i].Name, ms(g.into(-1, i)+step+g.back(i)), ms(g.into(-1, i)+g.back(i))))
	}
	return why
}

// corrections tells of nodes that were measured to be slower or faster than they say.
func (g *grid) corrections() []string {
	var why []string
	for i := range g.nodes {
		switch n := &g.nodes[i]; {
		case n.Correction > correctionShown:
			why = append(why, fmt.Sprintf("%s takes %.1f times as long as its measured speed promises, and is planned with that", n.Name, n.Correction))
		case n.Correction > 0 && n.Correction < 1/correctionShown:
			why = append(why, fmt.Sprintf("%s is %.1f times as fast as its measured speed promises, and is planned with that", n.Name, 1/n.Correction))
		}
		if len(why) == othersShown {
			break
		}
	}
	return why
}

// correctionShown is the factor from which a correction is worth a line.
const correctionShown = 1.5

func (g *grid) names(d *draft) string {
	var names []string
	for _, i := range d.order {
		names = append(names, g.nodes[i].Name)
	}
	const most = 4
	if n := len(names); n > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", n-most)
	}
	return strings.Join(names, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

// noRoom is the error when no plan fits.
func (g *grid) noRoom(nodes []Node, out []string) error {
	e := &NoRoomError{Model: g.m.Name, Need: g.m.need(0, len(g.m.LayerBytes)-1)}
	for _, n := range nodes {
		e.Have += n.memory()
		e.Where = append(e.Where, fmt.Sprintf("%s has %s", n.Name, Size(n.memory())))
	}
	e.Where = append(e.Where, out...)
	return e
}
