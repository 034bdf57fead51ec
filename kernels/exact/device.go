package exact

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// Options says what New makes. The zero value computes on all processors and
// dequantises weights anew for each product.
type Options struct {
	Threads int // goroutines that compute; 0 is GOMAXPROCS
	// CacheBytes bounds the memory for dequantised weights, 4 bytes each.
	// Matrices are kept in the order in which they are made, as long as a whole
	// one fits; the others are dequantised row by row in each product.
	CacheBytes int64
}

// Device computes in float64. Every operation has ended when its call returns.
type Device struct {
	threads int
	cache   int64 // bytes of CacheBytes that are left
}

var _ kernels.Device = (*Device)(nil)

// New makes a device. It holds no goroutines between operations.
func New(o Options) (*Device, error) {
	if o.Threads < 0 || o.Threads > 1024 || o.CacheBytes < 0 {
		return nil, fmt.Errorf("exact device with %d threads and %d bytes of cache: choose 0 to 1024 threads, 0 or more bytes", o.Threads, o.CacheBytes)
	}
	d := &Device{threads: o.Threads, cache: o.CacheBytes}
	if d.threads == 0 {
		d.threads = runtime.GOMAXPROCS(0)
	}
	return d, nil
}

// Name says what the device is.
func (d *Device) Name() string { return fmt.Sprintf("exact float64, %d threads", d.threads) }

// Sync returns at once: operations end before they return.
func (d *Device) Sync() error { return nil }

// Close does nothing: memory is the garbage collector's.
func (d *Device) Close() error { return nil }

// Free does nothing, see Close.
func (d *Device) Free(any) {}

// parallel runs f over parts of 0..n-1 and waits for all of them.
func (d *Device) parallel(n int, f func(from, to int)) {
	parts := min(n, d.threads)
	if parts <= 1 {
		f(0, n)
		return
	}
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() { f(i*n/parts, (i+1)*n/parts) })
	}
	wg.Wait()
}

type vector []float32

func (v vector) Len() int { return len(v) }

type buffer struct {
	rows, cols int
	data       []float32
}

// Shape gives rows and columns.
func (b *buffer) Shape() (rows, cols int) { return b.rows, b.cols }

func (b *buffer) row(i int) []float32 { return b.data[i*b.cols : (i+1)*b.cols] }

// acts is the input of products, widened.
type acts struct {
	rows, cols int
	data       []float64
}

// Shape gives rows and columns.
func (a *acts) Shape() (rows, cols int) { return a.rows, a.cols }

type rope struct {
	dims     int
	cos, sin []float32
}

// Positions is the number of positions of the table.
func (r *rope) Positions() int { return 2 * len(r.cos) / r.dims }

// Dims is the number of rotated elements of a head.
func (r *rope) Dims() int { return r.dims }

// as asserts that a handle is this package's.
func as[T any](h any) T {
	v, ok := h.(T)
	if !ok {
		panic(fmt.Sprintf("exact: foreign handle %T", h))
	}
	return v
}

// need panics on a wrong shape.
func need(ok bool, op string) {
	if !ok {
		panic("exact: wrong shape in " + op)
	}
}

// table asserts that h is a buffer with room for the rows and, if cols is not
// 0, of that width.
func table(h kernels.Buffer, rows, cols int, op string) *buffer {
	b := as[*buffer](h)
	need(rows <= b.rows && (cols == 0 || cols == b.cols), op)
	return b
}

func checkTable(what string, rows, cols int) error {
	if rows <= 0 || cols <= 0 || int64(rows)*int64(cols) > 1<<40 {
		return fmt.Errorf("make %s of %d rows by %d columns: want positive sizes, at most 2^40 elements", what, rows, cols)
	}
	return nil
}

// NewVector copies v, each element through the floor.
func (d *Device) NewVector(v []float32) (kernels.Vector, error) {
	if len(v) == 0 {
		return nil, fmt.Errorf("make vector: it has no elements")
	}
	c := append(vector(nil), v...)
	arith.FloorAll(c)
	return c, nil
}

// NewBuffer makes a buffer of zeros.
func (d *Device) NewBuffer(rows, cols int) (kernels.Buffer, error) {
	if err := checkTable("buffer", rows, cols); err != nil {
		return nil, err
	}
	return &buffer{rows, cols, make([]float32, rows*cols)}, nil
}

// NewActs makes room for inputs of products. bits is ignored.
func (d *Device) NewActs(rows, cols int, _ kernels.ActBits) (kernels.Acts, error) {
	if err := checkTable("acts", rows, cols); err != nil {
		return nil, err
	}
	return &acts{rows, cols, make([]float64, rows*cols)}, nil
}

// NewRope makes a table of copies of cos and sin.
func (d *Device) NewRope(cos, sin []float32, positions, dims int) (kernels.Rope, error) {
	if positions <= 0 || dims <= 0 || dims%2 != 0 || len(cos) != positions*dims/2 || len(sin) != len(cos) {
		return nil, fmt.Errorf("make rope table of %d positions by %d: %d cosines and %d sines do not fit", positions, dims, len(cos), len(sin))
	}
	return &rope{dims, append([]float32(nil), cos...), append([]float32(nil), sin...)}, nil
}

// Write stores whole rows.
func (d *Device) Write(dst kernels.Buffer, row int, src []float32) {
	b := as[*buffer](dst)
	need(row >= 0 && len(src)%b.cols == 0 && row*b.cols+len(src) <= len(b.data), "write")
	out := b.data[row*b.cols:][:len(src)]
	copy(out, src)
	arith.FloorAll(out)
}

// Read copies whole rows.
func (d *Device) Read(dst []float32, src kernels.Buffer, row int) error {
	b := as[*buffer](src)
	need(row >= 0 && len(dst)%b.cols == 0 && row*b.cols+len(dst) <= len(b.data), "read")
	copy(dst, b.data[row*b.cols:])
	return nil
}

// Gather copies rows of src to rows 0.. of dst.
func (d *Device) Gather(dst, src kernels.Buffer, rows []int32) {
	s := as[*buffer](src)
	out := table(dst, len(rows), s.cols, "gather")
	for i, r := range rows {
		copy(out.row(i), s.row(int(r)))
	}
}

// note adds a row's first fault.
func note(b *kernels.Batch, row int, op string) {
	for _, f := range b.Faults {
		if f.Row == row {
			return
		}
	}
	b.Faults = append(b.Faults, kernels.Fault{Row: row, Layer: b.Layer, Op: op})
}

// noteAll adds the faults of an operation that marked rows in parallel.
func noteAll(b *kernels.Batch, bad []bool, op string) {
	for i, is := range bad {
		if is {
			note(b, i, op)
		}
	}
}
