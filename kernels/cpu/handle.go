package cpu

import (
	"fmt"
	"unsafe"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// A buffer holds rows of f32, each padded to whole vectors of 16, so that
// kernels may store whole vectors. Padding holds numbers without meaning.
type buffer struct {
	rows, cols int
	stride     int // elements from row to row, a multiple of 16
	mem        []byte
	data       []float32
}

// Shape gives rows and columns without padding.
func (b *buffer) Shape() (rows, cols int) { return b.rows, b.cols }

func (b *buffer) free() error { return release(b.mem) }

// row gives row i without padding.
func (b *buffer) row(i int) []float32 {
	return b.data[i*b.stride : i*b.stride+b.cols : i*b.stride+b.cols]
}

// wide gives row i with padding.
func (b *buffer) wide(i int) []float32 {
	return b.data[i*b.stride : (i+1)*b.stride : (i+1)*b.stride]
}

// vector is a floored copy of weights, padded with zeros to a multiple of 16.
type vector struct {
	n    int
	data []float32
}

// Len gives the number of elements without padding.
func (v *vector) Len() int { return v.n }

func (v *vector) free() error { v.data = nil; return nil }

// rope holds cosines and sines, dims/2 of each for a position.
type rope struct {
	positions, dims int
	cos, sin        []float32
}

// Positions gives the number of positions in the table.
func (r *rope) Positions() int { return r.positions }

// Dims gives the number of rotated elements of a head.
func (r *rope) Dims() int { return r.dims }

func (r *rope) free() error { r.cos, r.sin = nil, nil; return nil }

// maxElements bounds a buffer, so that sizes in bytes cannot overflow.
const maxElements = 1 << 40

func checkTable(what string, rows, cols int) error {
	if rows < 1 || cols < 1 || rows > maxElements/cols {
		return fmt.Errorf("make %s of %d rows by %d columns: both must be positive and the product at most 2^40", what, rows, cols)
	}
	return nil
}

func pad16(n int) int { return (n + 15) &^ 15 }

// floats views memory as f32.
func floats(mem []byte) []float32 {
	if len(mem) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&mem[0])), len(mem)/4)
}

// halves views memory as 16-bit numbers.
func halves(mem []byte) []uint16 {
	if len(mem) == 0 {
		return nil
	}
	return unsafe.Slice((*uint16)(unsafe.Pointer(&mem[0])), len(mem)/2)
}

// NewBuffer makes a buffer of zeros, whose pages cost memory when first used.
func (d *Device) NewBuffer(rows, cols int) (kernels.Buffer, error) {
	if err := checkTable("buffer", rows, cols); err != nil {
		return nil, err
	}
	b := &buffer{rows: rows, cols: cols, stride: pad16(cols)}
	mem, err := reserve(rows * b.stride * 4)
	if err != nil {
		return nil, fmt.Errorf("make buffer of %d rows by %d columns: %w", rows, cols, err)
	}
	b.mem, b.data = mem, floats(mem)
	d.live[b] = struct{}{}
	return b, nil
}

// NewVector copies v, each element through the floor.
func (d *Device) NewVector(v []float32) (kernels.Vector, error) {
	if len(v) == 0 {
		return nil, fmt.Errorf("make vector: it is empty")
	}
	w := &vector{n: len(v), data: make([]float32, pad16(len(v)))}
	copy(w.data, v)
	arith.FloorAll(w.data)
	d.live[w] = struct{}{}
	return w, nil
}

// NewRope copies the tables, each element through the floor.
func (d *Device) NewRope(cos, sin []float32, positions, dims int) (kernels.Rope, error) {
	if positions < 1 || dims < 2 || dims%2 != 0 || positions > maxElements/dims {
		return nil, fmt.Errorf("make rope of %d positions by %d dimensions: want at least one position and an even number of dimensions", positions, dims)
	}
	if n := positions * dims / 2; len(cos) != n || len(sin) != n {
		return nil, fmt.Errorf("make rope of %d positions by %d dimensions: %d cosines and %d sines; want %d of each", positions, dims, len(cos), len(sin), n)
	}
	r := &rope{positions: positions, dims: dims, cos: append([]float32(nil), cos...), sin: append([]float32(nil), sin...)}
	arith.FloorAll(r.cos)
	arith.FloorAll(r.sin)
	d.live[r] = struct{}{}
	return r, nil
}

// Write stores whole rows, each element through the floor.
func (d *Device) Write(dst kernels.Buffer, row int, src []float32) {
	d.flush()
	b := asBuffer(dst)
	for i := range wholeRows("write", b, row, len(src)) {
		to := b.row(row + i)
		copy(to, src[i*b.cols:])
		d.floorAll(to)
	}
}

// floorAll stores F of each element of x.
func (d *Device) floorAll(x []float32) {
	whole := 0
	if k := d.set.floor; k != nil && len(x) >= 16 {
		whole = len(x) &^ 15
		k(&x[0], whole)
	}
	arith.FloorAll(x[whole:])
}

// Read copies whole rows into dst.
func (d *Device) Read(dst []float32, src kernels.Buffer, row int) error {
	d.flush()
	b := asBuffer(src)
	for i := range wholeRows("read", b, row, len(dst)) {
		copy(dst[i*b.cols:], b.row(row+i))
	}
	return nil
}

// wholeRows gives the number of rows that n elements are.
func wholeRows(op string, b *buffer, row, n int) int {
	rows := n / b.cols
	if n%b.cols != 0 || row < 0 || row+rows > b.rows {
		panic(fmt.Sprintf("cpu: %s %d elements at row %d of a buffer of %d rows by %d columns", op, n, row, b.rows, b.cols))
	}
	return rows
}

// The conversions below panic on handles of another device: a programmer's
// error.
func asBuffer(h kernels.Buffer) *buffer {
	b, ok := h.(*buffer)
	if !ok {
		panic(fmt.Sprintf("cpu: foreign buffer %T", h))
	}
	return b
}

func asVector(h kernels.Vector) *vector {
	v, ok := h.(*vector)
	if !ok {
		panic(fmt.Sprintf("cpu: foreign vector %T", h))
	}
	return v
}

// needRows panics unless the buffer has that many rows.
func needRows(op string, b *buffer, rows int) {
	if rows > b.rows {
		panic(fmt.Sprintf("cpu: %s of %d rows in a buffer of %d", op, rows, b.rows))
	}
}

// needShape panics unless the buffer has that many rows, and exactly cols
// columns.
func needShape(op string, b *buffer, rows, cols int) {
	needRows(op, b, rows)
	if b.cols != cols {
		panic(fmt.Sprintf("cpu: %s with a buffer of %d columns; want %d", op, b.cols, cols))
	}
}
