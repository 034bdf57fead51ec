//go:build linux

package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// tiled finds the machine's set with matrix tiles, or skips the test.
func tiled(t *testing.T) *kernelSet {
	t.Helper()
	for _, set := range everySet() {
		if set.matrix != nil {
			return set
		}
	}
	t.Skip("not run: this machine has no matrix tiles (AMX), or its system does not give them")
	return nil
}

// eachMatrixType visits the types that matrix tiles serve.
func eachMatrixType(t *testing.T, run func(t *testing.T, set *kernelSet, kind quant.Type)) {
	set := tiled(t)
	for kind := range set.matrix.unpack {
		t.Run(kind.String(), func(t *testing.T) { run(t, set, kind) })
	}
}

// matrixOf makes a matrix in guarded memory.
func (b bench) matrixOf(kind quant.Type, groups, cols int) *matrix {
	m := &matrix{kind: kind, format: formats[kind], rows: 16 * groups, cols: cols, groups: groups}
	m.qStride, m.sStride = m.format.strides(kind, cols)
	m.quants, m.scales = guarded(b, groups*m.qStride, b.behind), guarded(b, groups*m.sStride, b.behind)
	b.fill(m)
	return m
}

// colsOf gives numbers of columns that blocks of the type allow.
func colsOf(kind quant.Type) []int {
	if info, _ := kind.Info(); info.BlockElems == 32 {
		return []int{32, 256, 288}
	}
	return []int{256, 768}
}

func TestUnpackersStayInsideTheirOperands(t *testing.T) {
	eachMatrixType(t, func(t *testing.T, set *kernelSet, kind quant.Type) {
		eachEnd(t, func(b bench) {
			for _, cols := range colsOf(kind) {
				m := b.matrixOf(kind, 1, cols)
				size := m.unpackedBytes()
				got := guarded(b, cols/32*size, b.behind)
				set.matrix.unpack[kind](&m.quants[0], &m.scales[0], &got[0], cols/32)
				for block := range cols / 32 {
					b.sameUnpacked(m, block, got[block*size:(block+1)*size])
				}
			}
		})
	})
}

// sameUnpacked compares an unpacked block of a group with what portable Go
// unpacks.
func (b bench) sameUnpacked(m *matrix, block int, got []byte) {
	b.Helper()
	var p panel
	m.unpack(&p, 0, block, 0, 16)
	for r := range 16 {
		for k := range 32 {
			if w := int8(got[64*(k/4)+4*r+k%4]); w != p.w[r][k] {
				b.Fatalf("%s: row %d column %d of block %d is %d, portable Go gives %d", m.kind, r, k, block, w, p.w[r][k])
			}
		}
		for h := range m.format.halves {
			scale, minimum := recFloat(got, panelQuants+64*h+4*r), float32(0)
			if hasMin(m.kind) {
				minimum = recFloat(got, panelQuants+64*(m.format.halves+h)+4*r)
			}
			if scale != p.scale[h][r] || minimum != p.min[h][r] {
				b.Fatalf("%s: scale and minimum of row %d in block %d are %g and %g, portable Go gives %g and %g",
					m.kind, r, block, scale, minimum, p.scale[h][r], p.min[h][r])
			}
		}
	}
}

func TestSpreadersStayInsideTheirOperands(t *testing.T) {
	set := tiled(t)
	for lines := 1; lines <= 2; lines++ {
		eachEnd(t, func(b bench) {
			a := b.panelsOf(5, 96, lines)
			clear(a.panels)
			a.spread(set.matrix.spread[lines-1], 0, 5)
			for i := range 5 {
				for block := range a.blocks() {
					rec, panel := a.token(i)[block*lines*recordBytes:], a.panels[block*panelBytes(lines):]
					for line := range lines {
						if string(panel[line*panelQuants+32*i:][:32]) != string(rec[line*recordBytes:][:32]) {
							b.Fatalf("%d lines: integers of token %d in block %d differ", lines, i, block)
						}
					}
					for k, at := range []int{recD, recS, recSHalf, recSHalf + 4} {
						if got, want := recFloat(panel, lines*panelQuants+64*k+4*i), recFloat(rec, at); got != want {
							b.Fatalf("%d lines: float %d of token %d in block %d is %g, want %g", lines, k, i, block, got, want)
						}
					}
				}
			}
		})
	}
}

// panelsOf makes activations in guarded memory, with panels that are not filled
// yet.
func (b bench) panelsOf(tokens, cols, lines int) *acts {
	a := &acts{rows: tokens, cols: cols, lines: lines, top: 127, n: tokens, bad: make([]uint32, tokens)}
	if lines == 2 {
		a.top = 16319
	}
	a.stride = recordBytes * lines * a.blocks()
	a.recs = guarded(b, tokens*a.stride, b.behind)
	a.panelStride = panelBytes(lines) * a.blocks()
	a.panels = guarded(b, (tokens+panelTokens-1)/panelTokens*a.panelStride, b.behind)
	a.source = &buffer{rows: tokens, cols: cols, stride: cols, data: b.floats(tokens * cols)}
	if b.fixed != nil {
		for i := range a.source.data {
			a.source.data[i] = b.fixed.sign
		}
	}
	task := prepareTask{d: plain, a: a}
	for i := range tokens {
		task.row(i)
	}
	return a
}

