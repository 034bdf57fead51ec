//go:build linux

package cpu

import (
	"fmt"
	"math"
	"testing"
	"unsafe"

	"github.com/weft-mesh/weft/kernels"
)

func TestAttentionKernelsStayInsideTheirOperands(t *testing.T) {
	eachSet(t, func(t *testing.T, set *kernelSet) {
		eachEnd(t, func(b bench) {
			for _, kv := range []kernels.KVType{kernels.KVF16, kernels.KVF32} {
				for _, dim := range []int{16, 32, 64, 80, 96, 112} {
					for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 24, 31} {
						b.attention(set, kv, n, dim)
					}
				}
			}
			b.soften(set, [][2]int32{{0, 256}})
			b.soften(set, [][2]int32{{0, 1}})
			b.soften(set, [][2]int32{{255, 256}})
			b.soften(set, [][2]int32{{17, 31}, {0, 0}, {3, 100}, {40, 40}, {240, 250}, {0, 16}, {16, 48}, {5, 256}, {33, 34}})
			for _, n := range []int{16, 48} {
				b.folds(set, n)
			}
		})
	})
}

// ints gives places in guarded memory.
func (b bench) ints(v ...int) []int {
	mem := guarded(b, 8*len(v), b.behind)
	out := unsafe.Slice((*int)(unsafe.Pointer(&mem[0])), len(v))
	copy(out, v)
	return out
}

// attention compares scores and weighted sums of n queries over three blocks,
// whose order in memory is another than in the sequence.
func (b bench) attention(set *kernelSet, kv kernels.KVType, n, dim int) {
	arena := &kvArena{layout: kernels.KVLayout{Type: kv, Layers: 1, Heads: 1, HeadDim: dim}, element: 2 + 2*int(kv), blocks: 3}
	arena.plane = arena.element * kernels.BlockPositions * dim
	arena.mem = guarded(b, 6*arena.plane, b.behind)
	for i := range 6 * 16 * dim {
		if kv == kernels.KVF16 {
			halves(arena.mem)[i] = uint16(b.r.Uint32()) & 0xbfff
		} else {
			floats(arena.mem)[i] = b.r.Float32() - 0.5
		}
	}
	places := b.ints(arena.place(2, 0, 0), arena.place(0, 0, 0), arena.place(1, 0, 0))
	q := b.floats(n * dim)
	// reference gives the portable run over whole chunks of scratch memory.
	reference := func() *attnRun {
		s := &attnScratch{}
		s.sized(n, dim)
		copy(s.q, q)
		copy(s.places[:], places)
		return &attnRun{attnTask: &attnTask{d: plain, kv: arena}, s: s, n: n, dim: dim}
	}
	for first := range 3 {
		c, blocks := reference(), 3-first
		c.score(first, blocks)
		got := floats(guarded(b, 4*((n-1)*scoreStride+16*blocks), b.behind))
		set.attn[kv].scores(&q[0], &arena.mem[0], &places[first], &got[0], blocks, n, dim)
		for i := range n {
			b.same(fmt.Sprintf("scores of query %d of %d of %d, %d blocks", i, n, dim, blocks),
				got[i*scoreStride:i*scoreStride+16*blocks], c.s.scores[i*scoreStride+16*first:i*scoreStride+48])
		}
	}
	for _, run := range [][2]int{{0, 48}, {3, 16}, {15, 17}, {5, 47}, {32, 48}, {33, 34}} {
		c := reference()
		copy(c.s.scores, b.floats(n*scoreStride))
		copy(c.s.chunk.o, b.floats(n*dim))
		p := b.copyOf(c.s.scores[run[0] : (n-1)*scoreStride+run[1]])
		got := b.copyOf(c.s.chunk.o)
		first := run[0] / 16
		set.attn[kv].weigh(&p[0], &arena.mem[arena.plane], &places[first], &got[0], run[0]%16, run[1]-run[0], n, dim)
		c.weigh(0, n, run[0], run[1])
		b.same(fmt.Sprintf("sums of %d queries of %d, positions %v", n, dim, run), got, c.s.chunk.o)
	}
}

