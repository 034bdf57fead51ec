//go:build linux

package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"syscall"
	"testing"
	"unsafe"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// guarded gives size bytes between two pages that fault when touched: flush
// with the one behind, or with the one before.
func guarded(tb testing.TB, size int, behind bool) []byte {
	tb.Helper()
	page := syscall.Getpagesize()
	room := (size + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, room+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := syscall.Munmap(m); err != nil {
			tb.Error(err)
		}
	})
	for _, g := range [][]byte{m[:page], m[page+room:]} {
		if err := syscall.Mprotect(g, syscall.PROT_NONE); err != nil {
			tb.Fatal(err)
		}
	}
	at := page
	if behind {
		at += room - size
	}
	return m[at : at+size : at+size]
}

// bench runs one test for both ends, with operands from guarded memory.
type bench struct {
	testing.TB
	r      *rand.Rand
	behind bool
	fixed  *fixed // instead of random quants and activations
}

// fixed are operands of products that are all alike: the byte that quants
// consist of, and the sign of the activations.
type fixed struct {
	quants byte
	sign   float32
}

func eachEnd(t *testing.T, run func(b bench)) {
	for _, behind := range []bool{true, false} {
		t.Run(fmt.Sprintf("behind=%t", behind), func(t *testing.T) {
			run(bench{TB: t, r: newRand(), behind: behind})
		})
	}
}

func (b bench) floats(n int) []float32 {
	x := floats(guarded(b, 4*n, b.behind))
	for i := range x {
		x[i] = float32(b.r.NormFloat64())
		switch b.r.IntN(9) {
		case 0:
			x[i] = float32(math.Copysign(0x1p-40, float64(x[i])))
		case 1:
			x[i] *= 40
		}
	}
	return x
}

func (b bench) copyOf(x []float32) []float32 {
	y := floats(guarded(b, 4*len(x), b.behind))
	copy(y, x)
	return y
}

func (b bench) same(what string, got, want []float32) {
	b.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			b.Fatalf("%s: element %d is %g, portable Go gives %g", what, i, got[i], want[i])
		}
	}
}

// eachSet runs a test for each tier that has assembly.
func eachSet(t *testing.T, run func(t *testing.T, set *kernelSet)) {
	for _, set := range everySet() {
		t.Run(set.tier, func(t *testing.T) { run(t, set) })
	}
}

var plain = &Device{set: &kernelSet{tier: Portable}}

func TestProductKernelsStayInsideTheirOperands(t *testing.T) {
	eachSet(t, func(t *testing.T, set *kernelSet) {
		for lines, byType := range set.matmul {
			for kind, kernels := range byType {
				for i := range kernels {
					k := &kernels[i]
					t.Run(fmt.Sprintf("%s/a%d/g%dt%d", kind, 8*(lines+1), k.groups, k.tokens), func(t *testing.T) {
						eachEnd(t, func(b bench) {
							for _, cols := range []int{256, 768} {
								b.product(kind, k, lines+1, cols)
							}
							if info, _ := kind.Info(); info.BlockElems == 32 {
								b.product(kind, k, lines+1, 32)
								b.product(kind, k, lines+1, 288)
							} else if kind.Float() {
								b.product(kind, k, lines+1, 1)
								b.product(kind, k, lines+1, 259)
							}
						})
					})
				}
			}
		}
	})
}

