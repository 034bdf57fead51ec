package exact

import (
	"cmp"
	"slices"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// HostMemory is true.
func (d *Device) HostMemory() bool { return true }

// Reduce answers what r asks about rows of x.
func (d *Device) Reduce(x kernels.Buffer, r *kernels.Reduction) error {
	in := as[*buffer](x)
	r.Fit(in.rows, in.cols)
	for i := range r.Rows {
		all := make([]kernels.Element, in.cols)
		for k, v := range in.row(i) {
			all[k] = kernels.Element{Col: int32(k), Value: v}
		}
		slices.SortStableFunc(all, func(a, b kernels.Element) int { return cmp.Compare(b.Value, a.Value) })
		copy(r.Top[i*r.Width:], all[:r.Width])
	}
	for i, p := range r.At {
		r.Values[i] = in.row(int(p.Row))[p.Col]
	}
	clear(r.Sums)
	blocks := kernels.Blocks(in.cols)
	for i, w := range r.Weigh {
		for k, v := range in.row(int(w.Row)) {
			if v <= w.Best {
				r.Sums[i*blocks+k/kernels.WeighBlock] += arith.Weight(w.Distance(v))
			}
		}
	}
	return nil
}
