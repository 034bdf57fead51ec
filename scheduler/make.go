package scheduler

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// NoRoomError says that no plan fits the memory of the mesh.
type NoRoomError struct {
	Model string
	Need  int64    // bytes for weights, and KV of one session
	Have  int64    // free bytes of all usable nodes
	Where []string // in words, a node each
}

func (e *NoRoomError) Error() string {
	msg := fmt.Sprintf("no plan for %s: it needs %s (weights and one session's KV)", e.Model, Size(e.Need))
	if e.Have < e.Need {
		msg += fmt.Sprintf(", the mesh offers %s: %s are missing", Size(e.Have), Size(e.Need-e.Have))
	} else {
		msg += fmt.Sprintf("; %s are free in all, but not in pieces that whole layers fit", Size(e.Have))
	}
	if len(e.Where) > 0 {
		msg += " (" + strings.Join(e.Where, "; ") + ")"
	}
	return msg + ". Start weft on another machine, offer more with --memory, or add the model with a smaller --ctx"
}

// Make plans a model over a snapshot's nodes. The error is a *NoRoomError when
// memory is lacking.
func Make(s Snapshot, m Model) (Plan, error) {
	if err := check(&s, &m); err != nil {
		return Plan{}, err
	}
	nodes, out := usable(&s, &m)
	g := newGrid(&s, &m, nodes)
	best := g.solo()
	solo := best
	if s.Stages > 1 {
		best = nil
	}
	if s.Stages != 1 {
		// Small fast nodes together can beat a large slow one: the sum decides.
		if b := g.split(); b != nil && (best == nil || b.tpot < best.tpot) {
			best = b
		}
	}
	if best == nil {
		return Plan{}, g.noRoom(nodes, out)
	}
	return g.explain(best, solo, out), nil
}

// grid is one planning problem with its layers grouped into units.
type grid struct {
	s     *Snapshot
	m     *Model
	nodes []Node
	ends  []int // last layer of each unit
}

// draft is a candidate: nodes in order with the last unit of each.
type draft struct {
	order []int // index into nodes
	last  []int // last unit of each
	tpot  time.Duration
}

func newGrid(s *Snapshot, m *Model, nodes []Node) *grid {
	g := &grid{s: s, m: m, nodes: nodes}
	layers := len(m.LayerBytes)
	units := min(layers, maxUnits)
	for i := 1; i <= units; i++ {
		g.ends = append(g.ends, i*layers/units-1)
	}
	return g
}

// layers gives the layers of units first to last.
func (g *grid) layers(first, last int) (int, int) {
	if first == 0 {
		return 0, g.ends[last]
	}
	return g.ends[first-1] + 1, g.ends[last]
}

// cost is the step time of units on a node, or false when they do not fit.
func (g *grid) cost(node, first, last int) (time.Duration, bool) {
	a, b := g.layers(first, last)
	n := &g.nodes[node]
	if g.m.need(a, b) > n.MemFree {
		return 0, false
	}
	return g.m.step(n, a, b), true
}

// into is the hop into a node from the one before, -1 being the head.
func (g *grid) into(from, to int) time.Duration {
	if from < 0 {
		return g.s.hop(g.s.Head, g.nodes[to].ID, 64)
	}
	return g.s.hop(g.nodes[from].ID, g.nodes[to].ID, g.m.HiddenBytes)
}

func (g *grid) back(from int) time.Duration { return g.s.hop(g.nodes[from].ID, g.s.Head, 64) }

// solo is the best single node, or nil.
func (g *grid) solo() *draft {
	var best *draft
	end := len(g.ends) - 1
	for i := range g.nodes {
		step, ok := g.cost(i, 0, end)
		if !ok {
			continue
		}
		d := &draft{order: []int{i}, last: []int{end}, tpot: g.into(-1, i) + step + g.back(i)}
		if best == nil || d.tpot < best.tpot {
			best = d
		}
	}
	return best
}

// split is the best plan of two stages or more, or nil.
func (g *grid) split() *draft {
	var best *draft
	for _, order := range g.orders() {
		d := g.cut(order, math.MaxInt64)
		if d != nil && (best == nil || d.tpot < best.tpot) {
			best = d
		}
	}
	if best == nil {
		return nil
	}
	return g.balance(best)
}

