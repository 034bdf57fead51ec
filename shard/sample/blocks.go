package sample

import "github.com/weft-mesh/weft/kernels/cpu"

// weighBlocks notes the sum of weights of each block, and gives that of all. Blocks that lie below lowest count as 0.
func (s *Sampler) weighBlocks(logits []float32, best, temperature float32, lowest float64) uint64 {
	if cap(s.sums) < len(s.maxima) {
		s.sums = make([]uint64, len(s.maxima))
	}
	s.sums = s.sums[:len(s.maxima)]
	total := uint64(0)
	for b, m := range s.maxima {
		s.sums[b] = 0
		if distance(m, best, temperature) >= lowest {
			first, end := s.block(b)
			s.sums[b] = cpu.Weights(&s.weights, logits[first:end], best, temperature)
		}
		total += s.sums[b]
	}
	return total
}

// pick is the token at which the sum of weights, ascending by id, passes left, which must be below that of all.
func (s *Sampler) pick(logits []float32, best, temperature float32, left uint64) int32 {
	b := 0
	for ; left >= s.sums[b]; b++ {
		left -= s.sums[b]
	}
	first, end := s.block(b)
	cpu.Weights(&s.weights, logits[first:end], best, temperature)
	id := first
	for ; left >= s.weights[id-first]; id++ {
		left -= s.weights[id-first]
	}
	return int32(id)
}

// heavy fills cands with the tokens that the cuts may leave, and gives the sum that they count from: that of all tokens, or
// of the candidates where only min_p cuts. top_p keeps the heaviest tokens that make up its share, so all tokens that are
// too light to make up the rest even if every token were one of them are left out.
func (s *Sampler) heavy(logits []float32, best, temperature float32, total uint64, p *Params) uint64 {
	lightest := max(1, fixed(p.MinP))
	byShare := p.TopP > 0 && p.TopP < 1
	if byShare {
		lightest = max(1, (total-share(total, p.TopP))/uint64(s.vocab))
	}
	s.cands = s.cands[:0]
	sum := uint64(0)
	for b, m := range s.maxima {
		// A block's heaviest token is that of its maximum, up to a rounding.
		if s.sums[b] == 0 || weight(distance(m, best, temperature))+2 < lightest {
			continue
		}
		first, end := s.block(b)
		cpu.Weights(&s.weights, logits[first:end], best, temperature)
		for i, w := range s.weights[:end-first] {
			if w >= lightest {
				s.cands = append(s.cands, candidate{w, int32(first + i)})
				sum += w
			}
		}
	}
	if byShare {
		return total
	}
	return sum
}