// product compares one kernel with portable Go at exactly its own shape.
func (b bench) product(kind quant.Type, k *tile, lines, cols int) {
	m := &matrix{kind: kind, format: formats[kind], rows: 16 * k.groups, cols: cols, groups: k.groups}
	m.qStride, m.sStride = m.format.strides(kind, cols)
	m.quants, m.scales = guarded(b, k.groups*m.qStride, b.behind), guarded(b, k.groups*m.sStride, b.behind)
	b.fill(m)
	a := &acts{rows: k.tokens, cols: cols, lines: lines, top: 127, n: k.tokens, bad: make([]uint32, k.tokens)}
	if lines == 2 {
		a.top = 16319
	}
	a.stride = recordBytes * lines * a.blocks()
	a.recs = guarded(b, k.tokens*a.stride, b.behind)
	stride := cols // float kernels read no padding
	a.source = &buffer{rows: k.tokens, cols: cols, stride: stride, data: b.floats(k.tokens * stride)}
	if b.fixed != nil {
		for i := range a.source.data {
			a.source.data[i] = b.fixed.sign
		}
	}
	if !kind.Float() {
		t := prepareTask{d: plain, a: a}
		for i := range k.tokens {
			t.unit(0, i)
		}
	}
	run := func(call func(t *matmulTask)) []float32 {
		dst := &buffer{rows: k.tokens, cols: m.rows, stride: m.rows, data: b.floats(k.tokens * m.rows)}
		call(&matmulTask{d: plain, w: m, a: a, dst: dst, n: k.tokens})
		return dst.data
	}
	got := run(func(t *matmulTask) { t.call(k, 0, 0) })
	want := run(func(t *matmulTask) {
		for g := range k.groups {
			if kind.Float() {
				t.portableFloat(g)
			} else {
				t.portable(new(panel), g)
			}
		}
	})
	b.same(fmt.Sprintf("%s of %d columns", kind, cols), got, want)
}

// Sums in 16 bits have just enough room: the largest activations meet the
// largest quants of either sign.
func TestProductsOfTheLargestNumbersDoNotOverflow(t *testing.T) {
	eachSet(t, func(t *testing.T, set *kernelSet) {
		for lines, byType := range set.matmul {
			for kind, kernels := range byType {
				for i := range kernels {
					for _, f := range []fixed{{0xff, 1}, {0xff, -1}, {0, 1}, {0, -1}, {0x80, 1}, {0x7f, -1}} {
						b := bench{TB: t, r: rand.New(rand.NewPCG(5, 6)), behind: true, fixed: &f}
						b.product(kind, &kernels[i], lines+1, 256)
					}
				}
			}
		}
	})
}

// fill gives a matrix random quants and scales of moderate size.
func (b bench) fill(m *matrix) {
	for i := range m.quants {
		m.quants[i] = byte(b.r.Uint32())
		if m.kind.Float() && i%2 == 1 {
			m.quants[i] = m.quants[i]&0x81 | 0x30
		}
		if b.fixed != nil && !m.kind.Float() {
			m.quants[i] = b.fixed.quants
		}
	}
	for i := range m.scales {
		m.scales[i] = byte(b.r.Uint32())
		if m.kind == quant.MXFP4 {
			m.scales[i] = 100 + m.scales[i]%32
		} else if i%2 == 1 {
			m.scales[i] = m.scales[i]&0x81 | 0x20
		}
	}
}

func TestRowKernelsStayInsideTheirOperands(t *testing.T) {
	eachSet(t, func(t *testing.T, set *kernelSet) {
		d := &Device{set: set}
		eachEnd(t, func(b bench) {
			for _, n := range []int{16, 48, 576} {
				b.rowKernels(d, n)
			}
		})
	})
}

func (b bench) rowKernels(d *Device, n int) {
	x, y := b.floats(n), b.floats(n)
	binary := func(what string, run func(d *Device, dst, x, y []float32)) {
		b.Helper()
		got, want := b.floats(n), b.floats(n)
		run(d, got, x, y)
		run(plain, want, x, y)
		b.same(what, got, want)
	}
	binary("add", (*Device).addRow)
	binary("silu", (*Device).siluRow)
	binary("norm", func(d *Device, dst, x, w []float32) { d.norm(new([16]float32), dst, x, w, 1e-5) })
	binary("floor", func(d *Device, dst, x, _ []float32) { copy(dst, x); d.floorAll(dst) })
	binary("divide", func(d *Device, dst, x, _ []float32) { d.divide(dst, x, 1.7) })
	cos, sin := b.floats(n/2), b.floats(n/2)
	binary("rotate pairs", func(d *Device, dst, x, _ []float32) { copy(dst, x); d.rotatePairs(dst, cos, sin) })
	binary("rotate halves", func(d *Device, dst, x, _ []float32) { copy(dst, x); d.rotateHalves(dst, cos, sin) })
	binary("half precision", func(d *Device, dst, x, y []float32) {
		keys := halves(guarded(b, 2*kernels.BlockPositions*(n-1)+2, b.behind))
		values := halves(guarded(b, 2*n, b.behind))
		d.storeF16(new([64]uint16), keys, values, x, y)
		for i := range dst {
			dst[i] = float32(keys[16*i]) + float32(values[i])/65536
		}
	})
}

