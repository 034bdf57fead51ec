package main

import "fmt"

// neonFloatMatmul emits the products of float weights for arm64: 16 rows, a
// column at a time.
func neonFloatMatmul(a *arm) {
	for _, name := range []string{"f16", "bf16", "f32"} {
		for _, tokens := range []int{4, 1} {
			neonFloatMul(a, name, tokens)
		}
	}
}

func neonFloatMul(a *arm, name string, tokens int) {
	a.begin(fmt.Sprintf("mul_%s_g1t%d_neon", name, tokens), matmulParameters,
		fmt.Sprintf("Products of 16 rows of %s with %d tokens; blocks counts columns; portable form: matmulTask.portableFloat.", name, tokens))
	q, left, count := a.load("q"), a.load("blocks"), a.reg()
	x, y := a.tokensAt("x", "xStride", tokens), a.tokensAt("y", "yStride", tokens)
	chain, least := a.vecs(4*tokens), a.constant(tiny)
	a.clearTotals(chain[0], y, 4)
	a.label("segment")
	a.least(count, left, segmentColumns)
	for _, v := range chain {
		a.do(movi4(v, 0))
	}
	a.label("column")
	w, size := a.floatColumn(name, q, least)
	b := a.vec()
	for t, p := range x {
		a.do(ldrS(b, p, 0))
		for k := range 4 {
			a.do(fmlaLane(chain[k*tokens+t], w[k], b, 0))
		}
	}
	a.give(append(w, b)...)
	a.advance(size, q)
	a.advance(4, x...)
	a.repeat(count, 1, "column")
	a.addTotals(chain, y, 4)
	a.op("CBNZ R%d, segment", left)
	a.storeTotals(chain, y, 4)
	a.end()
}

// floatColumn reads 16 rows of a column through the floor.
func (a *arm) floatColumn(name string, q xreg, least vreg) (w []vreg, size int) {
	switch name {
	case "f16":
		return a.loadHalves(q), 32
	case "bf16":
		w, size = a.vecs(4), 32
		for k := 0; k < 4; k += 2 {
			a.do(ldrQ(w[k], q, 8*k), uxtUpper(w[k+1], w[k]), uxtWords(w[k], w[k]))
		}
		for _, v := range w {
			a.do(shl4(v, v, 16))
		}
	default:
		w, size = a.vecs(4), 64
		for k, v := range w {
			a.do(ldrQ(v, q, 16*k))
		}
	}
	for _, v := range w {
		a.floor(v, least)
	}
	return w, size
}

// loadHalves reads 16 numbers of half precision.
func (a *arm) loadHalves(p xreg) []vreg {
	w := a.vecs(4)
	for k := 0; k < 4; k += 2 {
		a.do(ldrQ(w[k], p, 8*k), fcvtl2(w[k+1], w[k]), fcvtl(w[k], w[k]))
	}
	return w
}
