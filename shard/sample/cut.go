package sample

import (
	"cmp"
	"math/bits"
	"slices"
)

// buckets is how many there are: one for each bit length of a weight (0 to 41) and its next four bits.
const buckets = 42 << 4

// histogram sums candidates by buckets of ascending weight, so that a cut needs to sort one bucket only.
type histogram [buckets]uint64

// bucket grows with the weight.
func bucket(w uint64) int {
	n := bits.Len64(w)
	if n > 5 {
		return n<<4 | int(w>>(n-5)&15)
	}
	return n<<4 | int(w<<(5-n)&15)
}

// cut keeps the heaviest candidates, ties to the lower id: as few as make up the sum need, which must not be above that of
// all. It gives the sum of what is left.
func (s *Sampler) cut(need uint64) uint64 {
	s.hist = histogram{}
	for _, c := range s.cands {
		s.hist[bucket(c.weight)] += c.weight
	}
	sum, b := uint64(0), buckets-1
	for b > 0 && sum+s.hist[b] < need {
		sum += s.hist[b]
		b--
	}
	last := s.last(b, need-sum)
	return s.filter(func(c candidate) bool { return heavier(c, last) <= 0 })
}

// last finds the candidate in bucket b with which need is reached.
func (s *Sampler) last(b int, need uint64) candidate {
	s.edge = s.edge[:0]
	for _, c := range s.cands {
		if bucket(c.weight) == b {
			s.edge = append(s.edge, c)
		}
	}
	slices.SortFunc(s.edge, heavier)
	i, sum := 0, s.edge[0].weight
	for sum < need {
		i++
		sum += s.edge[i].weight
	}
	return s.edge[i]
}

// heavier orders candidates: heavier first, then lower ids.
func heavier(a, b candidate) int {
	if a.weight != b.weight {
		return cmp.Compare(b.weight, a.weight)
	}
	return cmp.Compare(a.id, b.id)
}
