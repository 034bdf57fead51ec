package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// A record is one block of 32 quantised activations of one token in 64 bytes,
// a cache line:
//
//	 0  32 x int8   q (at 16 bits: the low plane)
//	32  f32         d, the factor of q
//	36  f32         s = RN(d*float(sum of all 32 q))
//	40  int32       -8 times the plane's sum of 32
//	44  int32       -128 times the plane's sum of 32
//	48  2 x int32   -32 times the plane's sums of the first and last 16
//	56  2 x f32     s of the first and the last 16 elements
//
// The negative sums start the integer accumulators of weights that are stored
// with an offset. At 16 bits a second line follows with the high plane: its q
// at 0 and its sums at 40 to 55. Records of a token lie in a row; a spare line
// after the last keeps tokens of 2048 and 4096 columns off the same cache sets.
const (
	recordBytes = 64

	recD     = 32
	recS     = 36
	recSum8  = 40
	recSum32 = 48
	recSHalf = 56
)

// acts is the input of matrix products. Prepare quantises at once when the
// device holds quantised matrices and copies the floats when it holds float
// matrices, so that the source may be overwritten afterwards; a matrix made
// between Prepare and MatMul is served from the source.
type acts struct {
	rows, cols int
	lines      int // lines of a record: 1 at 8 bits, 2 at 16
	stride     int // bytes from token to token of the records
	top        float32

	mem  []byte // records, then panels, then floats
	recs []byte
	// panels hold the records by 16 tokens for matrix tiles, where the device
	// has them, panelStride bytes from tokens to tokens; see matrixTiles.
	panels      []byte
	panelStride int
	copy        buffer // floats; its columns are padded to whole blocks

	source  *buffer // buffer of the last Prepare
	n       int     // its rows
	hasRecs bool
	// hasPanels tells that the panels hold the records too.
	hasPanels bool
	hasCopy   bool
	bad       []uint32 // per row: not 0 if a value cannot be quantised
	anyBad    bool
	quantErr  bool // faults of this Prepare have been reported
}

// Shape gives rows and columns.
func (a *acts) Shape() (rows, cols int) { return a.rows, a.cols }

func (a *acts) free() error { return release(a.mem) }

// blocks is the number of records of a token.
func (a *acts) blocks() int { return a.cols / 32 }

// token gives the records of row i.
func (a *acts) token(i int) []byte { return a.recs[i*a.stride : (i+1)*a.stride] }

