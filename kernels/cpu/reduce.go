package cpu

import (
	"slices"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// HostMemory is true.
func (d *Device) HostMemory() bool { return true }

// Reduce answers what r asks about rows of x.
func (d *Device) Reduce(x kernels.Buffer, r *kernels.Reduction) error {
	from := asBuffer(x)
	r.Fit(from.rows, from.cols)
	d.flush()
	if r.Width > 0 {
		n := (from.cols + MaximaBlock - 1) / MaximaBlock
		d.maxima = slices.Grow(d.maxima[:0], n)[:n]
		for i := range r.Rows {
			d.set.blockMaxima(d.maxima, from.row(i))
			highest(r.Top[i*r.Width:(i+1)*r.Width], from.row(i), d.maxima)
		}
	}
	for i, p := range r.At {
		r.Values[i] = from.row(int(p.Row))[p.Col]
	}
	blocks := kernels.Blocks(from.cols)
	for i, w := range r.Weigh {
		d.set.weigh(r.Sums[i*blocks:(i+1)*blocks], from.row(int(w.Row)), w)
	}
	return nil
}

// highest fills dst with the highest elements of x. Blocks whose maximum is not
// above the last one so far are not looked at.
func highest(dst []kernels.Element, x, maxima []float32) {
	n := 0
	for b, m := range maxima {
		if n == len(dst) && !(m > dst[n-1].Value) {
			continue
		}
		first := b * MaximaBlock
		for k, v := range x[first:min(len(x), first+MaximaBlock)] {
			if n == len(dst) && !(v > dst[n-1].Value) {
				continue
			}
			if n < len(dst) {
				n++
			}
			// Elements come by ascending column: equals stand behind.
			at, _ := slices.BinarySearchFunc(dst[:n-1], v, func(e kernels.Element, v float32) int {
				if e.Value >= v {
					return -1
				}
				return 1
			})
			copy(dst[at+1:n], dst[at:n-1])
			dst[at] = kernels.Element{Col: int32(first + k), Value: v}
		}
	}
	for i := n; i < len(dst); i++ { // a NaN among the maxima: the row is faulted
		dst[i] = kernels.Element{}
	}
}

// weigh stores the sums of a row's weights.
func (s *kernelSet) weigh(sums []uint64, x []float32, w kernels.Weighing) {
	var weights [MaximaBlock]uint64
	for b := range sums {
		sums[b] = 0
		part := x[b*kernels.WeighBlock : min(len(x), (b+1)*kernels.WeighBlock)]
		for len(part) > 0 {
			n := min(MaximaBlock, len(part))
			sums[b] += s.weighPart(&weights, part[:n], w)
			part = part[n:]
		}
	}
}

// weighPart gives the sum of the weights of at most MaximaBlock elements.
func (s *kernelSet) weighPart(dst *[MaximaBlock]uint64, x []float32, w kernels.Weighing) uint64 {
	if w.Temperature != 0 && largest(x) <= w.Best {
		return s.blockWeights(dst, x, w.Best, w.Temperature)
	}
	sum := uint64(0)
	for _, l := range x {
		if l <= w.Best {
			sum += arith.Weight(w.Distance(l))
		}
	}
	return sum
}
