package main

// neonElementwise emits the kernels that work on rows element by element.
func neonElementwise(a *arm) {
	neonSiLUMul(a)
	neonAdd(a)
	neonSquares(a)
	neonNormMul(a)
	neonDivide(a)
	neonFloor(a)
}

// neonExp holds the constants of the contract's exp.
type neonExp struct {
	*arm
	low, high, log2e, ln2Hi, ln2Lo, one vreg
	coefficients                        []vreg
}

func (a *arm) exponential() neonExp {
	e := neonExp{
		arm:   a,
		low:   a.constant(0xc1d80000), // -27
		high:  a.constant(0x42b00000), // 88
		log2e: a.constant(0x3fb8aa3b),
		ln2Hi: a.constant(0x3f317200),
		ln2Lo: a.constant(0x35bfbe8e),
		one:   a.constant(0x3f800000),
	}
	for _, c := range []uint32{0x3ab511e8, 0x3c091d10, 0x3d2aac79, 0x3e2aaa49, 0x3efffffe} {
		e.coefficients = append(e.coefficients, a.constant(c))
	}
	return e
}

// apply puts e^x in x's place.
func (e neonExp) apply(x vreg) {
	alive, k, p, next := e.vec(), e.vec(), e.vec(), e.vec()
	e.do(
		fcmge4(alive, x, e.low),
		fmin4(x, x, e.high),
		fmul4(k, x, e.log2e),
		frintn4(k, k),
		fmls4(x, k, e.ln2Hi),
		fmls4(x, k, e.ln2Lo),
		move(p, e.coefficients[0]),
	)
	for _, c := range append(e.coefficients[1:len(e.coefficients):len(e.coefficients)], e.one, e.one) {
		e.do(move(next, c), fmla4(next, p, x))
		p, next = next, p
	}
	e.do(fcvtns4(k, k), shl4(k, k, 23), add4(x, p, k), and16(x, x, alive))
	e.give(alive, k, p, next)
}

func neonSiLUMul(a *arm) {
	a.begin("siluMul_neon", "(dst *float32, gate *float32, up *float32, n int)", "dst = F(RN(SiLU(gate)*up)), n a multiple of 16; portable form: Device.siluRow.")
	dst, gate, up, n := a.load("dst"), a.load("gate"), a.load("up"), a.load("n")
	e, least := a.exponential(), a.constant(tiny)
	a.overVectors(n, func(at int) {
		v, p, u := a.vec(), a.vec(), a.vec()
		a.do(ldrQ(v, gate, at), ldrQ(u, up, at), fneg4(p, v))
		e.apply(p)
		a.do(fadd4(p, e.one, p), fdiv4(v, v, p), fmul4(v, v, u))
		a.floor(v, least)
		a.do(strQ(v, dst, at))
		a.give(v, p, u)
	}, dst, gate, up)
}

func neonAdd(a *arm) {
	a.begin("add_neon", "(dst *float32, x *float32, y *float32, n int)", "dst = F(RN(x+y)), n a multiple of 16; portable form: Device.addRow.")
	dst, x, y, n := a.load("dst"), a.load("x"), a.load("y"), a.load("n")
	least := a.constant(tiny)
	a.overVectors(n, func(at int) {
		v, w := a.vec(), a.vec()
		a.do(ldrQ(v, x, at), ldrQ(w, y, at), fadd4(v, v, w))
		a.floor(v, least)
		a.do(strQ(v, dst, at))
		a.give(v, w)
	}, dst, x, y)
}

func neonSquares(a *arm) {
	a.begin("squares_neon", "(x *float32, lanes *[16]float32, n int)", "Sums of squares by lane, n a multiple of 16; portable form: Device.norm.")
	x, lanes, n := a.load("x"), a.load("lanes"), a.load("n")
	var sums []vreg
	for range 4 {
		sums = append(sums, a.zero())
	}
	a.label("vector")
	for k, sum := range sums {
		v := a.vec()
		a.do(ldrQ(v, x, 16*k), fmla4(sum, v, v))
	}
	a.advance(64, x)
	a.repeat(n, 16, "vector")
	for k, sum := range sums {
		a.do(strQ(sum, lanes, 16*k))
	}
	a.end()
}

func neonNormMul(a *arm) {
	a.begin("normMul_neon", "(dst *float32, x *float32, w *float32, r float32, n int)", "dst = F(RN(RN(x*r)*w)), n a multiple of 16; portable form: Device.norm.")
	dst, x, w, n := a.load("dst"), a.load("x"), a.load("w"), a.load("n")
	r, least := a.float("r"), a.constant(tiny)
	a.overVectors(n, func(at int) {
		v, u := a.vec(), a.vec()
		a.do(ldrQ(v, x, at), ldrQ(u, w, at), fmulLane(v, v, r, 0), fmul4(v, v, u))
		a.floor(v, least)
		a.do(strQ(v, dst, at))
		a.give(v, u)
	}, dst, x, w)
}

func neonDivide(a *arm) {
	a.begin("divide_neon", "(out *float32, o *float32, sum float32, n int)", "out = F(RN(o/sum)), n a multiple of 16; portable form: Device.divide.")
	out, o, n := a.load("out"), a.load("o"), a.load("n")
	sum, least := a.float("sum"), a.constant(tiny)
	a.do(dup4(sum, sum, 0))
	a.overVectors(n, func(at int) {
		v := a.vec()
		a.do(ldrQ(v, o, at), fdiv4(v, v, sum))
		a.floor(v, least)
		a.do(strQ(v, out, at))
		a.give(v)
	}, out, o)
}

