package sample

import (
	"math"

	"github.com/weft-mesh/weft/kernels/arith"
)

// logNorm is the logarithm of the sum of exp(logit). Terms become integers before they are summed, as everywhere; what is
// lost by it is below 2^-16 of the sum for any vocabulary.
func logNorm(logits []float32) float64 {
	best := logits[0]
	for _, l := range logits {
		best = max(best, l)
	}
	sum := uint64(0)
	for _, l := range logits {
		sum += weight(float64(l) - float64(best))
	}
	return float64(best) + arith.Log64(float64(sum)/one)
}

// top appends the n tokens of the highest logits to dst, best first, ties to the lower id.
func top(dst []Logprob, logits []float32, n int, norm float64) []Logprob {
	if n == 0 {
		return nil
	}
	least := float32(math.Inf(-1))
	for id, l := range logits {
		if len(dst) == n && l <= least {
			continue
		}
		if len(dst) < n {
			dst = append(dst, Logprob{})
		}
		i := len(dst) - 1
		for ; i > 0 && dst[i-1].Logprob < l; i-- {
			dst[i] = dst[i-1]
		}
		dst[i] = Logprob{int32(id), l}
		least = dst[len(dst)-1].Logprob
	}
	for i := range dst {
		dst[i].Logprob = float32(float64(dst[i].Logprob) - norm)
	}
	return dst
}
