package cpu

import "sync"

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