func neonFloor(a *arm) {
	a.begin("floor_neon", "(x *float32, n int)", "x = F(x), n a multiple of 16; portable form: arith.FloorAll.")
	x, n := a.load("x"), a.load("n")
	least := a.constant(tiny)
	a.overVectors(n, func(at int) {
		v := a.vec()
		a.do(ldrQ(v, x, at))
		a.floor(v, least)
		a.do(strQ(v, x, at))
		a.give(v)
	}, x)
}

func neonRotate(a *arm) {
	a.begin("rotateHalves_neon", "(x *float32, cos *float32, sin *float32, n int)", "Rotates x[i] with x[i+n], n a multiple of 16; portable form: Device.rotateHalves.")
	x, cos, sin, n := a.load("x"), a.load("cos"), a.load("sin"), a.load("n")
	far, least := a.reg(), a.constant(tiny)
	a.op("ADD R%d<<2, R%d, R%d", n, x, far)
	a.overVectors(n, func(at int) {
		v := a.vecs(4)
		a.do(ldrQ(v[0], x, at), ldrQ(v[1], far, at), ldrQ(v[2], cos, at), ldrQ(v[3], sin, at))
		a.rotated(v[0], v[1], v[2], v[3], least)
		a.do(strQ(v[0], x, at), strQ(v[1], far, at))
		a.give(v...)
	}, x, far, cos, sin)

	a.begin("rotatePairs_neon", "(x *float32, cos *float32, sin *float32, n int)", "Rotates x[2i] with x[2i+1], n (of pairs) a multiple of 8; portable form: Device.rotatePairs.")
	x, cos, sin, n = a.load("x"), a.load("cos"), a.load("sin"), a.load("n")
	least = a.constant(tiny)
	v := a.vecs(4) // the first two are neighbours, as LD2 wants
	a.label("pairs")
	a.do(ld2(v[0], x), ldrQ(v[2], cos, 0), ldrQ(v[3], sin, 0))
	a.rotated(v[0], v[1], v[2], v[3], least)
	a.do(st2(v[0], x))
	a.advance(32, x)
	a.advance(16, cos, sin)
	a.repeat(n, 4, "pairs")
	a.end()
}

// rotated turns the pairs of p and q by cosines c and sines s.
func (a *arm) rotated(p, q, c, s, least vreg) {
	ps, qs := a.vec(), a.vec()
	a.do(fmul4(ps, p, s), fmul4(qs, q, s), fmul4(p, p, c), fmul4(q, q, c), fsub4(p, p, qs), fadd4(q, ps, q))
	a.give(ps, qs)
	a.floor(p, least)
	a.floor(q, least)
}

// neonQuantise emits the quantiser of 8-bit activations.
func neonQuantise(a *arm) {
	a.begin("quantise_a8_neon", "(x *float32, rec *byte, blocks int) (bad uint32)",
		"Records of blocks of 32 elements; bad is not 0 if one is not finite; portable form: quantiseBlock.")
	x, rec, count := a.load("x"), a.load("rec"), a.load("blocks")
	top, least, limit, badLanes := a.constant(0x42fe0000), a.constant(tiny), a.constant(notFinite), a.zero() // 127
	a.label("block")
	v, t, most := a.vecs(8), a.vec(), a.vec()
	for j := range v {
		a.do(ldrQ(v[j], x, 16*j))
	}
	a.do(fabs4(most, v[0]))
	for _, w := range v[1:] {
		a.do(fabs4(t, w), umax4(most, most, t))
	}
	ok, d, scale := a.vec(), a.vec(), a.vec()
	a.do(umaxv4(most, most), dup4(most, most, 0))
	a.do(cmhs4(t, most, limit), orr16(badLanes, badLanes, t))
	a.do(cmhs4(ok, most, least), cmhi4(t, limit, most), and16(ok, ok, t))
	a.do(fdiv4(d, most, top), and16(d, d, ok), fdiv4(scale, top, most))
	for _, w := range v {
		a.do(fmul4(w, w, scale), fcvtns4(w, w), and16(w, w, ok))
	}
	a.give(ok, scale, most, t)
	a.record(rec, v, d)
	a.give(append(v, d)...)
	a.advance(128, x)
	a.advance(recordBytes, rec)
	a.repeat(count, 1, "block")
	a.do(umaxv4(badLanes, badLanes))
	a.result(badLanes, "bad")
	a.end()
}

// record writes the quants and their sums; d is the factor, in each lane.
func (a *arm) record(rec xreg, v []vreg, d vreg) {
	first, second := a.vec(), a.vec() // sums of 16
	for i, sum := range []vreg{first, second} {
		w := v[4*i : 4*i+4]
		t := a.vec()
		a.do(add4(sum, w[0], w[1]), add4(t, w[2], w[3]), add4(sum, sum, t), addv4(sum, sum))
		a.give(t)
	}
	for i := 0; i < 8; i += 4 {
		a.do(xtnWords(v[i], v[i]), xtnWords2(v[i], v[i+1]), xtnWords(v[i+2], v[i+2]), xtnWords2(v[i+2], v[i+3]))
		a.do(xtnBytes(v[i], v[i]), xtnBytes2(v[i], v[i+2]), strQ(v[i], rec, 4*i))
	}
	total, terms, minus := a.vec(), a.vec(), a.vec()
	a.do(zip4(first, first, second), addp4(total, first, first)) // both; their sum in lane 0
	a.do(scvtf4(terms, total), fmul4(terms, terms, d), zip4(terms, d, terms))
	a.do(neg4(total, total), shl4(minus, total, 3), shl4(total, total, 7), zip4(minus, minus, total))
	a.do(zip2(terms, terms, minus), strQ(terms, rec, recD))
	a.do(scvtf4(terms, first), fmul4(terms, terms, d), neg4(first, first), shl4(first, first, 5))
	a.do(zip2(first, first, terms), strQ(first, rec, recSum32))
	a.give(first, second, total, terms, minus)
}
