package conform

import (
	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

func (naive) HostMemory() bool { return true }

// Reduce looks for the highest element that is left, again and again.
func (naive) Reduce(x kernels.Buffer, r *kernels.Reduction) error {
	in := buf(x)
	r.Fit(in.rows, in.cols)
	for i := range r.Rows {
		taken := make([]bool, in.cols)
		for n := range r.Width {
			best := -1
			for k, v := range in.row(i) {
				if !taken[k] && (best < 0 || v > in.row(i)[best]) {
					best = k
				}
			}
			taken[best] = true
			r.Top[i*r.Width+n] = kernels.Element{Col: int32(best), Value: in.row(i)[best]}
		}
	}
	for i, p := range r.At {
		r.Values[i] = in.row(int(p.Row))[p.Col]
	}
	blocks := kernels.Blocks(in.cols)
	for i, w := range r.Weigh {
		for b := range blocks {
			sum := uint64(0)
			for k := b * kernels.WeighBlock; k < min(in.cols, (b+1)*kernels.WeighBlock); k++ {
				if l := in.row(int(w.Row))[k]; l <= w.Best {
					x := float64(float32(l-w.Best)) / float64(w.Temperature)
					if w.Temperature == 0 {
						x = float64(l) - float64(w.Best)
					}
					sum += arith.Weight(x)
				}
			}
			r.Sums[i*blocks+b] = sum
		}
	}
	return nil
}
