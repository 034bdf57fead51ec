package conform

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// repeats: one step after another does the same to the same memory with other numbers, as
// a model does from token to token. What a device keeps of a step, to run the next one
// faster, must not keep what it computed, nor the faults.
func repeats(s *suite) {
	repeatedMixtures(s)
	const n, heads, dim, cols, steps = 3, 2, 32, 64, 8
	r := random(14000)
	p := packed(quant.Q8_0, cols, cols, weights(r, quant.Q8_0, cols, cols, false))
	w := ordinary(r, cols)
	cos, sin := table(n, dim)
	x := make([][]float32, steps)
	for i := range x {
		x[i] = ordinary(r, n*cols)
	}
	poison(x[5], n-1, cols, 7, inf) // the last row: the others do not see it
	b := rows(n)
	b.Seqs = [][]int32{{1}}
	s.same(fmt.Sprintf("%d steps", steps), b, func(t *trace) {
		m := must(t.d.NewMatrix(p))
		kv := must(t.d.NewKV(kernels.KVLayout{Layers: 1, Heads: heads, HeadDim: dim}, 2))
		a, h, out := t.buffer(n, cols, nil), t.buffer(n, cols, nil), t.buffer(n, cols, nil)
		v, rope, acts := t.vector(w), t.rope(cos, sin, n, dim), t.acts(n, cols, kernels.Act8)
		for i := range x {
			t.d.Write(a, 0, x[i])
			t.d.Norm(t.b, h, a, v, 1e-5)
			t.d.Prepare(t.b, acts, h)
			t.d.MatMul(t.b, out, m, acts)
			t.d.AddVector(t.b, out, v)
			t.d.Rotate(t.b, out, dim, rope, kernels.RopeHalves)
			t.d.StoreKV(t.b, kv, 0, out, h)
			t.d.Attention(t.b, h, out, kv, 0, kernels.AttnParams{Heads: heads, Scale: 0.25})
			t.d.Add(t.b, a, h)
			t.d.SiLUMul(t.b, a, a, out)
			t.d.CheckFinite(t.b, a)
			t.read(fmt.Sprintf("step %d", i), a, n)
			if err := t.d.Sync(); err != nil {
				panic(failure{err})
			}
		}
		if err := m.Close(); err != nil {
			panic(failure{err})
		}
		if err := kv.Close(); err != nil {
			panic(failure{err})
		}
	})
}

// repeatedMixtures: experts of one step after another, in one room, of two layers in turn.
func repeatedMixtures(s *suite) {
	const n, steps = 3, 6
	r := random(14100)
	shape := kernels.ExpertShape{Count: 6, Used: 2, Embd: 64, FFN: 32, Renormalise: true, Scale: 1}
	layers := []*mixture{
		newMixture(r, shape, quant.Q8_0, quant.Q8_0, n, kernels.Act8, 0), newMixture(r, shape, quant.Q8_0, quant.Q5_0, n, kernels.Act8, 0),
	}
	x, l := make([][]float32, steps), make([][]float32, steps)
	for i := range x {
		x[i], l[i] = ordinary(r, n*shape.Embd), ordinary(r, n*shape.Count)
	}
	poison(l[3], n-1, shape.Count, 2, nan)
	s.same(fmt.Sprintf("experts of %d steps", steps), rows(n), func(t *trace) {
		room, first, end := layers[0].load(t)
		_, second, endSecond := layers[1].load(t)
		in, out, logits := t.buffer(n, shape.Embd, nil), t.buffer(n, shape.Embd, nil), t.buffer(n, shape.Count, nil)
		acts := t.acts(n, shape.Embd, kernels.Act8)
		for i := range x {
			t.d.Write(in, 0, x[i])
			t.d.Write(logits, 0, l[i])
			for _, w := range []kernels.ExpertWeights{first, second} {
				t.d.Prepare(t.b, acts, in)
				t.d.MixExperts(t.b, out, room, logits, acts, w)
				t.d.Add(t.b, in, out)
			}
			t.read(fmt.Sprintf("step %d", i), in, n)
			if err := t.d.Sync(); err != nil {
				panic(failure{err})
			}
		}
		end()
		endSecond()
	})
}
