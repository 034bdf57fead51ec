package conform

import (
	"errors"
	"fmt"
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

var (
	nan = float32(math.NaN())
	inf = float32(math.Inf(1))
)

// poison puts a value into row i of rows of cols elements.
func poison(x []float32, i, cols, at int, v float32) []float32 {
	x[i*cols+at] = v
	return x
}

// faults: refused values are noted for their row, with layer and operation, the
// first one alone; other rows come out as ever.
func faults(s *suite) {
	for i, bad := range []float32{nan, -nan, inf, -inf} {
		if s.depth == Quick && i%3 == 1 {
			continue
		}
		faultsOfProducts(s, i, bad)
		faultsOfNorms(s, i, bad)
		faultsOfAttention(s, i, bad)
	}
	faultsByOverflow(s)
}

func faultsOfProducts(s *suite, seed int, bad float32) {
	const n, cols = 6, 288
	for _, typ := range []quant.Type{quant.Q4_0, quant.Q8_0, quant.Q5_1} {
		for _, bits := range []kernels.ActBits{kernels.Act8, kernels.Act16} {
			r := random(uint64(11000 + seed))
			p := packed(typ, 20, cols, weights(r, typ, 20, cols, false))
			x := poison(ordinary(r, n*cols), 2, cols, 0, bad)
			x = poison(x, 5, cols, cols-1, bad)
			s.same(fmt.Sprintf("%s, %d bits, input %g", typ, bits, bad), rows(n), product(p, x, n, bits))
		}
	}
	r := random(uint64(11500 + seed))
	x := poison(ordinary(r, n*cols), 4, cols, 131, bad)
	s.same(fmt.Sprintf("logit %g", bad), rows(n), func(t *trace) {
		in := t.buffer(n, cols, x)
		t.d.CheckFinite(t.b, in)
		t.read("logits", in, n)
	})
}

func faultsOfNorms(s *suite, seed int, bad float32) {
	const n, cols = 4, 100
	r := random(uint64(12000 + seed))
	x, w := poison(ordinary(r, n*cols), 1, cols, 99, bad), ordinary(r, 25)
	s.same(fmt.Sprintf("norm of %g, then its logits", bad), rows(n), func(t *trace) {
		in, out := t.buffer(n, cols, x), t.buffer(n, cols, nil)
		t.d.Norm(t.b, out, in, t.vector(w), 1e-5)
		t.read("norm", out, n)
		t.b.Layer = 8 // a row keeps its first fault
		t.d.CheckFinite(t.b, in)
	})
}

func faultsOfAttention(s *suite, seed int, bad float32) {
	const n, dim = 5, 16
	r := random(uint64(13000 + seed))
	k := poison(ordinary(r, n*dim), 3, dim, 7, bad)
	v := poison(ordinary(r, n*dim), 4, dim, 0, bad)
	q := poison(ordinary(r, n*2*dim), 1, 2*dim, 20, bad)
	for _, kv := range kvTypes {
		b := rows(n)
		b.Seqs = [][]int32{{1}}
		s.same(fmt.Sprintf("kv type %d, key, value, query %g", kv, bad), b, func(t *trace) {
			m := must(t.d.NewKV(kernels.KVLayout{Type: kv, Layers: 1, Heads: 1, HeadDim: dim}, 2))
			kb, vb, qb := t.buffer(n, dim, k), t.buffer(n, dim, v), t.buffer(n, 2*dim, q)
			out := t.buffer(n, 2*dim, nil)
			t.d.StoreKV(t.b, m, 0, kb, vb)
			t.d.Attention(t.b, out, qb, m, 0, kernels.AttnParams{Heads: 2, Scale: 0.25})
			t.read("attention", out, n)
			if err := m.Close(); err != nil {
				panic(failure{err})
			}
		})
	}
}

// faultsByOverflow: finite inputs whose results are not.
func faultsByOverflow(s *suite) {
	const n, dim = 3, 16
	big := make([]float32, n*dim)
	for i := range big {
		big[i] = []float32{1, 65519.9, 65520}[i/dim] // the last rounds to infinity
	}
	for _, kv := range kvTypes {
		b := rows(n)
		b.Seqs = [][]int32{{0}}
		s.same(fmt.Sprintf("kv type %d, keys beyond half precision", kv), b, func(t *trace) {
			m := must(t.d.NewKV(kernels.KVLayout{Type: kv, Layers: 1, Heads: 1, HeadDim: dim}, 1))
			x, out := t.buffer(n, dim, big), t.buffer(n, dim, nil)
			t.d.StoreKV(t.b, m, 0, x, x)
			t.d.Attention(t.b, out, x, m, 0, kernels.AttnParams{Heads: 1, Scale: 0.25})
			t.read("attention", out, n)
			if err := m.Close(); err != nil {
				panic(failure{err})
			}
		})
		s.same(fmt.Sprintf("kv type %d, scores beyond single precision", kv), b, func(t *trace) {
			m := must(t.d.NewKV(kernels.KVLayout{Type: kv, Layers: 1, Heads: 1, HeadDim: dim}, 1))
			x, out := t.buffer(n, dim, ordinary(random(1), n*dim)), t.buffer(n, dim, nil)
			t.d.StoreKV(t.b, m, 0, x, x)
			q := t.buffer(n, dim, poison(ordinary(random(2), n*dim), 1, dim, 3, 3e38))
			t.d.Attention(t.b, out, q, m, 0, kernels.AttnParams{Heads: 1, Scale: 1e3, Softcap: 50})
			t.read("attention", out, n)
			if err := m.Close(); err != nil {
				panic(failure{err})
			}
		})
	}
	s.same("squares beyond single precision", rows(2), func(t *trace) {
		x := t.buffer(2, dim, poison(ordinary(random(3), 2*dim), 0, dim, 9, 1e20))
		t.d.Norm(t.b, x, x, t.vector(ordinary(random(4), dim)), 1e-5)
		t.read("norm", x, 2)
	})
}

// misuse: wrong shapes and foreign handles are programmer's errors and panic.
func misuse(s *suite) {
	type foreign struct{ kernels.Buffer }
	for _, d := range s.devices {
		b := rows(2)
		buffer := func(r, c int) kernels.Buffer { return must(d.NewBuffer(r, c)) }
		a, v := must(d.NewActs(2, 64, kernels.Act8)), must(d.NewVector(make([]float32, 8)))
		w := must(d.NewMatrix(packed(quant.Q4_0, 16, 32, make([]byte, 16*18))))
		x := buffer(2, 64)
		shape := kernels.ExpertShape{Count: 4, Used: 2, Embd: 64, FFN: 32, Scale: 1}
		room := must(d.NewExperts(shape, 2, kernels.Act8))
		wide, narrow := must(d.NewMatrix(packed(quant.F16, 128, 64, make([]byte, 2*128*64)))), must(d.NewMatrix(packed(quant.F16, 256, 32, make([]byte, 2*256*32))))
		right, experts := kernels.ExpertWeights{Gate: wide, Up: wide, Down: narrow}, kernels.ExpertWeights{Gate: wide, Up: narrow, Down: wide}
		calls := map[string]func(){
			"add of other widths":       func() { d.Add(&b, x, buffer(2, 32)) },
			"add with too few rows":     func() { d.Add(&b, x, buffer(1, 64)) },
			"foreign buffer":            func() { d.Add(&b, x, foreign{x}) },
			"bias of another width":     func() { d.AddVector(&b, x, v) },
			"norm that does not divide": func() { d.Norm(&b, x, x, must(d.NewVector(make([]float32, 7))), 1e-5) },
			"product of other columns":  func() { d.Prepare(&b, a, x); d.MatMul(&b, buffer(2, 16), w, a) },
			"prepare of another width":  func() { d.Prepare(&b, a, buffer(2, 32)) },
			"write past the end":        func() { d.Write(x, 1, make([]float32, 128)) },
			"silu of other widths":      func() { d.SiLUMul(&b, x, x, buffer(2, 32)) },
			"gates of two columns":      func() { d.AddGated(&b, x, buffer(2, 64), buffer(2, 2)) },
			"gated rows of other width": func() { d.AddGated(&b, x, buffer(2, 32), buffer(2, 1)) },
			"experts of another shape":  func() { d.Prepare(&b, a, x); d.MixExperts(&b, x, room, buffer(2, 4), a, experts) },
			"logits of other experts":   func() { d.Prepare(&b, a, x); d.MixExperts(&b, x, room, buffer(2, 5), a, right) },
			"experts of few rows":       func() { three := rows(3); d.MixExperts(&three, buffer(3, 64), room, buffer(3, 4), a, right) },
			"rotation that does not divide": func() {
				cos, sin := table(4, 8)
				d.Rotate(&b, x, 48, must(d.NewRope(cos, sin, 4, 8)), kernels.RopePairs)
			},
		}
		for name, call := range calls {
			if !panics(call) {
				s.failed(name, d.Name(), errors.New("it does not panic"))
			}
		}
		for _, m := range []kernels.Matrix{w, wide, narrow} {
			if err := m.Close(); err != nil {
				s.failed("close matrix", d.Name(), err)
			}
		}
		s.refusals(d)
	}
}

// refusals: what comes from a file is an error, not a panic.
func (s *suite) refusals(d kernels.Device) {
	for name, change := range map[string]func(*kernels.ExpertShape){
		"no experts":           func(x *kernels.ExpertShape) { x.Count = 0 },
		"too many experts":     func(x *kernels.ExpertShape) { x.Count = kernels.MaxExperts + 1 },
		"more used than there": func(x *kernels.ExpertShape) { x.Used = 5 },
		"ragged experts":       func(x *kernels.ExpertShape) { x.FFN = 40 },
		"a scale of nothing":   func(x *kernels.ExpertShape) { x.Scale = 0 },
		"a scale that is none": func(x *kernels.ExpertShape) { x.Scale = nan },
	} {
		shape := kernels.ExpertShape{Count: 4, Used: 2, Embd: 64, FFN: 32, Scale: 1}
		change(&shape)
		var err error
		if panics(func() { _, err = d.NewExperts(shape, 2, kernels.Act8) }) || err == nil {
			s.failed("room for "+name, d.Name(), errors.New("it is no error"))
		}
	}
	whole := packed(quant.Q4_K, 20, 256, make([]byte, 20*144))
	for name, change := range map[string]func(*quant.Packed){
		"short quants":  func(p *quant.Packed) { p.Quants = p.Quants[:len(p.Quants)-64] },
		"short scales":  func(p *quant.Packed) { p.Scales = p.Scales[:len(p.Scales)-64] },
		"unknown type":  func(p *quant.Packed) { p.Type = 99 },
		"half a block":  func(p *quant.Packed) { p.Cols = 128 },
		"no rows":       func(p *quant.Packed) { p.Rows = 0 },
		"too many rows": func(p *quant.Packed) { p.Rows = quant.MaxDim },
	} {
		p := *whole
		change(&p)
		var err error
		if panics(func() { _, err = d.NewMatrix(&p) }) || err == nil {
			s.failed("a matrix with "+name, d.Name(), errors.New("it is no error"))
		}
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}
