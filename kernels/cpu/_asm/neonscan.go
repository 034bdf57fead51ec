package main

// neonScans emits the kernels that look for something in a row.
func neonScans(a *arm) {
	a.begin("maxima_neon", "(x *float32, dst *float32, blocks int)", "The largest of each 64 elements, none of them NaN; portable form: largest.")
	x, dst, blocks := a.load("x"), a.load("dst"), a.load("blocks")
	a.label("block")
	v := a.vecs(maximaBlock / 4)
	for k := range v {
		a.do(ldrQ(v[k], x, 16*k))
	}
	for half := len(v) / 2; half > 0; half /= 2 {
		for k := range half {
			a.do(fmax4(v[k], v[k], v[k+half]))
		}
	}
	a.do(fmaxv4(v[0], v[0]))
	a.op("FMOVS F%d, (R%d)", v[0], dst)
	a.advance(4*maximaBlock, x)
	a.advance(4, dst)
	a.repeat(blocks, 1, "block")
	a.end()

	a.begin("notFinite_neon", "(x *float32, n int) (bad uint32)", "Other than 0 if one of n elements, a multiple of 16, is not finite; portable form: arith.MaxAbsBits.")
	x, n := a.load("x"), a.load("n")
	limit := a.constant(notFinite)
	most := []vreg{a.zero(), a.zero()}
	a.label("vector")
	for at := 0; at < 64; at += 16 {
		v, m := a.vec(), most[at/16%2]
		a.do(ldrQ(v, x, at), fabs4(v, v), umax4(m, m, v))
		a.give(v)
	}
	a.advance(64, x)
	a.repeat(n, 16, "vector")
	a.do(umax4(most[0], most[0], most[1]), cmhs4(most[0], most[0], limit), umaxv4(most[0], most[0]))
	a.result(most[0], "bad")
	a.end()
}
