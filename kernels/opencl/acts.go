package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// acts is the input of matrix products: quantised records (cl/acts.cl) and a copy of the
// floats, each made by Prepare where the device holds matrices that read it, so that the
// source may be overwritten afterwards. A matrix made between Prepare and MatMul is served
// from the source.
type acts struct {
	d          *Device
	rows, cols int
	bits       kernels.ActBits
	stride     int // elements from row to row of the copy, a multiple of 4

	records driver.Memory // nil where cols has no whole blocks
	floats  driver.Memory // made when it is first needed
	// bad has a mark for each row that could not be quantised. Two tables take turns: while
	// one is marked the other is cleared for the next time, so that launches have the same
	// arguments again and again.
	bad  [2]driver.Memory
	turn int

	source              *buffer // of the last Prepare
	n                   int     // its rows
	hasRecords, hasCopy bool
}

// Shape gives rows and columns.
func (a *acts) Shape() (rows, cols int) { return a.rows, a.cols }

func (a *acts) memories() []driver.Memory {
	var m []driver.Memory
	for _, p := range []driver.Memory{a.records, a.floats, a.bad[0], a.bad[1]} {
		if p != nil {
			m = append(m, p)
		}
	}
	return m
}

// recordBytes is the size of the record of recordTokens tokens and 32 elements.
func recordBytes(bits kernels.ActBits) int64 {
	if bits == kernels.Act8 {
		return 512
	}
	return 768
}

const recordTokens = 8

// NewActs makes room for the inputs of products.
func (d *Device) NewActs(rows, cols int, bits kernels.ActBits) (kernels.Acts, error) {
	if err := checkTable("acts", rows, cols+3); err != nil {
		return nil, err
	}
	if bits != kernels.Act8 && bits != kernels.Act16 {
		return nil, fmt.Errorf("make acts of %d bits: want 8 or 16", bits)
	}
	a := &acts{d: d, rows: rows, cols: cols, bits: bits, stride: (cols + 3) &^ 3}
	if err := a.allocate(); err != nil {
		for _, m := range a.memories() {
			d.dev.Free(m)
		}
		return nil, fmt.Errorf("make acts of %d rows by %d columns: %w", rows, cols, err)
	}
	d.live[a] = struct{}{}
	return a, nil
}

func (a *acts) allocate() (err error) {
	if a.cols%32 != 0 {
		return a.allocateFloats()
	}
	for i := range a.bad {
		if a.bad[i], err = a.d.alloc(4 * int64(a.rows)); err != nil {
			return err
		}
		if err = a.d.dev.Write(a.bad[i], 0, make([]byte, 4*a.rows)); err != nil {
			return err
		}
	}
	a.records, err = a.d.alloc(int64(ceil(a.rows, recordTokens)) * int64(a.cols/32) * recordBytes(a.bits))
	return err
}

// allocateFloats makes room for the copy. Most models have no float matrices.
func (a *acts) allocateFloats() (err error) {
	if a.floats == nil {
		a.floats, err = a.d.alloc(4 * int64(a.rows) * int64(a.stride))
	}
	return err
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
	n := len(b.Rows)
	needShape("prepare", src, n, a.cols)
	if n > a.rows {
		panic(fmt.Sprintf("opencl: prepare of %d rows in acts of %d", n, a.rows))
	}
	a.source, a.n, a.hasRecords, a.hasCopy = src, n, false, false
	if d.quantised > 0 && a.cols%32 == 0 {
		d.quantise(a)
	}
	if d.floats > 0 {
		d.copyFloats(a)
	}
}

// quantiseItems is the size of the quantiser's groups: 256 columns of a row.
const quantiseItems = 64

// quantise fills the records from the source.
func (d *Device) quantise(a *acts) {
	a.hasRecords = true
	if a.n == 0 { // nothing is cleared either
		return
	}
	a.turn = 1 - a.turn
	top := 127
	if a.bits == kernels.Act16 {
		top = 16319
	}
	d.run("quantise", groupsOf(quantiseItems, segments(a.cols), a.n, 1), driver.Mem(a.source.mem), driver.Mem(a.records),
		driver.Mem(a.bad[a.turn]), driver.Mem(a.bad[1-a.turn]), driver.Int(a.rows), driver.Int(a.cols), driver.Int(top))
}

// copyFloats copies the source.
func (d *Device) copyFloats(a *acts) {
	if err := a.allocateFloats(); err != nil {
		d.fail("prepare", err)
		return
	}
	d.run("copy_floats", each(a.n*a.stride), driver.Mem(a.floats), driver.Mem(a.source.mem), driver.Int(a.cols),
		driver.Int(a.stride), driver.Int(a.n*a.stride))
	a.hasCopy = true
}

// segments is the number of segments of 256 columns.
func segments(cols int) int { return (cols + 255) / 256 }
