package cpu

import (
	"sync"

	"github.com/weft-mesh/weft/kernels/arith"
)

// MaximaBlock is how many elements share one of Maxima's results.
const MaximaBlock = 64

// bestSet is the kernel set of functions that belong to no device.
var bestSet = sync.OnceValue(func() *kernelSet { return available()[0] })

// Maxima gives the largest of each MaximaBlock elements of x, in dst if that is
// long enough; the last block may be short. No element may be NaN, and of zeros
// either may be given, whatever its sign. A reader of long rows, like those of
// logits, finds in it where large elements lie.
func Maxima(dst, x []float32) []float32 {
	n := (len(x) + MaximaBlock - 1) / MaximaBlock
	if cap(dst) < n {
		dst = make([]float32, n)
	}
	return bestSet().blockMaxima(dst[:n], x)
}

func (s *kernelSet) blockMaxima(dst, x []float32) []float32 {
	whole := 0
	if k := s.maxima; k != nil && len(x) >= MaximaBlock {
		whole = len(x) / MaximaBlock
		k(&x[0], &dst[0], whole)
	}
	for b := whole; b < len(dst); b++ {
		dst[b] = largest(x[b*MaximaBlock : min(len(x), (b+1)*MaximaBlock)])
	}
	return dst
}

// largest gives the largest element.
func largest(x []float32) float32 {
	m := x[0]
	for _, v := range x[1:] {
		if v > m {
			m = v
		}
	}
	return m
}

// Weights stores arith.Weight of each of at most MaximaBlock logits beside the
// best one, and gives their sum. No logit may be above the best.
func Weights(dst *[MaximaBlock]uint64, logits []float32, best, temperature float32) uint64 {
	return bestSet().blockWeights(dst, logits, best, temperature)
}

func (s *kernelSet) blockWeights(dst *[MaximaBlock]uint64, logits []float32, best, temperature float32) uint64 {
	whole, sum := 0, uint64(0)
	if k := s.weights; k != nil && len(logits) >= 16 {
		whole = len(logits) &^ 15
		sum = k(&logits[0], &dst[0], &arith.WeightPowers[0], whole, best, temperature)
	}
	for i := whole; i < len(logits); i++ {
		dst[i] = arith.Weight(arith.Distance(logits[i], best, temperature))
		sum += dst[i]
	}
	return sum
}
