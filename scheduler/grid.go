package scheduler

import (
	"math"
	"slices"
	"sort"
	"time"
)

// grid is one planning problem with its layers grouped into units.
type grid struct {
	s     *Snapshot
	m     *Model
	nodes []Node
	ends  []int // last layer of each unit
	// need and read are the memory and the bytes that a token reads of units i to
	// j, at i*units+j.
	need, read []int64
	exact      int // nodes up to which every order is tried
	tries      int // cuts that a search may still look at
	quick      bool
	// cells and from are cut's tables.
	cells []time.Duration
	from  []int
	// laid keeps what was found out about nodes with devices, by node and units.
	laid [][]outlook
}

// outlook is the step of some units on a node with devices.
type outlook struct {
	known, fits bool
	step        time.Duration
}

// draft is a candidate: nodes in order with the last unit of each.
type draft struct {
	order []int // index into nodes
	last  []int // last unit of each
	sum   time.Duration
	most  time.Duration // of the slowest stage
	tpot  time.Duration // what is minimised
}

func newGrid(s *Snapshot, m *Model, nodes []Node) *grid {
	g := &grid{s: s, m: m, nodes: nodes, exact: exactNodes}
	layers := len(m.LayerBytes)
	units := min(layers, maxUnits)
	for i := 1; i <= units; i++ {
		g.ends = append(g.ends, i*layers/units-1)
	}
	g.need, g.read = make([]int64, units*units), make([]int64, units*units)
	for i := range units {
		for j := i; j < units; j++ {
			a, b := g.layers(i, j)
			g.need[i*units+j], g.read[i*units+j] = m.need(a, b), m.read(a, b)
		}
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
	at := first*len(g.ends) + last
	n := &g.nodes[node]
	if len(n.Devices) > 0 {
		o := g.outlook(node, first, last)
		return o.step, o.fits
	}
	if g.need[at] > n.MemFree {
		return 0, false
	}
	a, b := g.layers(first, last)
	return stageOverhead + n.compute(n.device(Host), g.read[at], b-a+1), true
}

// outlook lays units over a node's devices, once.
func (g *grid) outlook(node, first, last int) *outlook {
	units := len(g.ends)
	if g.laid == nil {
		g.laid = make([][]outlook, len(g.nodes))
	}
	if g.laid[node] == nil {
		g.laid[node] = make([]outlook, units*units)
	}
	o := &g.laid[node][first*units+last]
	if !o.known {
		n := &g.nodes[node]
		a, b := g.layers(first, last)
		parts, ok := g.m.lay(n, a, b, g.m.Context, false)
		*o = outlook{known: true, fits: ok}
		if ok {
			o.step = g.m.step(n, parts)
		}
	}
	return o
}

// fit is how many units from first on a node can hold, of those that are left.
func (g *grid) fit(node, first int) int {
	units := len(g.ends)
	if len(g.nodes[node].Devices) > 0 {
		return sort.Search(units-first, func(k int) bool { return !g.outlook(node, first, first+k).fits })
	}
	free, row := g.nodes[node].MemFree, g.need[first*units:(first+1)*units]
	// The last unit brings the output matrix; with it or without, more units
	// never need less.
	return sort.Search(units-first, func(k int) bool { return row[first+k] > free })
}

// into is the hop into a node from the one before, -1 being the head.
func (g *grid) into(from, to int) time.Duration {
	if from < 0 {
		return g.s.hop(g.s.Head, g.nodes[to].ID, tokenBytes)
	}
	return g.s.hop(g.nodes[from].ID, g.nodes[to].ID, g.m.HiddenBytes)
}

func (g *grid) back(from int) time.Duration {
	return g.s.hop(g.nodes[from].ID, g.s.Head, tokenBytes)
}

// objective is the expected time per token of section 9: the sum when nothing is
// speculated, the slowest stage when all is accepted.
func (g *grid) objective(sum, most time.Duration) time.Duration {
	a := g.s.Acceptance
	if a == 0 {
		return sum
	}
	return time.Duration((1-a)*float64(sum) + a*float64(most))
}

// solo is the best single node, or nil.
func (g *grid) solo() *draft {
	var best *draft
	end := len(g.ends) - 1
	for i := range g.nodes {
		step, ok := g.cost(i, 0, end)
		if !ok {
			continue
		}
		d := &draft{order: []int{i}, last: []int{end}, sum: g.into(-1, i) + step + g.back(i), most: step}
		d.tpot = g.objective(d.sum, d.most)
		if best == nil || d.tpot < best.tpot {
			best = d
		}
	}
	return best
}

// cut finds the boundaries of least sum for an order of nodes, each taking at
// least one unit and no stage slower than limit; nil when there are none.
func (g *grid) cut(order []int, limit time.Duration) *draft {
	units, stages := len(g.ends), len(order)
	g.tries--
	const inf = time.Duration(math.MaxInt64)
	width := units + 1
	size := (stages + 1) * width
	if len(g.cells) < size {
		g.cells, g.from = make([]time.Duration, size), make([]int, size)
	}
	best, from := g.cells[:size], g.from[:size] // [stages used][units placed]
	for i := range best {
		best[i] = inf
	}
	best[0] = 0
	for k, node := range order {
		for start := k; start < units; start++ {
			at := best[k*width+start]
			if at == inf {
				continue
			}
			for end := start; end < units-(stages-k-1); end++ {
				step, ok := g.cost(node, start, end)
				if !ok || step > limit {
					break // more units never need less
				}
				if i := (k+1)*width + end + 1; at+step < best[i] {
					best[i], from[i] = at+step, start
				}
			}
		}
	}
	if best[stages*width+units] == inf {
		return nil
	}
	d := &draft{order: slices.Clone(order), last: make([]int, stages), sum: best[stages*width+units]}
	for k, at := stages, units; k > 0; k-- {
		d.last[k-1] = at - 1
		start := from[k*width+at]
		step, _ := g.cost(order[k-1], start, at-1)
		d.most = max(d.most, step)
		at = start
	}
	prev := -1
	for _, node := range order {
		d.sum += g.into(prev, node)
		prev = node
	}
	d.sum += g.back(prev)
	d.tpot = g.objective(d.sum, d.most)
	return d
}

// best finds the boundaries of the least objective for an order of nodes, nil
// when there are none: of the cuts with an ever faster slowest stage, at most
// points many.
func (g *grid) best(order []int, points int) *draft {
	d := g.cut(order, math.MaxInt64)
	if d == nil || g.s.Acceptance == 0 {
		return d
	}
	best, limit := d, d.most-1
	for ; points > 0; points-- {
		d = g.cut(order, limit)
		// A lower limit never lowers the sum.
		if d == nil || g.objective(d.sum, 0) >= best.tpot {
			break
		}
		if d.tpot < best.tpot {
			best = d
		}
		limit = d.most - 1
		if points < finePoints {
			limit = min(limit, d.most*49/50)
		}
	}
	return best
}

// balance gives the plan over the same nodes whose slowest stage is fastest
// and whose objective is within Slack of d's.
func (g *grid) balance(d *draft) *draft {
	bound := time.Duration(float64(d.tpot) * Slack)
	lo, hi, best := time.Duration(0), d.most, d
	for range 24 { // until the limits are closer than anybody could measure
		if hi-lo <= time.Microsecond {
			break
		}
		mid := lo + (hi-lo)/2
		if c := g.cut(d.order, mid); c != nil && c.tpot <= bound {
			best, hi = c, c.most
		} else {
			lo = mid
		}
	}
	return best
}