// matrixProducts compares products with matrix tiles, and with the kernels that
// take the tokens which fill no panel, with portable Go.
func (b bench) matrixProducts(set *kernelSet, kind quant.Type, groups, cols, tokens, lines int) {
	b.Helper()
	m := b.matrixOf(kind, groups, cols)
	a := b.panelsOf(tokens, cols, lines)
	a.spread(set.matrix.spread[lines-1], 0, tokens)
	a.hasPanels = true
	d := &Device{set: set, scratch: make([]scratch, 1)}
	d.makeRoom(m)
	run := func(d *Device) []float32 {
		dst := &buffer{rows: tokens, cols: m.rows, stride: m.rows, data: b.floats(tokens * m.rows)}
		task := &matmulTask{d: d, w: m, a: a, dst: dst, n: tokens, split: splitGroups(groups, groups, 1)}
		task.table = d.tilesFor(m, a)
		if task.unpack, task.product = task.matrixProduct(); (task.unpack == nil) != (d == plain) {
			b.Fatalf("%d tokens of %s are not for matrix tiles", tokens, kind)
		}
		for u := range task.split.units {
			task.unit(0, u)
		}
		return dst.data
	}
	plain.scratch = make([]scratch, 1)
	b.same(fmt.Sprintf("%d tokens of %s with %d columns and %d lines", tokens, kind, cols, lines), run(d), run(plain))
}

func TestMatrixProductsStayInsideTheirOperands(t *testing.T) {
	eachMatrixType(t, func(t *testing.T, set *kernelSet, kind quant.Type) {
		eachEnd(t, func(b bench) {
			for lines := 1; lines <= 2; lines++ {
				for _, cols := range colsOf(kind) {
					b.matrixProducts(set, kind, 2, cols, matrixLeast, lines)
				}
				b.matrixProducts(set, kind, 1, 256, 2*panelTokens, lines)
				b.matrixProducts(set, kind, 3, 256, 2*panelTokens+panelLeast-1, lines)
				b.matrixProducts(set, kind, 1, 256, 2*panelTokens+panelLeast, lines)
			}
		})
	})
}

func TestMatrixProductsTakeMoreGroupsThanAreUnpackedAtATime(t *testing.T) {
	set := tiled(t)
	b := bench{TB: t, r: newRand(), behind: true}
	m := &matrix{kind: quant.Q4_1, format: formats[quant.Q4_1], cols: 4096}
	b.matrixProducts(set, m.kind, 2*m.matrixGroups()+1, m.cols, 31, 1)
}

// Integer sums of 8-bit activations become floats by a way that has room for 22
// bits.
func TestMatrixProductsOfTheLargestNumbersDoNotOverflow(t *testing.T) {
	if most := 32 * 128 * 127; most >= 1<<22 {
		t.Errorf("sums of up to %d", most)
	}
	eachMatrixType(t, func(t *testing.T, set *kernelSet, kind quant.Type) {
		for _, f := range []fixed{{0xff, 1}, {0xff, -1}, {0, 1}, {0, -1}, {0x80, 1}, {0x7f, -1}} {
			b := bench{TB: t, r: rand.New(rand.NewPCG(5, 6)), behind: true, fixed: &f}
			for lines := 1; lines <= 2; lines++ {
				b.matrixProducts(set, kind, 1, 256, matrixLeast, lines)
			}
		}
	})
}

func TestPanelsOfABatchBeforeDoNotShow(t *testing.T) {
	set := tiled(t)
	b := bench{TB: t, r: newRand(), behind: true}
	m := b.matrixOf(quant.Q4_0, 1, 64)
	d := &Device{set: set, pool: newPool(1), live: map[closer]struct{}{}, scratch: make([]scratch, 1), quantised: 1}
	defer d.Close()
	d.makeRoom(m)
	h, err := d.NewActs(40, 64, 8)
	if err != nil {
		t.Fatal(err)
	}
	run := func(data []float32) []float32 {
		rows := len(data) / 64
		a := h.(*acts)
		a.source, a.n = &buffer{rows: rows, cols: 64, stride: 64, data: data}, rows
		d.quantise(a)
		dst := &buffer{rows: rows, cols: 16, stride: 16, data: make([]float32, 16*rows)}
		task := &matmulTask{d: d, w: m, a: a, dst: dst, n: rows, split: splitGroups(1, 1, 1), table: d.tilesFor(m, a)}
		task.unpack, task.product = task.matrixProduct()
		task.unit(0, 0)
		return dst.data
	}
	x := b.floats(64 * 27)
	want := run(x)
	wild := make([]float32, 64*40)
	for i := range wild {
		wild[i] = math.MaxFloat32
	}
	run(wild)
	b.same("after another batch", run(x), want)
}

func TestMatrixProductsAllocateNothingInSteadyState(t *testing.T) {
	set := tiled(t)
	b := bench{TB: t, r: newRand(), behind: true}
	d := &Device{set: set, pool: newPool(2), live: map[closer]struct{}{}, scratch: make([]scratch, 2), quantised: 1}
	defer d.Close()
	m := b.matrixOf(quant.Q8_0, 8, 256)
	m.d = d
	d.makeRoom(m)
	a, err := d.NewActs(40, 256, kernels.Act8)
	if err != nil {
		t.Fatal(err)
	}
	x := &buffer{rows: 40, cols: 256, stride: 256, data: b.floats(40 * 256)}
	y := &buffer{rows: 40, cols: 128, stride: 128, data: make([]float32, 40*128)}
	batch := &kernels.Batch{Rows: make([]kernels.Row, 40)}
	if n := testing.AllocsPerRun(20, func() { d.Prepare(batch, a, x); d.MatMul(batch, y, m, a) }); n != 0 {
		t.Errorf("%g allocations a product", n)
	}
}
