package opencl

import (
	"fmt"
	"unsafe"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// A buffer holds rows of f32, one after another without padding.
type buffer struct {
	d          *Device
	rows, cols int
	mem        driver.Memory
}

// Shape gives rows and columns.
func (b *buffer) Shape() (rows, cols int) { return b.rows, b.cols }

func (b *buffer) memories() []driver.Memory { return []driver.Memory{b.mem} }

// vector is a floored copy of weights.
type vector struct {
	d   *Device
	n   int
	mem driver.Memory
}

// Len gives the number of elements.
func (v *vector) Len() int { return v.n }

func (v *vector) memories() []driver.Memory { return []driver.Memory{v.mem} }

// rope holds cosines and sines, dims/2 of each for a position.
type rope struct {
	d               *Device
	positions, dims int
	cos, sin        driver.Memory
}

// Positions gives the number of positions in the table.
func (r *rope) Positions() int { return r.positions }

// Dims gives the number of rotated elements of a head.
func (r *rope) Dims() int { return r.dims }

func (r *rope) memories() []driver.Memory { return []driver.Memory{r.cos, r.sin} }

// maxElements bounds a buffer: kernels count elements in an int.
const maxElements = 1<<31 - 1<<16

func checkTable(what string, rows, cols int) error {
	if rows < 1 || cols < 1 || rows > maxElements/cols {
		return fmt.Errorf("make %s of %d rows by %d columns: both must be positive and the product at most %d", what, rows, cols, maxElements)
	}
	return nil
}

// bytesOf views numbers as the bytes that a little-endian card reads.
func bytesOf[T int32 | uint32 | float32](x []T) []byte {
	if len(x) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
}

// NewBuffer makes a buffer of zeros.
func (d *Device) NewBuffer(rows, cols int) (kernels.Buffer, error) {
	if err := checkTable("buffer", rows, cols); err != nil {
		return nil, err
	}
	mem, err := d.alloc(4 * int64(rows) * int64(cols))
	if err != nil {
		return nil, fmt.Errorf("make buffer of %d rows by %d columns: %w", rows, cols, err)
	}
	b := &buffer{d: d, rows: rows, cols: cols, mem: mem}
	d.live[b] = struct{}{}
	d.run("zero", each(rows*cols), driver.Mem(mem), driver.Int(rows*cols))
	return b, nil
}

// NewVector copies v, each element through the floor.
func (d *Device) NewVector(v []float32) (kernels.Vector, error) {
	if len(v) == 0 {
		return nil, fmt.Errorf("make vector: it is empty")
	}
	mem, err := d.floored(v)
	if err != nil {
		return nil, fmt.Errorf("make vector of %d elements: %w", len(v), err)
	}
	w := &vector{d: d, n: len(v), mem: mem}
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
	c, err := d.floored(cos)
	if err != nil {
		return nil, fmt.Errorf("make rope of %d positions by %d dimensions: %w", positions, dims, err)
	}
	s, err := d.floored(sin)
	if err != nil {
		d.dev.Free(c)
		return nil, fmt.Errorf("make rope of %d positions by %d dimensions: %w", positions, dims, err)
	}
	r := &rope{d: d, positions: positions, dims: dims, cos: c, sin: s}
	d.live[r] = struct{}{}
	return r, nil
}

// floored makes memory that holds x through the floor.
func (d *Device) floored(x []float32) (driver.Memory, error) {
	mem, err := d.alloc(4 * int64(len(x)))
	if err != nil {
		return nil, err
	}
	y := append([]float32(nil), x...)
	arith.FloorAll(y)
	if err := d.dev.Write(mem, 0, bytesOf(y)); err != nil {
		d.dev.Free(mem)
		return nil, err
	}
	return mem, nil
}

// Write stores whole rows, each element through the floor.
func (d *Device) Write(dst kernels.Buffer, row int, src []float32) {
	b := d.asBuffer(dst)
	wholeRows("write", b, row, len(src))
	d.upload(b.mem, 4*int64(row)*int64(b.cols), bytesOf(src))
	d.run("floor_all", each(len(src)), driver.Mem(b.mem), driver.Int(row*b.cols), driver.Int(len(src)))
}

// Read waits, then copies whole rows into dst.
func (d *Device) Read(dst []float32, src kernels.Buffer, row int) error {
	b := d.asBuffer(src)
	wholeRows("read", b, row, len(dst))
	d.download("read", bytesOf(dst), b.mem, 4*int64(row)*int64(b.cols))
	return d.err
}

func wholeRows(op string, b *buffer, row, n int) {
	rows := n / b.cols
	if n%b.cols != 0 || row < 0 || row+rows > b.rows {
		panic(fmt.Sprintf("opencl: %s %d elements at row %d of a buffer of %d rows by %d columns", op, n, row, b.rows, b.cols))
	}
}

// The conversions below panic on handles of another device: a programmer's error.
func (d *Device) asBuffer(h kernels.Buffer) *buffer {
	b, ok := h.(*buffer)
	if !ok || b.d != d {
		panic(fmt.Sprintf("opencl: foreign buffer %T", h))
	}
	return b
}

func (d *Device) asVector(h kernels.Vector) *vector {
	v, ok := h.(*vector)
	if !ok || v.d != d {
		panic(fmt.Sprintf("opencl: foreign vector %T", h))
	}
	return v
}

// needRows panics unless the buffer has that many rows.
func needRows(op string, b *buffer, rows int) {
	if rows > b.rows {
		panic(fmt.Sprintf("opencl: %s of %d rows in a buffer of %d", op, rows, b.rows))
	}
}

// needShape panics unless the buffer has that many rows, and exactly cols columns.
func needShape(op string, b *buffer, rows, cols int) {
	needRows(op, b, rows)
	if b.cols != cols {
		panic(fmt.Sprintf("opencl: %s with a buffer of %d columns; want %d", op, b.cols, cols))
	}
}
