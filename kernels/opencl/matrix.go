package opencl

import (
	"fmt"
	"strings"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/quant"
)

// matrix is a packed matrix on the card, in one piece: its quants from the start, its
// scales from the next multiple of driver.Align on.
type matrix struct {
	d                *Device
	kind             quant.Type
	rows, cols       int
	qStride, sStride int // bytes of 16 rows in each plane
	mem              driver.Memory
	scales           int64 // where they begin
	kernels          [kernelShapes][2]string
}

// Kernels count a matrix's words of quants and bytes of scales in a uint.
const (
	maxQuants = 1 << 34
	maxScales = 1 << 32
)

// Shape gives outputs and inputs.
func (m *matrix) Shape() (rows, cols int) { return m.rows, m.cols }

func (m *matrix) memories() []driver.Memory { return []driver.Memory{m.mem} }

// Close gives the memory back.
func (m *matrix) Close() error {
	if m.d == nil {
		return nil
	}
	m.d.release(m)
	if m.kind.Float() {
		m.d.floats--
	} else {
		m.d.quantised--
	}
	m.d = nil
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
	if q > maxQuants || s > maxScales {
		return nil, fmt.Errorf("make matrix %s of %d by %d: planes of %d and %d bytes; a card takes at most %d and %d", p.Type, p.Rows, p.Cols, q, s, int64(maxQuants), int64(maxScales))
	}
	m := &matrix{
		d: d, kind: p.Type, rows: p.Rows, cols: p.Cols, qStride: p.QStride(), sStride: p.SStride(),
		scales: (q + driver.Align - 1) &^ (driver.Align - 1), kernels: productKernels(p.Type),
	}
	if m.mem, err = d.alloc(m.scales + max(s, driver.Align)); err != nil {
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
	if p.Type.Float() {
		d.floats++
	} else {
		d.quantised++
	}
	return m, nil
}

// The shapes of a product's kernels.
const (
	kernelOne       = iota // one token
	kernelFew              // up to fewLimit
	kernelTile             // many tokens
	kernelTensor           // many tokens, on cards that multiply small integer matrices (cl/tensor.cl)
	kernelTensorFew        // few tokens there
	kernelExpert           // tiles of one matrix's many experts (cl/experts.cl)
	kernelShapes
)

// productKernels names a type's kernels, by shape and by bytes of an activation less one.
func productKernels(t quant.Type) (names [kernelShapes][2]string) {
	for shape, prefix := range []string{"product1_", "product8_", "tile_", "mma_", "mma_few_", "expert_"} {
		for i, suffix := range []string{"_8", "_16"} {
			names[shape][i] = prefix + strings.ToLower(t.String())
			if !t.Float() {
				names[shape][i] += suffix
			}
		}
	}
	return names
}

// views are a matrix's three arguments of a kernel: the quants, and the scales as halves and
// as bytes; halves are the quants themselves in types of 16-bit floats.
func (m *matrix) views() (quants, halves, bytes driver.Arg) {
	quants, bytes = driver.Mem(m.mem), driver.MemAt(m.mem, m.scales)
	if m.kind.Float() {
		return quants, quants, bytes
	}
	return quants, bytes, bytes
}

// groupElements is the number of elements of 16 rows of a float type, with padding.
func (m *matrix) groupElements() int {
	if m.kind == quant.F32 {
		return m.qStride / 4
	}
	return m.qStride / 2
}

func (d *Device) asMatrix(h kernels.Matrix) *matrix {
	m, ok := h.(*matrix)
	if !ok || m.d != d {
		panic(fmt.Sprintf("opencl: foreign or closed matrix %T", h))
	}
	return m
}
