package conform

import (
	"fmt"
	"math/rand/v2"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// shape is a product's outputs, inputs and batch rows.
type shape struct{ rows, cols, n int }

// shapesOf gives the shapes tried for a type: rows that are no multiple of 16,
// columns that are no multiple of a segment, every batch width up to 17.
func shapesOf(t quant.Type, depth Depth) []shape {
	var s []shape
	switch info := must(t.Info()); {
	case t.Float():
		s = []shape{{1, 1, 1}, {17, 5, 2}, {16, 33, 3}, {33, 255, 4}, {5, 256, 5}, {48, 257, 8}, {20, 576, 17}, {64, 1024, 9}, {130, 80, 6}}
	case info.BlockElems == 256:
		s = []shape{{1, 256, 1}, {15, 512, 2}, {16, 256, 3}, {17, 1280, 4}, {33, 256, 8}, {50, 512, 13}, {64, 2048, 1}, {130, 256, 17}}
	default:
		s = []shape{{1, 32, 1}, {15, 64, 2}, {16, 96, 3}, {17, 256, 4}, {33, 288, 8}, {48, 544, 9}, {50, 1024, 1}, {64, 1536, 5}, {130, 160, 17}, {7, 320, 33}}
	}
	switch depth {
	case Quick: // a ragged one, one of several segments, one token or a tile, a prefill
		return []shape{s[1], s[3], s[6], {19, 3*256 + segmentRest(t), 44}}
	case Short:
		return s[:len(s)-2]
	}
	cols := s[len(s)-1].cols
	for n := 6; n <= 17; n++ { // the widths that tiles are made of
		s = append(s, shape{19, cols, n})
	}
	// And prefills of several tiles, and of several segments, and long rows of few tokens.
	rest := segmentRest(t)
	return append(s, shape{35, cols, 71}, shape{19, 3*256 + rest, 44}, shape{18, 18*256 + rest, 3}, shape{18, 81*256 + rest, 1})
}

// segmentRest is the last segment's columns of a shape of several: fewer than
// the others have, if blocks of the type allow it.
func segmentRest(t quant.Type) int {
	if must(t.Info()).BlockElems == 256 {
		return 0
	}
	return 96
}

// product is the scenario of one product.
func product(p *quant.Packed, x []float32, n int, bits kernels.ActBits) func(*trace) {
	return func(t *trace) {
		w := must(t.d.NewMatrix(p))
		in := t.buffer(n, p.Cols, x)
		out := t.buffer(n, p.Rows, nil)
		a := t.acts(n, p.Cols, bits)
		t.d.Prepare(t.b, a, in)
		t.d.MatMul(t.b, out, w, a)
		t.read("product", out, n)
		if err := w.Close(); err != nil {
			panic(failure{err})
		}
	}
}

func (s *suite) eachProduct(data func(*rand.Rand, int) []float32, wild bool) {
	for _, typ := range quant.Types() {
		for i, sh := range shapesOf(typ, s.depth) {
			for _, bits := range []kernels.ActBits{kernels.Act8, kernels.Act16} {
				if typ.Float() && bits == kernels.Act16 && i > 2 {
					continue // float weights do not quantise
				}
				r := random(uint64(typ)<<32 | uint64(i)<<8 | uint64(bits))
				p := packed(typ, sh.rows, sh.cols, weights(r, typ, sh.rows, sh.cols, wild))
				name := fmt.Sprintf("%s %dx%d, %d rows, %d bits", typ, sh.rows, sh.cols, sh.n, bits)
				s.same(name, rows(sh.n), product(p, data(r, sh.n*sh.cols), sh.n, bits))
			}
		}
	}
}

func products(s *suite) { s.eachProduct(ordinary, false) }

func productsOfEdgeData(s *suite) { s.eachProduct(edges, true) }

// productsCutAnywhere: a row's outputs do not depend on the rows beside it, nor
// on what an operation before left in the acts.
func productsCutAnywhere(s *suite) {
	const n, cols = 17, 512
	for _, typ := range quant.Types() {
		r := random(uint64(typ) + 900)
		p := packed(typ, 40, cols, weights(r, typ, 40, cols, false))
		x := ordinary(r, n*cols)
		s.same(typ.String(), rows(n), func(t *trace) {
			w := must(t.d.NewMatrix(p))
			in, one := t.buffer(n, cols, x), t.buffer(1, cols, nil)
			out, alone := t.buffer(n, 40, nil), t.buffer(1, 40, nil)
			a := t.acts(n, cols, kernels.Act8)
			t.d.Prepare(t.b, a, in)
			t.d.MatMul(t.b, out, w, a)
			t.read("together", out, n)
			for i := range n {
				b := rows(1)
				t.d.Gather(one, in, []int32{int32(i)})
				t.d.Prepare(&b, a, one)
				t.d.MatMul(&b, alone, w, a)
				t.read("alone", alone, 1)
			}
			first := t.values[len(t.values)-n-1].data
			for i := range n {
				for k, v := range t.values[len(t.values)-n+i].data {
					if v != first[40*i+k] {
						panic(failure{fmt.Errorf("row %d alone gives %g at %d, %g among others", i, v, k, first[40*i+k])})
					}
				}
			}
			if err := w.Close(); err != nil {
				panic(failure{err})
			}
		})
	}
}

func embedding(s *suite) {
	for _, typ := range quant.Types() {
		for _, wild := range []bool{false, true} {
			r := random(uint64(typ) + 300)
			cols := 512
			if typ.Float() {
				cols = 77
			}
			p := packed(typ, 35, cols, weights(r, typ, 35, cols, wild))
			ids := []int32{0, 34, 16, 15, 16, 33, 1}
			s.same(typ.String(), rows(len(ids)), func(t *trace) {
				w := must(t.d.NewMatrix(p))
				out := t.buffer(len(ids)+1, cols, nil)
				t.d.Embed(t.b, out, w, ids)
				t.read("rows", out, len(ids)+1)
				if got, _ := w.Shape(); got != 35 {
					panic(failure{fmt.Errorf("shape says %d rows", got)})
				}
				if err := w.Close(); err != nil {
					panic(failure{err})
				}
			})
		}
	}
}
