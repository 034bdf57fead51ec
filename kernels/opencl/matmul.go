package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
)

// MatMul stores w times each row of x.
func (d *Device) MatMul(b *kernels.Batch, dst kernels.Buffer, w kernels.Matrix, x kernels.Acts) {
	m, a, to := d.asMatrix(w), d.asActs(x), d.asBuffer(dst)
	n := len(b.Rows)
	needShape("product", to, n, m.rows)
	if m.cols != a.cols || n > a.n {
		panic(fmt.Sprintf("opencl: product of a matrix of %d columns with %d of %d prepared rows of %d", m.cols, n, a.n, a.cols))
	}
	panic("opencl: products are not in this build")
}
