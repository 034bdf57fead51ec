package scheduler

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Bounds of the search over many nodes. A snapshot of a thousand nodes has more
// subsets and orders than can be tried: the search looks around a few good
// nodes, grows plans there stage by stage, keeps the most promising ones, and
// improves the best.
const (
	anchors    = 6   // nodes around which is looked
	around     = 20  // nodes that are looked at around each
	mostAround = 64  // where so many are needed to hold the model
	beamWidth  = 10  // partial plans kept at each length
	finalists  = 4   // complete plans that are improved
	mostTries  = 500 // cuts that one search looks at
	quickTries = 60  // and one whose outcome is only told
	coarse     = 6   // cuts by slowest stage for a plan under way
	finePoints = 40  // and for the last ones; after the first of them in steps of 2%
)

// split is the best plan of two stages or more, or nil.
func (g *grid) split() *draft {
	g.tries = mostTries
	if g.quick {
		g.tries = quickTries
	}
	var best *draft
	for _, order := range g.orders() {
		if d := g.best(order, finePoints+24); better(d, best) {
			best = d
		}
	}
	return best
}

// better says whether d is the better plan; a plan with fewer stages wins among
// equals, as there is less to be lost.
func better(d, than *draft) bool {
	switch {
	case d == nil:
		return false
	case than == nil:
		return true
	}
	return cmp.Or(cmp.Compare(d.tpot, than.tpot), cmp.Compare(len(d.order), len(than.order)), slices.Compare(d.order, than.order)) < 0
}

// orders are the node orders to try: every one where the nodes are few, else
// what a search finds.
func (g *grid) orders() [][]int {
	if len(g.nodes) > g.exact {
		return g.search()
	}
	var out [][]int
	var extend func(order []int, used int)
	extend = func(order []int, used int) {
		if len(order) > 1 && g.wanted(len(order)) && g.holds(order) {
			// A further node may still relieve a slow one.
			out = append(out, slices.Clone(order))
		}
		if len(order) == len(g.ends) || g.s.Stages > 0 && len(order) == g.s.Stages {
			return
		}
		for i := range g.nodes {
			if used&(1<<i) == 0 {
				extend(append(order, i), used|1<<i)
			}
		}
	}
	extend(nil, 0)
	return out
}

// wanted says whether a plan may have so many stages.
func (g *grid) wanted(stages int) bool { return g.s.Stages == 0 || g.s.Stages == stages }

// holds is a quick bound: the nodes' memory reaches the model's.
func (g *grid) holds(order []int) bool {
	var have int64
	for _, i := range order {
		have += g.nodes[i].memory() - g.m.StepBytes
	}
	return have >= g.m.need(0, len(g.m.LayerBytes)-1)-g.m.StepBytes
}

// search finds good orders among many nodes.
func (g *grid) search() [][]int {
	var found []*draft
	for _, from := range g.anchors() {
		for _, order := range g.beam(g.near(from)) {
			if d := g.best(order, coarse); d != nil {
				found = append(found, d)
			}
		}
	}
	if len(found) == 0 {
		found = g.prefixes()
	}
	slices.SortFunc(found, func(a, b *draft) int {
		if better(a, b) {
			return -1
		}
		return 1
	})
	found = slices.CompactFunc(found, func(a, b *draft) bool { return slices.Equal(a.order, b.order) })
	var out [][]int
	for _, d := range found[:min(len(found), finalists)] {
		out = append(out, g.improve(d).order)
	}
	return out
}

// rate is the time that a byte of weights costs on a node that is filled and
// reached from another one, in seconds.
func (g *grid) rate(from, node int) float64 {
	n := g.fit(node, 0)
	if n == 0 {
		return math.Inf(1)
	}
	step, _ := g.cost(node, 0, n-1)
	return (step + g.into(from, node)).Seconds() / float64(max(g.read[n-1], 1))
}

// anchors are nodes around which a plan may lie: -1 for the head, and the best
// ones as seen from it.
func (g *grid) anchors() []int {
	if g.quick {
		return []int{-1}
	}
	all := g.byRate(-1)
	return append([]int{-1}, all[:min(len(all), anchors-1)]...)
}

// byRate orders the nodes by what a byte costs on them, reached from another.
func (g *grid) byRate(from int) []int {
	rates := make([]float64, len(g.nodes))
	all := make([]int, len(g.nodes))
	for i := range g.nodes {
		all[i], rates[i] = i, g.rate(from, i)
	}
	slices.SortFunc(all, func(a, b int) int { return cmp.Or(cmp.Compare(rates[a], rates[b]), cmp.Compare(a, b)) })
	return all
}

// near are the nodes to look at around another: the cheapest as reached from it,
// and as many as hold the model.
func (g *grid) near(from int) []int {
	all := g.byRate(from)
	need, have := g.m.need(0, len(g.m.LayerBytes)-1), int64(0)
	var out []int
	for _, i := range all {
		if len(out) >= mostAround || len(out) >= around && have > need+need/4 {
			break
		}
		out = append(out, i)
		have += g.nodes[i].memory() - g.m.StepBytes
	}
	if from >= 0 && !slices.Contains(out, from) {
		out[len(out)-1] = from
	}
	return out
}

// partial is the beginning of a plan.
type partial struct {
	order     []int  // index into nodes
	used      uint64 // of the nodes that are looked at
	tail      int    // the last of them
	placed    int
	sum, most time.Duration
	score     time.Duration
}

