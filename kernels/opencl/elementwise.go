package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// AddVector adds v to each row of x.
func (d *Device) AddVector(b *kernels.Batch, x kernels.Buffer, v kernels.Vector) {
	to, w := d.asBuffer(x), d.asVector(v)
	needShape("addition", to, len(b.Rows), w.n)
	n := len(b.Rows) * to.cols
	d.run("add_vector", each(n), driver.Mem(to.mem), driver.Mem(w.mem), driver.Int(to.cols), driver.Int(n))
}

// Add adds y to x.
func (d *Device) Add(b *kernels.Batch, x, y kernels.Buffer) {
	to, from := d.asBuffer(x), d.asBuffer(y)
	needRows("addition", to, len(b.Rows))
	needShape("addition", from, len(b.Rows), to.cols)
	n := len(b.Rows) * to.cols
	d.run("add", each(n), driver.Mem(to.mem), driver.Mem(from.mem), driver.Int(n))
}

// SiLUMul stores SiLU(gate) times up.
func (d *Device) SiLUMul(b *kernels.Batch, dst, gate, up kernels.Buffer) {
	to, g, u := d.asBuffer(dst), d.asBuffer(gate), d.asBuffer(up)
	needRows("silu", to, len(b.Rows))
	needShape("silu", g, len(b.Rows), to.cols)
	needShape("silu", u, len(b.Rows), to.cols)
	n := len(b.Rows) * to.cols
	d.run("silu_mul", each(n), driver.Mem(to.mem), driver.Mem(g.mem), driver.Mem(u.mem), driver.Int(n))
}

// Gather copies rows of src to rows 0.. of dst.
func (d *Device) Gather(dst, src kernels.Buffer, rows []int32) {
	to, from := d.asBuffer(dst), d.asBuffer(src)
	needShape("gather", to, len(rows), from.cols)
	for _, r := range rows {
		if r < 0 || int(r) >= from.rows {
			panic(fmt.Sprintf("opencl: gather of row %d of %d", r, from.rows))
		}
	}
	n := len(rows) * to.cols
	d.ids.put(d, rows)
	d.run("gather", each(n), driver.Mem(to.mem), driver.Mem(from.mem), driver.Mem(d.ids.mem), driver.Int(to.cols), driver.Int(n))
}

// CheckFinite reports a fault for each row that holds NaN or an infinity.
func (d *Device) CheckFinite(b *kernels.Batch, x kernels.Buffer) {
	from := d.asBuffer(x)
	needRows("check", from, len(b.Rows))
	if len(b.Rows) == 0 {
		return
	}
	n := len(b.Rows) * from.cols
	table, first, word := d.faultArgs(b, faultLogits)
	d.run("check_finite", each(n), driver.Mem(from.mem), driver.Int(from.cols), driver.Int(n), table, first, word)
}
