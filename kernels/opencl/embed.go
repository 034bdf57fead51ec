package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// Embed stores the rows ids of w, one per batch row.
func (d *Device) Embed(b *kernels.Batch, dst kernels.Buffer, w kernels.Matrix, ids []int32) {
	to, m := d.asBuffer(dst), d.asMatrix(w)
	n := len(b.Rows)
	needShape("embedding", to, n, m.cols)
	if len(ids) != n {
		panic(fmt.Sprintf("opencl: embedding of %d ids for %d rows", len(ids), n))
	}
	for _, id := range ids {
		if id < 0 || int(id) >= m.rows {
			panic(fmt.Sprintf("opencl: embedding of row %d of %d", id, m.rows))
		}
	}
	d.ids.put(d, ids)
	if d.err != nil || n == 0 {
		return
	}
	quants, halves, bytes := m.views()
	kernel, items, stride := "embed", n*m.cols/32, m.sStride
	if m.kind.Float() {
		kernel, items, stride = "embed_floats", n*m.cols, m.groupElements()
	}
	d.run(kernel, each(items), quants, halves, bytes, driver.Mem(d.ids.mem), driver.Mem(to.mem), driver.Int(int(m.kind)),
		driver.Int(m.cols), driver.Uint(uint32(stride)), driver.Int(n))
}
