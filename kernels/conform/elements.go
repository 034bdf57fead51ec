package conform

import (
	"fmt"
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// widths are row lengths around those of vectors.
var widths = []int{1, 2, 5, 8, 15, 16, 17, 31, 32, 33, 64, 100, 576, 1000}

func norms(s *suite) {
	for i, n := range widths {
		if s.depth == Quick && i%3 != 2 {
			continue
		}
		for heads := 1; heads <= 3; heads += 2 {
			r := random(uint64(1000 + 10*i + heads))
			const batch = 5
			x := append(ordinary(r, 3*n*heads), edges(r, (batch-3)*n*heads)...)
			w := edges(r, n)
			s.same(fmt.Sprintf("%d heads of %d", heads, n), rows(batch), func(t *trace) {
				in, out := t.buffer(batch, n*heads, x), t.buffer(batch, n*heads, nil)
				v := t.vector(w)
				for _, eps := range []float32{1e-5, 1e-6, 0x1p-40} {
					t.d.Norm(t.b, out, in, v, eps)
					t.read("norm", out, batch)
				}
				t.d.Norm(t.b, in, in, v, 1e-5) // in place
				t.read("in place", in, batch)
			})
		}
	}
	// The whole range whose squares do not overflow.
	for e := -60; e <= 18; e += 3 {
		r := random(uint64(e + 5000))
		x := ordinary(r, 4*96)
		for i := range x {
			x[i] = float32(math.Ldexp(float64(x[i])/1000, 3*e))
		}
		s.same(fmt.Sprintf("scale 2^%d", 3*e), rows(4), func(t *trace) {
			in, out := t.buffer(4, 96, x), t.buffer(4, 96, nil)
			t.d.Norm(t.b, out, in, t.vector(ordinary(random(1), 96)), 1e-6)
			t.read("norm", out, 4)
		})
	}
}

func elementwise(s *suite) {
	for i, n := range widths {
		if s.depth == Quick && i%3 != 2 {
			continue
		}
		for _, batch := range []int{1, 3, 17} {
			r := random(uint64(2000 + 20*i + batch))
			x, y, v := edges(r, batch*n), ordinary(r, batch*n), edges(r, n)
			if i%2 == 1 {
				y = edges(r, batch*n)
			}
			for k := range min(len(x), len(y)) / 3 { // sums that fall below the floor
				y[k] = -x[k]
			}
			s.same(fmt.Sprintf("%d rows of %d", batch, n), rows(batch), func(t *trace) {
				a, b, c := t.buffer(batch, n, x), t.buffer(batch, n, y), t.buffer(batch, n, nil)
				t.d.SiLUMul(t.b, c, a, b)
				t.read("silu", c, batch)
				t.d.SiLUMul(t.b, c, b, a)
				t.read("silu, exchanged", c, batch)
				t.d.SiLUMul(t.b, b, b, a)
				t.read("silu over its gate", b, batch)
				t.d.Write(b, 0, y)
				t.d.AddVector(t.b, b, t.vector(v))
				t.read("bias", b, batch)
				t.d.Add(t.b, a, b)
				t.read("sum", a, batch)
				t.d.CheckFinite(t.b, a)
			})
		}
	}
	// The gate over the whole range of exp, rounding steps included.
	g := make([]float32, 4096)
	for i := range g {
		g[i] = float32(i-2048) / 20
	}
	s.same("gates from -102 to 102", rows(1), func(t *trace) {
		a, b := t.buffer(1, len(g), g), t.buffer(1, len(g), ordinary(random(3), len(g)))
		t.d.SiLUMul(t.b, a, a, b)
		t.read("silu", a, 1)
	})
}

func rotation(s *suite) {
	for i, c := range []struct{ heads, dim, dims int }{
		{1, 2, 2}, {1, 16, 16}, {3, 40, 40}, {2, 64, 64}, {9, 64, 64}, {2, 80, 32}, {1, 96, 96}, {2, 128, 128}, {4, 128, 64}, {1, 6, 4},
	} {
		for _, mode := range []kernels.RopeMode{kernels.RopePairs, kernels.RopeHalves} {
			r := random(uint64(3000 + i))
			const batch, positions = 7, 300
			n := c.heads * c.dim
			x := append(ordinary(r, 4*n), edges(r, (batch-4)*n)...)
			cos, sin := table(positions, c.dims)
			cos[0], sin[1] = 0x1p-41, -0x1p-41 // below the floor
			b := rows(batch)
			for k := range b.Rows {
				b.Rows[k].Pos = int32(r.IntN(positions))
			}
			b.Rows[0].Pos, b.Rows[1].Pos = 0, positions-1
			s.same(fmt.Sprintf("%d heads of %d, %d rotate, mode %d", c.heads, c.dim, c.dims, mode), b, func(t *trace) {
				in := t.buffer(batch, n, x)
				rope := t.rope(cos, sin, positions, c.dims)
				t.d.Rotate(t.b, in, c.dim, rope, mode)
				t.read("rotated", in, batch)
				if rope.Positions() != positions || rope.Dims() != c.dims {
					panic(failure{fmt.Errorf("table says %d positions of %d", rope.Positions(), rope.Dims())})
				}
			})
		}
	}
}

// moves holds what moves data to the floor and to their rows.
func moves(s *suite) {
	r := random(4000)
	const n, cols = 9, 37
	x := edges(r, n*cols)
	s.same("write, gather, read", rows(n), func(t *trace) {
		a, b := t.buffer(n, cols, nil), t.buffer(n, cols, nil)
		t.read("zeros", a, n)
		t.d.Write(a, 2, x[:3*cols])
		t.d.Write(a, 8, x[3*cols:4*cols])
		t.read("written", a, n)
		t.d.Gather(b, a, []int32{8, 2, 2, 4, 0})
		t.read("gathered", b, n)
		part := make([]float32, 2*cols)
		if err := t.d.Read(part, a, 3); err != nil {
			panic(failure{err})
		}
		t.values = append(t.values, reading{"part", cols, part})
		if gr, gc := a.Shape(); gr != n || gc != cols {
			panic(failure{fmt.Errorf("shape says %d by %d", gr, gc)})
		}
	})
	s.same("handles can be made again and again", rows(1), func(t *trace) {
		for i := range 50 {
			b := must(t.d.NewBuffer(3, 64))
			t.d.Write(b, 0, x[:64])
			if i == 49 {
				t.read("last", b, 3)
			}
			t.d.Free(b)
			v := must(t.d.NewVector(x[:5]))
			if v.Len() != 5 {
				panic(failure{fmt.Errorf("vector of %d", v.Len())})
			}
			t.d.Free(v)
		}
	})
}

// rest: rows beyond the batch keep what they held, and a batch without rows
// does nothing.
func rest(s *suite) {
	const n, cols, dim = 7, 64, 16
	for _, batch := range []int{0, 1, 3, 6} {
		r := random(uint64(4500 + batch))
		x, y := ordinary(r, n*cols), ordinary(r, n*cols)
		p := packed(quant.Q4_1, cols, cols, weights(r, quant.Q4_1, cols, cols, false))
		f := packed(quant.F16, cols, cols, weights(r, quant.F16, cols, cols, false))
		w := ordinary(r, cols)
		cos, sin := table(n, dim)
		b := rows(batch)
		b.Seqs = [][]int32{{1}}
		s.same(fmt.Sprintf("%d of %d rows", batch, n), b, func(t *trace) {
			m, g := must(t.d.NewMatrix(p)), must(t.d.NewMatrix(f))
			a, c, out := t.buffer(n, cols, x), t.buffer(n, cols, y), t.buffer(n, cols, y)
			acts := t.acts(n, cols, kernels.Act8)
			kv := must(t.d.NewKV(kernels.KVLayout{Layers: 1, Heads: 2, HeadDim: dim}, 2))
			k := t.buffer(n, 2*dim, x[:n*2*dim])
			t.d.Embed(t.b, out, m, make([]int32, batch))
			t.d.Norm(t.b, c, a, t.vector(w), 1e-5)
			t.d.AddVector(t.b, c, t.vector(w))
			t.d.Rotate(t.b, c, dim, t.rope(cos, sin, n, dim), kernels.RopeHalves)
			t.d.StoreKV(t.b, kv, 0, k, k)
			t.d.Add(t.b, a, out)
			t.d.Attention(t.b, out, c, kv, 0, kernels.AttnParams{Heads: 4, Scale: 0.25})
			t.read("attention", out, n)
			t.d.Prepare(t.b, acts, a)
			t.d.Write(a, 0, y) // the acts have taken the values
			t.d.MatMul(t.b, out, m, acts)
			t.d.MatMul(t.b, c, g, acts)
			t.d.SiLUMul(t.b, c, c, out)
			t.read("gated", c, n)
			t.read("product", out, n)
			t.d.CheckFinite(t.b, c)
			for _, h := range []interface{ Close() error }{m, g, kv} {
				if err := h.Close(); err != nil {
					panic(failure{err})
				}
			}
		})
	}
}
