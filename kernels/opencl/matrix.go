package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/quant"
)

// matrix is a packed matrix on the card, in one piece: its quants from the start, its
// scales from the next multiple of driver.Align on.
type matrix struct {
	d          *Device
	kind       quant.Type
	rows, cols int
	mem        driver.Memory
	scales     int64 // where they begin
}

// Shape gives outputs and inputs.
func (m *matrix) Shape() (rows, cols int) { return m.rows, m.cols }

func (m *matrix) memories() []driver.Memory { return []driver.Memory{m.mem} }

// Close gives the memory back.
func (m *matrix) Close() error {
	if m.d != nil {
		m.d.release(m)
		m.d = nil
	}
	return nil
}

// NewMatrix uploads packed weights. p's bytes are not needed afterwards.
func (d *Device) NewMatrix(p *quant.Packed) (kernels.Matrix, error) {
	q, s, err := quant.PackedSize(p.Type, p.Rows, p.Cols)
	if err != nil {
		return nil, err
	}
	if int64(len(p.Quants)) < q || int64(len(p.Scales)) < s {
		return nil, fmt.Errorf("make matrix %s of %d by %d: planes of %d and %d bytes; want %d and %d", p.Type, p.Rows, p.Cols, len(p.Quants), len(p.Scales), q, s)
	}
	m := &matrix{d: d, kind: p.Type, rows: p.Rows, cols: p.Cols, scales: (q + driver.Align - 1) &^ (driver.Align - 1)}
	if m.mem, err = d.alloc(max(m.scales+s, q)); err != nil {
		return nil, fmt.Errorf("make matrix %s of %d by %d: %w", p.Type, p.Rows, p.Cols, err)
	}
	if err = d.dev.Write(m.mem, 0, p.Quants[:q]); err == nil && s > 0 {
		err = d.dev.Write(m.mem, m.scales, p.Scales[:s])
	}
	if err != nil {
		d.dev.Free(m.mem)
		return nil, fmt.Errorf("upload matrix %s of %d by %d: %w", p.Type, p.Rows, p.Cols, err)
	}
	d.live[m] = struct{}{}
	return m, nil
}

func (d *Device) asMatrix(h kernels.Matrix) *matrix {
	m, ok := h.(*matrix)
	if !ok || m.d != d {
		panic(fmt.Sprintf("opencl: foreign or closed matrix %T", h))
	}
	return m
}