func (b bench) soften(set *kernelSet, list [][2]int32) {
	n := len(list)
	mem := guarded(b, 8*n, b.behind)
	spans := unsafe.Slice((*[2]int32)(unsafe.Pointer(&mem[0])), n)
	copy(spans, list)
	last := int(list[n-1][1]+15) &^ 15
	got := b.floats((n-1)*scoreStride + last)
	want := append([]float32(nil), got...)
	want = append(want, make([]float32, chunkPositions)...)
	run := func(scale float32) (m, sums []float32, bad []uint32) {
		m, sums = b.floats(n), b.floats(n)
		flags := b.floats(n)
		clear(flags)
		bad = unsafe.Slice((*uint32)(unsafe.Pointer(&flags[0])), n)
		set.soften(&got[0], &spans[0], &m[0], &sums[0], &bad[0], n, scale)
		return m, sums, bad
	}
	m, sums, bad := run(0.125)
	for i, span := range list {
		lo, hi := int(span[0]), int(span[1])
		row := (*[chunkPositions]float32)(want[i*scoreStride:])
		wantM, wantSum, ok := softenScores(row, lo, hi, kernels.AttnParams{Scale: 0.125})
		if m[i] != wantM || sums[i] != wantSum || (bad[i] == 0) != ok {
			b.Fatalf("soften %d..%d: %g %g %d, portable Go gives %g %g %t", lo, hi, m[i], sums[i], bad[i], wantM, wantSum, ok)
		}
		b.same("exponentials", got[i*scoreStride+lo:i*scoreStride+hi], row[lo:hi])
		if lo < hi {
			got[i*scoreStride+lo] = float32(math.Copysign(math.Inf(1), float64(i%2)-0.5))
		}
	}
	_, _, bad = run(1)
	for i, span := range list {
		if (bad[i] != 0) != (span[0] < span[1]) {
			b.Fatalf("soften %v: infinity at its first place gives %d", span, bad[i])
		}
		if span[0] < span[1] {
			got[i*scoreStride+int(span[1])-1] = float32(math.NaN())
		}
	}
	_, _, bad = run(1)
	for i, span := range list {
		if (bad[i] != 0) != (span[0] < span[1]) {
			b.Fatalf("soften %v: NaN at its last place gives %d", span, bad[i])
		}
	}
}

// folds merges parts of n queries, some of them without positions.
func (b bench) folds(set *kernelSet, n int) {
	const dim = 48
	part := func() (p partials) {
		p = partials{m: b.floats(n), s: b.floats(n), o: b.floats(n * dim)}
		for i := range n {
			p.s[i] = max(p.s[i], -p.s[i]) + 1
			if b.r.IntN(4) == 0 {
				p.m[i], p.s[i] = nothing, 0
				clear(p.o[i*dim : (i+1)*dim])
			}
		}
		return p
	}
	x, y := part(), part()
	factors := func() []float32 { return b.floats(n) }
	run := func(set *kernelSet) (partials, []float32, []float32) {
		out := partials{m: b.copyOf(x.m), s: b.copyOf(x.s), o: b.copyOf(x.o)}
		c := attnRun{attnTask: &attnTask{d: &Device{set: set}}, s: &attnScratch{a: factors(), b: factors()}, n: n, dim: dim}
		c.fold(&out, &y)
		return out, c.s.a, c.s.b
	}
	got, gotA, gotB := run(set)
	want, wantA, wantB := run(plain.set)
	b.same("maxima", got.m, want.m)
	b.same("sums", got.s, want.s)
	b.same("older factors", gotA, wantA)
	b.same("newer factors", gotB, wantB)
	b.same("weighted sums", got.o, want.o)
}

// A part without positions changes nothing, on whichever side it is, so that
// folds need no case for it.
func TestFoldsWithNothingGiveTheOtherPart(t *testing.T) {
	for _, set := range append(everySet(), plain.set) {
		t.Run(set.tier, func(t *testing.T) {
			const n, dim = 16, 32
			b := bench{TB: t, r: newRand(), behind: true}
			c := attnRun{attnTask: &attnTask{d: &Device{set: set}}, s: &attnScratch{a: b.floats(n), b: b.floats(n)}, n: n, dim: dim}
			full := partials{m: b.floats(n), s: b.floats(n), o: b.floats(n * dim)}
			plain.floorAll(full.o)
			full.m[3], full.m[4] = nothing, -nothing
			for _, first := range []bool{true, false} {
				x := partials{m: b.floats(n), s: b.floats(n), o: b.floats(n * dim)}
				x.reset()
				y := partials{m: b.copyOf(full.m), s: b.copyOf(full.s), o: b.copyOf(full.o)}
				if first {
					c.fold(&x, &y)
				} else {
					c.fold(&y, &x)
					x = y
				}
				b.same("maxima", x.m, full.m)
				b.same("sums", x.s, full.s)
				b.same("weighted sums", x.o, full.o)
			}
		})
	}
}
