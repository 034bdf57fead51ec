package sample

import (
	"cmp"
	"math"
	"slices"
)

// rank is a place in the order of tokens by logit: higher logits first, then lower ids.
type rank struct {
	key uint32 // grows with the logit
	id  int32
}

// lowest is a place after every token.
var lowest = rank{0, math.MaxInt32}

// keyOf maps logits to integers of the same order; -0 counts as 0.
func keyOf(l float32) uint32 {
	b := math.Float32bits(l + 0)
	if b>>31 != 0 {
		return ^b
	}
	return b | 1<<31
}

// before reports whether r stands before the token.
func (r rank) before(l float32, id int32) bool {
	k := keyOf(l)
	return k < r.key || (k == r.key && id > r.id)
}

// rankBits is how many leading bits of a key tell the buckets of a rankHistogram apart: sign, exponent and three bits more.
const rankBits = 12

// rankHistogram counts tokens by logit, so that only one bucket needs to be sorted.
type rankHistogram [1 << rankBits]int32

func rankBucket(key uint32) uint32 { return key >> (32 - rankBits) }

// kth is the place of the k-th allowed token, or lowest if there are fewer.
func (s *Sampler) kth(logits []float32, mask []uint64, k int) rank {
	s.ranks = rankHistogram{}
	for id, l := range logits {
		if allowed(mask, id) {
			s.ranks[rankBucket(keyOf(l))]++
		}
	}
	b := uint32(len(s.ranks) - 1)
	for ; k > int(s.ranks[b]); b-- {
		if b == 0 {
			return lowest
		}
		k -= int(s.ranks[b])
	}
	s.tied = s.tied[:0]
	for id, l := range logits {
		if key := keyOf(l); rankBucket(key) == b && allowed(mask, id) {
			s.tied = append(s.tied, rank{key, int32(id)})
		}
	}
	slices.SortFunc(s.tied, higher)
	return s.tied[k-1]
}

// higher orders tokens by logit, ties to the lower id.
func higher(a, b rank) int {
	if a.key != b.key {
		return cmp.Compare(b.key, a.key)
	}
	return cmp.Compare(a.id, b.id)
}

// top gives the k highest tokens in order; k must be at most the number of blocks of maxima. The k highest maxima are k
// tokens, so no token below all of them is among the highest, nor is a block whose maximum is below them looked at.
func (s *Sampler) top(logits []float32, k int) []rank {
	s.ranks = rankHistogram{}
	for _, m := range s.maxima {
		s.ranks[rankBucket(keyOf(m))]++
	}
	bound := uint32(len(s.ranks) - 1)
	for left := k - int(s.ranks[bound]); left > 0; left -= int(s.ranks[bound]) {
		bound--
	}
	s.tied = s.tied[:0]
	for b, m := range s.maxima {
		if rankBucket(keyOf(m)) < bound {
			continue
		}
		first, end := s.block(b)
		for id := first; id < end; id++ {
			if key := keyOf(logits[id]); rankBucket(key) >= bound {
				s.tied = append(s.tied, rank{key, int32(id)})
			}
		}
	}
	slices.SortFunc(s.tied, higher)
	return s.tied[:k]
}
