package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// acts is the input of matrix products.
type acts struct {
	d          *Device
	rows, cols int
	bits       kernels.ActBits
	n          int // rows of the last Prepare
	mem        []driver.Memory
}

// Shape gives rows and columns.
func (a *acts) Shape() (rows, cols int) { return a.rows, a.cols }

func (a *acts) memories() []driver.Memory { return a.mem }

// NewActs makes room for the inputs of products.
func (d *Device) NewActs(rows, cols int, bits kernels.ActBits) (kernels.Acts, error) {
	if err := checkTable("acts", rows, cols); err != nil {
		return nil, err
	}
	if bits != kernels.Act8 && bits != kernels.Act16 {
		return nil, fmt.Errorf("make acts of %d bits: want 8 or 16", bits)
	}
	a := &acts{d: d, rows: rows, cols: cols, bits: bits}
	d.live[a] = struct{}{}
	return a, nil
}

func (d *Device) asActs(h kernels.Acts) *acts {
	a, ok := h.(*acts)
	if !ok || a.d != d {
		panic(fmt.Sprintf("opencl: foreign acts %T", h))
	}
	return a
}

// Prepare makes x's rows the input of the products that follow.
func (d *Device) Prepare(b *kernels.Batch, dst kernels.Acts, x kernels.Buffer) {
	a, src := d.asActs(dst), d.asBuffer(x)
	needShape("prepare", src, len(b.Rows), a.cols)
	if len(b.Rows) > a.rows {
		panic(fmt.Sprintf("opencl: prepare of %d rows in acts of %d", len(b.Rows), a.rows))
	}
	a.n = len(b.Rows)
	panic("opencl: prepare is not in this build")
}