// NewActs makes room for the inputs of products.
func (d *Device) NewActs(rows, cols int, bits kernels.ActBits) (kernels.Acts, error) {
	a, err := d.newActs(rows, cols, bits, (rows+panelTokens-1)/panelTokens)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// newActs makes acts with so many panels.
func (d *Device) newActs(rows, cols int, bits kernels.ActBits, panels int) (*acts, error) {
	if err := checkTable("acts", rows, cols); err != nil {
		return nil, err
	}
	if bits != kernels.Act8 && bits != kernels.Act16 {
		return nil, fmt.Errorf("make acts of %d bits: want 8 or 16", bits)
	}
	a := &acts{rows: rows, cols: cols, lines: int(bits) / 8, top: 127, bad: make([]uint32, rows)}
	if bits == kernels.Act16 {
		a.top = 16319
	}
	a.stride = recordBytes * (a.lines*a.blocks() + 1)
	a.copy = buffer{rows: rows, cols: cols, stride: pad16(cols)}
	if d.set.matrix != nil {
		a.panelStride = panelBytes(a.lines) * a.blocks()
	}
	panels *= a.panelStride
	mem, err := reserve(rows*(a.stride+4*a.copy.stride) + panels)
	if err != nil {
		return nil, fmt.Errorf("make acts of %d rows by %d columns: %w", rows, cols, err)
	}
	a.mem, a.recs = mem, mem[:rows*a.stride]
	a.panels = mem[rows*a.stride : rows*a.stride+panels]
	a.copy.data = floats(mem[rows*a.stride+panels:])
	d.live[a] = struct{}{}
	return a, nil
}

func asActs(h kernels.Acts) *acts {
	a, ok := h.(*acts)
	if !ok {
		panic(fmt.Sprintf("cpu: foreign acts %T", h))
	}
	return a
}

// Prepare makes x's rows the input of the products that follow.
func (d *Device) Prepare(b *kernels.Batch, dst kernels.Acts, x kernels.Buffer) {
	a, src := asActs(dst), asBuffer(x)
	n := len(b.Rows)
	needShape("prepare", src, n, a.cols)
	if n > a.rows {
		panic(fmt.Sprintf("cpu: prepare of %d rows in acts of %d", n, a.rows))
	}
	d.flush()
	a.source, a.n = src, n
	a.hasRecs, a.hasPanels, a.hasCopy, a.anyBad, a.quantErr = false, false, false, false, false
	if d.quantised > 0 && a.cols%32 == 0 {
		d.quantise(a)
	}
	if d.floats > 0 {
		for i := range n {
			copy(a.copy.row(i), src.row(i))
		}
		a.hasCopy = true
	}
}

// prepareTask quantises the rows of acts; a unit is a row, or with spread those
// of a panel.
type prepareTask struct {
	d      *Device
	a      *acts
	spread spreadKernel // nil without panels
}

// quantise fills the records from the source.
func (d *Device) quantise(a *acts) {
	d.prepareTask = prepareTask{d: d, a: a}
	units := a.n
	if m := d.set.matrix; m != nil && a.n >= matrixLeast {
		d.prepareTask.spread = m.spread[a.lines-1]
		units = (a.n + panelTokens - 1) / panelTokens
		a.hasPanels = true
	}
	d.parallel(&d.prepareTask, units, a.n*a.cols)
	a.hasRecs = true
	for _, bad := range a.bad[:a.n] {
		a.anyBad = a.anyBad || bad != 0
	}
}

func (t *prepareTask) unit(_, i int) {
	if t.spread == nil {
		t.row(i)
		return
	}
	first := i * panelTokens
	last := min(first+panelTokens, t.a.n)
	for row := first; row < last; row++ {
		t.row(row)
	}
	t.a.spread(t.spread, first, last)
}

// row quantises a row.
func (t *prepareTask) row(i int) {
	a := t.a
	x, recs := a.source.row(i), a.token(i)
	k := t.d.set.quantise
	if a.lines == 2 {
		k = t.d.set.quantise16
	}
	if k != nil {
		a.bad[i] = k(&x[0], &recs[0], a.blocks())
		return
	}
	a.bad[i] = 0
	for b := range a.blocks() {
		if !quantiseBlock((*[32]float32)(x[32*b:]), recs[b*a.lines*recordBytes:], a.top) {
			a.bad[i] = 1
		}
	}
}

// quantiseBlock writes the record of 32 elements. A block with a value that is
// not finite becomes zeros, and false is returned.
func quantiseBlock(x *[32]float32, rec []byte, top float32) bool {
	amax := arith.MaxAbsBits(x[:])
	lines := 1
	if top != 127 {
		lines = 2
	}
	if bad := amax >= 0x7f800000; bad || math.Float32frombits(amax) < arith.Tiny {
		clear(rec[:lines*recordBytes])
		return !bad
	}
	id := float32(top / math.Float32frombits(amax))
	scale := float32(math.Float32frombits(amax) / top)
	var sums, lowSums, highSums [2]int32
	for i, v := range x {
		q := arith.RoundEven(float32(v * id))
		sums[i/16] += q
		low := q
		if lines == 2 {
			low = (q+64)&127 - 64
			high := (q - low) / 128
			rec[recordBytes+i] = byte(high)
			highSums[i/16] += high
		}
		rec[i] = byte(low)
		lowSums[i/16] += low
	}
	le := binary.LittleEndian
	putScale := func(at int, sum int32) {
		le.PutUint32(rec[at:], math.Float32bits(float32(scale*float32(sum))))
	}
	le.PutUint32(rec[recD:], math.Float32bits(scale))
	putScale(recS, sums[0]+sums[1])
	putScale(recSHalf, sums[0])
	putScale(recSHalf+4, sums[1])
	putSums(rec, lowSums)
	if lines == 2 {
		putSums(rec[recordBytes:], highSums)
	}
	return true
}

// putSums writes the correction terms of one plane.
func putSums(line []byte, sums [2]int32) {
	le := binary.LittleEndian
	le.PutUint32(line[recSum8:], uint32(-8*(sums[0]+sums[1])))
	le.PutUint32(line[recSum8+4:], uint32(-128*(sums[0]+sums[1])))
	le.PutUint32(line[recSum32:], uint32(-32*sums[0]))
	le.PutUint32(line[recSum32+4:], uint32(-32*sums[1]))
}

// recFloat reads a float of a record.
func recFloat(rec []byte, at int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(rec[at:]))
}

// int8s views 32 bytes of a record as signed numbers.
func int8s(rec []byte) *[32]int8 { return (*[32]int8)(unsafe.Pointer((*[32]byte)(rec))) }