// beam grows plans over some nodes stage by stage and gives the orders of the
// best complete ones.
func (g *grid) beam(near []int) [][]int {
	hops := g.hops(near)
	cheapest := math.Inf(1)
	for _, i := range near {
		cheapest = min(cheapest, 1/g.nodes[i].top())
	}
	units := len(g.ends)
	front, done := []partial{{}}, []partial(nil)
	for depth := 0; len(front) > 0 && depth < units; depth++ {
		var next []partial
		for _, p := range front {
			for c, node := range near {
				if p.used&(1<<c) != 0 {
					continue
				}
				for _, take := range g.amounts(node, p.placed, depth) {
					q := g.extend(&p, c, node, take, hops)
					if q.placed < units {
						rest := time.Duration(float64(g.read[q.placed*units+units-1]) * cheapest * float64(time.Second))
						q.score = g.objective(q.sum+rest, q.most)
						next = append(next, q)
					} else if depth > 0 && g.wanted(depth+1) {
						q.sum += hops[c][len(near)]
						q.score = g.objective(q.sum, q.most)
						done = append(done, q)
					}
				}
			}
		}
		front = promising(next, beamWidth)
	}
	var out [][]int
	for _, p := range promising(done, beamWidth) {
		out = append(out, p.order)
	}
	return out
}

// hops are the hops between the nodes; into each from the head, and from each to
// the head, stand behind the others.
func (g *grid) hops(near []int) [][]time.Duration {
	n := len(near)
	out := make([][]time.Duration, n+1)
	for i := range out {
		out[i] = make([]time.Duration, n+1)
	}
	for a, i := range near {
		for b, j := range near {
			if a != b {
				out[a][b] = g.into(i, j)
			}
		}
		out[n][a], out[a][n] = g.into(-1, i), g.back(i)
	}
	return out
}

// extend adds a stage of take units on a node, the c-th of those looked at.
func (g *grid) extend(p *partial, c, node, take int, hops [][]time.Duration) partial {
	from := len(hops) - 1
	if p.used != 0 {
		from = p.tail
	}
	step, _ := g.cost(node, p.placed, p.placed+take-1)
	return partial{
		order: append(p.order[:len(p.order):len(p.order)], node), used: p.used | 1<<c, tail: c,
		placed: p.placed + take, sum: p.sum + hops[from][c] + step, most: max(p.most, step),
	}
}

// amounts are the units that a stage may take from first on: all that fit, and
// equal shares where a fast slowest stage or a number of stages is wanted.
func (g *grid) amounts(node, first, depth int) []int {
	units := len(g.ends)
	fit := g.fit(node, first)
	if fit == 0 {
		return nil
	}
	out := []int{fit}
	add := func(n int) {
		if n > 0 && n < fit && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	if left := g.s.Stages - depth; left > 0 {
		add((units - first + left - 1) / left)
		add(units - first - (left - 1)) // the others take one each
	}
	if g.s.Acceptance > 0 {
		for _, k := range []int{2, 3, 4, 6, 8} {
			add((units + k - 1) / k)
		}
	}
	return out
}

// promising keeps the best partial plans: one of those that end at the same node
// with as much placed, on the same nodes.
func promising(list []partial, keep int) []partial {
	slices.SortFunc(list, func(a, b partial) int {
		return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(len(a.order), len(b.order)), slices.Compare(a.order, b.order), cmp.Compare(a.placed, b.placed))
	})
	type place struct {
		used         uint64
		tail, placed int
	}
	seen := map[place]bool{}
	out := make([]partial, 0, keep)
	for _, p := range list {
		if len(out) == keep {
			break
		}
		if at := (place{p.used, p.tail, p.placed}); !seen[at] {
			seen[at] = true
			out = append(out, p)
		}
	}
	return out
}

// improve changes a plan in small ways as long as that makes it better: two
// nodes change places, one is left out, or another one takes its place.
func (g *grid) improve(d *draft) *draft {
	outside := g.near(-1)
	for again := true; again; {
		again = false
		for _, order := range g.neighbours(d.order, outside) {
			if g.tries <= 0 {
				return d
			}
			if c := g.best(order, coarse); better(c, d) {
				d, again = c, true
				break
			}
		}
	}
	return d
}

// neighbours are the orders that differ from one in a small way.
func (g *grid) neighbours(order, outside []int) [][]int {
	var out [][]int
	if k := len(order) - 1; k > 1 && g.wanted(k) {
		for i := range order {
			if o := slices.Delete(slices.Clone(order), i, i+1); g.holds(o) {
				out = append(out, o)
			}
		}
	}
	for i := range order {
		for j := range i {
			o := slices.Clone(order)
			o[i], o[j] = o[j], o[i]
			out = append(out, o)
		}
	}
	for _, n := range outside[:min(len(outside), around)] {
		if slices.Contains(order, n) {
			continue
		}
		for i := range order {
			o := slices.Clone(order)
			if o[i] = n; g.holds(o) {
				out = append(out, o)
			}
		}
		if k := len(order) + 1; g.wanted(k) && k <= len(g.ends) {
			for i := range k {
				out = append(out, slices.Insert(slices.Clone(order), i, n))
			}
		}
	}
	return out
}
