package scheduler

import (
	"cmp"
	"math"
	"slices"
)

// prefixes are the shortest lists of nodes, by speed and by memory, that hold
// the model: the last resort where whole layers hardly fit.
func (g *grid) prefixes() []*draft {
	var out []*draft
	fast := make([]int, len(g.nodes))
	for i := range fast {
		fast[i] = i
	}
	large := slices.Clone(fast)
	slices.SortStableFunc(large, func(a, b int) int { return cmp.Compare(g.nodes[b].memory(), g.nodes[a].memory()) })
	for _, all := range [][]int{large, fast} {
		for k := 2; k <= min(len(all), len(g.ends)); k++ {
			if !g.wanted(k) || !g.holds(all[:k]) {
				continue
			}
			if d := g.squeeze(all[:k]); d != nil {
				out = append(out, d)
				break
			}
		}
	}
	return out
}

// squeezed is up to how many nodes squeeze tries every first and last.
const squeezed = 24

// squeeze cuts the model over nodes that hardly hold it: the first one also has
// the embedding and the last one the output matrix, so it matters who they are.
func (g *grid) squeeze(nodes []int) *draft {
	if d := g.cut(nodes, math.MaxInt64); d != nil || len(nodes) > squeezed {
		return d
	}
	for i := range nodes {
		for j := range nodes {
			if i == j {
				continue
			}
			order := []int{nodes[i]}
			for k, node := range nodes {
				if k != i && k != j {
					order = append(order, node)
				}
			}
			if d := g.cut(append(order, nodes[j]), math.MaxInt64); d != nil {
				return d
			}
		}
	}
	return nil
}
