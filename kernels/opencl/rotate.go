package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// Rotate applies rotary embedding to each head of a row.
func (d *Device) Rotate(b *kernels.Batch, x kernels.Buffer, headDim int, t kernels.Rope, mode kernels.RopeMode) {
	to := d.asBuffer(x)
	table, ok := t.(*rope)
	if !ok || table.d != d {
		panic(fmt.Sprintf("opencl: foreign rope %T", t))
	}
	needRows("rotation", to, len(b.Rows))
	if headDim < table.dims || to.cols%headDim != 0 {
		panic(fmt.Sprintf("opencl: rotation of %d of heads of %d in rows of %d", table.dims, headDim, to.cols))
	}
	for _, r := range b.Rows {
		if r.Pos < 0 || int(r.Pos) >= table.positions {
			panic(fmt.Sprintf("opencl: rotation at position %d of a table of %d", r.Pos, table.positions))
		}
	}
	if len(b.Rows) == 0 {
		return
	}
	halves := 0
	if mode == kernels.RopeHalves {
		halves = 1
	}
	n := len(b.Rows) * to.cols / headDim * (table.dims / 2)
	d.rows.put(d, b)
	d.run("rotate_heads", each(n), driver.Mem(to.mem), driver.Mem(table.cos), driver.Mem(table.sin), driver.Mem(d.rows.mem),
		driver.Int(to.cols), driver.Int(headDim), driver.Int(table.dims), driver.Int(halves), driver.Int(n))
}