// orders are the node orders to try: every one of up to exactNodes nodes where
// they are few, else the fastest that hold the model, fastest first.
func (g *grid) orders() [][]int {
	var out [][]int
	n := min(len(g.nodes), exactNodes)
	var extend func(order []int, used int)
	extend = func(order []int, used int) {
		if len(order) > 1 && (g.s.Stages == 0 || g.s.Stages == len(order)) && g.holds(order) && g.cut(order, math.MaxInt64) != nil {
			// A further node may still relieve a slow one.
			out = append(out, slices.Clone(order))
		}
		if len(order) == len(g.ends) || g.s.Stages > 0 && len(order) == g.s.Stages {
			return
		}
		for i := range n {
			if used&(1<<i) == 0 {
				extend(append(order, i), used|1<<i)
			}
		}
	}
	extend(nil, 0)
	if len(out) == 0 && len(g.nodes) > exactNodes {
		out = g.prefixes()
	}
	return out
}

// prefixes are the shortest lists of nodes, by speed and by memory, that hold
// the model.
func (g *grid) prefixes() [][]int {
	var out [][]int
	fast := make([]int, len(g.nodes))
	for i := range fast {
		fast[i] = i
	}
	large := slices.Clone(fast)
	slices.SortStableFunc(large, func(a, b int) int {
		return cmp.Or(cmp.Compare(g.nodes[b].MemFree, g.nodes[a].MemFree), cmp.Compare(g.nodes[a].ID, g.nodes[b].ID))
	})
	for _, all := range [][]int{fast, large} {
		for k := 2; k <= min(len(all), len(g.ends)); k++ {
			if g.s.Stages > 0 && k != g.s.Stages {
				continue
			}
			if g.cut(all[:k], math.MaxInt64) != nil {
				out = append(out, all[:k])
				break
			}
		}
	}
	return out
}

// holds is a quick bound: the nodes' memory reaches the model's.
func (g *grid) holds(order []int) bool {
	var have int64
	for _, i := range order {
		have += g.nodes[i].MemFree - g.m.StepBytes
	}
	return have >= g.m.need(0, len(g.m.LayerBytes)-1)-g.m.StepBytes
}

// cut finds the boundaries of least TPOT for an order of nodes, each taking at
// least one unit and no stage slower than limit; nil when there are none.
func (g *grid) cut(order []int, limit time.Duration) *draft {
	units, stages := len(g.ends), len(order)
	const inf = time.Duration(math.MaxInt64)
	best := make([][]time.Duration, stages+1) // [stages used][units placed]
	from := make([][]int, stages+1)
	for i := range best {
		best[i] = make([]time.Duration, units+1)
		from[i] = make([]int, units+1)
		for j := range best[i] {
			best[i][j] = inf
		}
	}
	best[0][0] = 0
	for k, node := range order {
		for start := k; start < units; start++ {
			if best[k][start] == inf {
				continue
			}
			for end := start; end < units-(stages-k-1); end++ {
				step, ok := g.cost(node, start, end)
				if !ok || step > limit {
					break // more layers never need less
				}
				if t := best[k][start] + step; t < best[k+1][end+1] {
					best[k+1][end+1], from[k+1][end+1] = t, start
				}
			}
		}
	}
	if best[stages][units] == inf {
		return nil
	}
	d := &draft{order: slices.Clone(order), last: make([]int, stages), tpot: best[stages][units]}
	for k, at := stages, units; k > 0; k-- {
		d.last[k-1] = at - 1
		at = from[k][at]
	}
	prev := -1
	for _, node := range order {
		d.tpot += g.into(prev, node)
		prev = node
	}
	d.tpot += g.back(prev)
	return d
}

// balance gives the plan over the same nodes whose slowest stage is fastest
// and whose TPOT is within Slack of d's.
func (g *grid) balance(d *draft) *draft {
	bound := time.Duration(float64(d.tpot) * Slack)
	var times []time.Duration
	for _, node := range d.order {
		for first := range g.ends {
			for last := first; last < len(g.ends); last++ {
				if t, ok := g.cost(node, first, last); ok {
					times = append(times, t)
				}
			}
		}
	}
	slices.Sort(times)
	times = slices.Compact(times)
	best := d
	for lo, hi := 0, len(times); lo < hi; {
		mid := (lo + hi) / 2
		if c := g.cut(d.order, times[mid]); c != nil && c.tpot <= bound {
			best, hi = c, mid
		} else {
			lo = mid + 1
		}
	}
	return best
}
