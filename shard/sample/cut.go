package sample

import (
	"cmp"
	"math/bits"
	"slices"
)

// buckets is how many there are: one for each bit length of a weight (0 to 41) and its next four bits.
const buckets = 42 << 4

// histogram counts and sums candidates by buckets of ascending weight, so that a cut needs to sort one bucket only.
type histogram struct {
	count [buckets]int
	sum   [buckets]uint64
}

// bucket grows with the weight.
func bucket(w uint64) int {
	n := bits.Len64(w)
	if n > 5 {
		return n<<4 | int(w>>(n-5)&15)
	}
	return n<<4 | int(w<<(5-n)&15)
}

// cut keeps the heaviest candidates, ties to the lower id: as few as make up count tokens or the sum need, whichever comes
// first. total is the sum of all. It gives the sum of what is left.
func (s *Sampler) cut(total uint64, count int, need uint64) uint64 {
	if len(s.cands) <= count && total < need {
		return total
	}
	s.hist = histogram{}
	for _, c := range s.cands {
		b := bucket(c.weight)
		s.hist.count[b]++
		s.hist.sum[b] += c.weight
	}
	n, sum, b := 0, uint64(0), buckets-1
	for b > 0 && n+s.hist.count[b] < count && sum+s.hist.sum[b] < need {
		n += s.hist.count[b]
		sum += s.hist.sum[b]
		b--
	}
	last := s.last(b, count-n, need-sum)
	return s.filter(func(c candidate) bool { return heavier(c, last) <= 0 })
}

// last finds the candidate in bucket b with which count or need are reached.
func (s *Sampler) last(b, count int, need uint64) candidate {
	s.edge = s.edge[:0]
	for _, c := range s.cands {
		if bucket(c.weight) == b {
			s.edge = append(s.edge, c)
		}
	}
	slices.SortFunc(s.edge, heavier)
	sum := uint64(0)
	for i, c := range s.edge {
		sum += c.weight
		if i+1 >= count || sum >= need {
			return c
		}
	}
	return candidate{} // keeps everything
}

// heavier orders candidates: heavier first, then lower ids.
func heavier(a, b candidate) int {
	if a.weight != b.weight {
		return cmp.Compare(b.weight, a.weight)
	}
	return cmp.Compare(a.id, b.id)
}