func TestScansStayInsideTheirOperands(t *testing.T) {
	eachSet(t, func(t *testing.T, set *kernelSet) {
		d := &Device{set: set}
		eachEnd(t, func(b bench) {
			for _, n := range []int{1, 15, 16, 63, 64, 65, 128, 400, 1024} {
				x := b.floats(n)
				blocks := (n + MaximaBlock - 1) / MaximaBlock
				b.same("maxima", set.blockMaxima(b.floats(blocks), x), plain.set.blockMaxima(b.floats(blocks), x))
				if n <= MaximaBlock {
					b.weights(set, x)
				}
				for i, v := range x {
					if !d.finite(x) {
						b.Fatalf("%d finite elements are called not finite", n)
					}
					for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
						x[i] = float32(bad)
						if d.finite(x) {
							b.Fatalf("%g at %d of %d was not found", bad, i, n)
						}
					}
					x[i] = v
				}
			}
		})
	})
}

// weights compares those of logits that lie close to the best, far below it,
// and as far as numbers go.
func (b bench) weights(set *kernelSet, x []float32) {
	best := largest(x)
	for _, temperature := range []float32{1, 0.7, 3, 1e-30, 1e30} {
		far := b.copyOf(x)
		far[0] = -math.MaxFloat32
		for _, logits := range [][]float32{x, far} {
			var got, want [MaximaBlock]uint64
			sum, wantSum := set.blockWeights(&got, logits, best, temperature), plain.set.blockWeights(&want, logits, best, temperature)
			if got != want || sum != wantSum {
				b.Fatalf("weights of %d at temperature %g: %v, portable Go gives %v", len(x), temperature, got, want)
			}
		}
	}
	if len(x) == 64 { // dst too stays inside
		mem := guarded(b, 8*64, b.behind)
		set.blockWeights((*[MaximaBlock]uint64)(unsafe.Pointer(&mem[0])), x, best, 1)
	}
}

func TestQuantisersStayInsideTheirOperands(t *testing.T) {
	eachSet(t, func(t *testing.T, set *kernelSet) {
		eachEnd(t, func(b bench) {
			for lines := 1; lines <= 2; lines++ {
				b.quantise(&Device{set: set}, lines)
			}
		})
	})
}

func (b bench) quantise(d *Device, lines int) {
	b.Helper()
	x := b.floats(32 * 7)
	clear(x[32:64])
	x[70] = float32(math.Inf(-1))
	x[100] = float32(math.NaN())
	x[3] = 0x1p-41
	clear(x[160:192])
	x[160] = 0x1p-41
	run := func(d *Device) []byte {
		a := &acts{rows: 1, cols: len(x), lines: lines, top: 127, n: 1, bad: make([]uint32, 1), stride: recordBytes * lines * 7}
		if lines == 2 {
			a.top = 16319
		}
		a.recs = guarded(b, a.stride, b.behind)
		a.source = &buffer{rows: 1, cols: len(x), stride: len(x), data: x}
		(&prepareTask{d: d, a: a}).unit(0, 0)
		if a.bad[0] == 0 {
			b.Fatalf("%s: infinity and NaN were not found", d.set.tier)
		}
		return a.recs
	}
	got, want := run(d), run(plain)
	for i := range want {
		if got[i] != want[i] {
			b.Fatalf("%d lines: byte %d of line %d is %#x, portable Go gives %#x", lines, i%recordBytes, i/recordBytes, got[i], want[i])
		}
	}
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(3, 4)) }
