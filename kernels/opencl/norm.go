package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// normItems is the work-group of a norm: NORM_ITEMS of norm.cl.
const normItems = 256

// Norm is RMSNorm over each run of w.Len() elements of a row.
func (d *Device) Norm(b *kernels.Batch, dst, x kernels.Buffer, w kernels.Vector, eps float32) {
	to, from, weights := d.asBuffer(dst), d.asBuffer(x), d.asVector(w)
	n := len(b.Rows)
	needRows("norm", to, n)
	needShape("norm", from, n, to.cols)
	if from.cols%weights.n != 0 {
		panic(fmt.Sprintf("opencl: norm of rows of %d by runs of %d", from.cols, weights.n))
	}
	if n == 0 {
		return
	}
	runs := from.cols / weights.n
	table, first, word := d.faultArgs(b, faultNorm)
	d.run("norm", groupsOf(normItems, n*runs, 1, 1), driver.Mem(to.mem), driver.Mem(from.mem), driver.Mem(weights.mem),
		driver.Int(weights.n), driver.Int(runs), driver.Float(eps), table, first, word)
}
