package main

import "fmt"

func neonAttention(a *arm) {
	for _, kv := range []string{"f16", "f32"} {
		neonScores(a, kv)
		neonWeigh(a, kv)
	}
	neonSoften(a)
	neonFoldScales(a)
	neonFold(a)
	neonToHalf(a)
}

// loadKVs reads 16 keys or values.
func (a *arm) loadKVs(kv string, p xreg, at int) []vreg {
	if kv == "f16" {
		w := a.vecs(4)
		for k := 0; k < 4; k += 2 {
			a.do(ldrQ(w[k], p, at/2+8*k), fcvtl2(w[k+1], w[k]), fcvtl(w[k], w[k]))
		}
		return w
	}
	w := a.vecs(4)
	for k, v := range w {
		a.do(ldrQ(v, p, at+16*k))
	}
	return w
}

// inTiles emits body for tiles of count, the widest first, until it is done.
func (a *arm) inTiles(name string, count xreg, widths []int, body func(width int)) {
	for _, w := range widths {
		loop, next := fmt.Sprintf("%s%d", name, w), fmt.Sprintf("%sBelow%d", name, w)
		a.label(loop)
		a.op("CMP $%d, R%d", w, count)
		a.op("BLT %s", next)
		body(w)
		a.op("SUB $%d, R%d", w, count)
		a.op("B %s", loop)
		a.label(next)
	}
}

// rowsFrom sets pointers to rows that lie stride apart, the first at base.
func (a *arm) rowsFrom(p []xreg, base, stride xreg) {
	a.op("MOVD R%d, R%d", base, p[0])
	for t := 1; t < len(p); t++ {
		a.op("ADD R%d, R%d, R%d", stride, p[t-1], p[t])
	}
}

func neonScores(a *arm, kv string) {
	a.begin("scores_"+kv+"_neon", "(q *float32, mem *byte, places *int, out *float32, blocks int, n int, dim int)", "Products of n queries with the keys of some blocks; portable form: scoreBlock.")
	r := a.loads("q", "mem", "places", "out", "blocks", "n", "dim")
	queries, mem, places, scores, blocks, n, dim := r[0], r[1], r[2], r[3], r[4], r[5], r[6]
	stride, keys, key, left, q, out, rest := a.reg(), a.reg(), a.reg(), a.reg(), a.reg(), a.reg(), a.reg()
	a.op("LSL $2, R%d, R%d", dim, stride)
	x := []xreg{a.reg(), a.reg(), a.reg(), a.reg(), a.reg(), a.reg()}
	a.label("block")
	a.op("MOVD (R%d), R%d", places, keys)
	a.op("ADD R%d, R%d, R%d", mem, keys, keys)
	a.op("MOVD R%d, R%d", queries, q)
	a.op("MOVD R%d, R%d", scores, out)
	a.op("MOVD R%d, R%d", n, rest)
	a.inTiles("queries", rest, []int{6, 4, 2, 1}, func(width int) {
		a.rowsFrom(x[:width], q, stride)
		a.op("MOVD R%d, R%d", keys, key)
		a.op("MOVD R%d, R%d", dim, left)
		var sums []vreg
		for range 4 * width {
			sums = append(sums, a.zero())
		}
		loop := fmt.Sprintf("dimension%d", width)
		a.label(loop)
		k, e := a.loadKVs(kv, key, 0), a.vec()
		for t := range width {
			a.do(ldrS(e, x[t], 0))
			for j := range 4 {
				a.do(fmlaLane(sums[4*t+j], k[j], e, 0))
			}
		}
		a.advance(blockPositions*kvBytes(kv), key)
		a.advance(4, x[:width]...)
		a.repeat(left, 1, loop)
		for i, v := range sums {
			a.do(strQ(v, out, scoreStride*(i/4)+16*(i%4)))
		}
		for range width {
			a.op("ADD R%d, R%d", stride, q)
		}
		a.advance(scoreStride*width, out)
		a.give(append(append(sums, k...), e)...)
	})
	a.advance(8, places)
	a.advance(4*blockPositions, scores)
	a.repeat(blocks, 1, "block")
	a.end()
}

// neonWeighing is the kernel that adds weighted values up.
type neonWeighing struct {
	*arm
	kv                     string
	mem, places, positions xreg
	p                      xreg   // weights of the first query at hand
	at                     []xreg // sums of the queries at hand
	row                    xreg   // bytes of a position's values
	column                 xreg   // bytes before the slice at hand
	weight, value, count   xreg
	place, left, temporary xreg
}

func neonWeigh(a *arm, kv string) {
	a.begin("weigh_"+kv+"_neon", "(p *float32, mem *byte, places *int, o *float32, slot int, positions int, n int, dim int)",
		"Adds p times the values of some positions, from slot of the first block on, to n sums of dim elements, a multiple of 16; portable form: weighHalves.")
	r := a.loads("p", "mem", "places", "o", "positions", "n", "dim")
	o, n, dim := r[3], r[5], r[6]
	w := &neonWeighing{arm: a, kv: kv, p: r[0], mem: r[1], places: r[2], positions: r[4]}
	w.row, w.column, w.weight, w.value, w.count = a.reg(), a.reg(), a.reg(), a.reg(), a.reg()
	w.place, w.left, w.temporary = a.reg(), a.reg(), a.reg()
	stride, rest := a.reg(), a.reg()
	a.op("LSL $%d, R%d, R%d", kvBytes(kv)/2, dim, w.row)
	a.op("LSL $2, R%d, R%d", dim, stride)
	at := []xreg{a.reg(), a.reg(), a.reg(), a.reg()}
	a.inTiles("queries", n, []int{4, 1}, func(width int) {
		w.at = at[:width]
		a.rowsFrom(w.at, o, stride)
		a.op("MOVD $0, R%d", w.column)
		a.op("MOVD R%d, R%d", dim, rest)
		slices := []int{16}
		if width == 1 {
			slices = []int{64, 16}
		}
		a.inTiles(fmt.Sprintf("slice%d_", width), rest, slices, func(elements int) {
			w.slice(elements, fmt.Sprintf("%d_%d", width, elements))
			a.advance(4*elements, w.at...)
			a.advance(kvBytes(kv)*elements, w.column)
		})
		for range width {
			a.op("ADD R%d, R%d", stride, o)
		}
		a.advance(scoreStride*width, w.p)
	})
	a.end()
}

// slice adds all positions to a slice of the sums of some queries.
func (w *neonWeighing) slice(elements int, name string) {
	var sums []vreg
	for _, p := range w.at {
		for j := range elements / 4 {
			v := w.vec()
			w.do(ldrQ(v, p, 16*j))
			sums = append(sums, v)
		}
	}
	w.op("MOVD R%d, R%d", w.p, w.weight)
	w.op("MOVD R%d, R%d", w.places, w.place)
	w.op("MOVD R%d, R%d", w.positions, w.left)
	w.op("MOVD slot+%d(FP), R%d", w.args["slot"], w.value)
	w.op("MOVD $%d, R%d", blockPositions, w.count)
	w.op("SUB R%d, R%d", w.value, w.count)
	w.op("MUL R%d, R%d, R%d", w.row, w.value, w.value)
	w.op("B begin%s", name)
	w.label("block" + name)
	w.op("MOVD $%d, R%d", blockPositions, w.count)
	w.op("MOVD $0, R%d", w.value)
	w.label("begin" + name)
	w.op("MOVD (R%d), R%d", w.place, w.temporary)
	for _, part := range []xreg{w.mem, w.temporary, w.column} {
		w.op("ADD R%d, R%d", part, w.value)
	}
	w.advance(8, w.place)
	w.op("CMP R%d, R%d", w.count, w.left)
	w.op("CSEL LT, R%d, R%d, R%d", w.left, w.count, w.count)
	w.op("SUB R%d, R%d", w.count, w.left)
	w.block(sums, elements, "position"+name)
	w.op("CBNZ R%d, block%s", w.left, name)
	for t, p := range w.at {
		for j := range elements / 4 {
			w.do(strQ(sums[t*elements/4+j], p, 16*j))
		}
	}
	w.give(sums...)
}

// block adds the positions of one block.
func (w *neonWeighing) block(sums []vreg, elements int, loop string) {
	e := w.vecs(len(w.at))
	w.label(loop)
	for t, v := range e {
		w.do(ldrS(v, w.weight, scoreStride*t))
	}
	for part := range elements / 16 {
		v := w.loadKVs(w.kv, w.value, 64*part)
		for t := range w.at {
			for j := range 4 {
				w.do(fmlaLane(sums[t*elements/4+4*part+j], v[j], e[t], 0))
			}
		}
		w.give(v...)
	}
	w.advance(4, w.weight)
	w.op("ADD R%d, R%d", w.row, w.value)
	w.repeat(w.count, 1, loop)
	w.give(e...)
}

// softmax is the kernel that softens scores, at work on 16 positions at once.
type softmax struct {
	*arm
	start, at, hi, p xreg
	span, step       vreg
	first, place     vreg // lane's position minus lo, of the first lanes and at hand
}

func neonSoften(a *arm) {
	a.begin("soften_neon", "(s *float32, spans *[2]int32, maxima *float32, sums *float32, bad *uint32, n int, scale float32)",
		"Softmax of n queries' places lo..hi-1 of a chunk, without the division; portable form: softenScores.")
	r := a.loads("s", "spans", "maxima", "sums", "bad", "n")
	scores, spans, maxima, totals, bad, n := r[0], r[1], r[2], r[3], r[4], r[5]
	lo, hi, x := a.reg(), a.reg(), a.reg()
	a.label("query")
	a.op("MOVWU (R%d), R%d", spans, lo)
	a.op("MOVWU 4(R%d), R%d", spans, hi)
	a.op("CMP R%d, R%d", lo, hi)
	a.op("BLE empty")
	s, scale, least := newSoftmax(a, scores, lo, hi), a.float("scale"), a.constant(tiny)
	largest, top, limit, badLanes := a.constant(0xff800000), a.constant(0xff800000), a.constant(notFinite), a.zero()
	s.positions("largest", func(v, seen vreg) {
		t := a.vec()
		a.do(fmulLane(v, v, scale, 0))
		a.floor(v, least)
		a.do(fabs4(t, v), cmhs4(t, t, limit), and16(t, t, seen), orr16(badLanes, badLanes, t))
		a.do(move(t, largest), bit16(t, v, seen), fmax4(top, top, t))
		a.give(t)
	})
	a.do(umaxv4(badLanes, badLanes), fmaxv4(top, top))
	a.op("FMOVS F%d, R%d", badLanes, x)
	a.op("MOVWU (R%d), R%d", bad, lo)
	a.op("ORR R%d, R%d", lo, x)
	a.op("MOVW R%d, (R%d)", x, bad)
	a.op("FMOVS F%d, (R%d)", top, maxima)
	a.do(dup4(top, top, 0))
	a.give(scale, least, largest, limit, badLanes)
	e := a.exponential()
	var sums []vreg
	for range 4 {
		sums = append(sums, a.zero())
	}
	k := 0
	s.positions("exponentials", func(v, seen vreg) {
		a.do(fsub4(v, v, top))
		e.apply(v)
		a.do(and16(v, v, seen), fadd4(sums[k], sums[k], v))
		k++
	})
	a.do(fadd4(sums[0], sums[0], sums[2]), fadd4(sums[1], sums[1], sums[3]), fadd4(sums[0], sums[0], sums[1]))
	a.do(ext8(sums[1], sums[0], sums[0]), fadd4(sums[0], sums[0], sums[1]), faddp4(sums[0], sums[0], sums[0]))
	a.op("FMOVS F%d, (R%d)", sums[0], totals)
	a.label("next")
	a.op("MOVD $%d, R%d", scoreStride, x)
	a.op("ADD R%d, R%d", x, scores)
	a.advance(8, spans)
	a.advance(4, maxima, totals, bad)
	a.repeat(n, 1, "query")
	a.op("RET")
	a.label("empty")
	a.op("MOVD $0x%08x, R%d", nothing, x)
	a.op("MOVW R%d, (R%d)", x, maxima)
	a.op("MOVD $0, R%d", x)
	a.op("MOVW R%d, (R%d)", x, totals)
	a.op("B next")
	a.end()
}

// newSoftmax sets a kernel's pointers to the 16 positions that lo lies in.
func newSoftmax(a *arm, base, lo, hi xreg) *softmax {
	s := &softmax{arm: a, start: a.reg(), at: a.reg(), hi: hi, p: a.reg()}
	minus, x := a.vec(), a.reg()
	s.span, s.first, s.place, s.step = a.vec(), a.vec(), a.vec(), a.vec()
	a.op("SUB R%d, R%d, R%d", lo, s.hi, x)
	a.do(dupGeneral(s.span, x))
	a.op("AND $15, R%d, R%d", lo, x)
	a.do(dupGeneral(minus, x))
	a.op("MOVD $0x03020100, R%d", x)
	a.do(dupGeneral(s.first, x), uxtBytes(s.first, s.first), uxtWords(s.first, s.first), sub4(s.first, s.first, minus))
	a.do(movi4(s.step, 4))
	a.op("BIC $15, R%d, R%d", lo, s.start)
	a.op("ADD R%d<<2, R%d, R%d", s.start, base, s.p)
	a.give(minus)
	a.giveReg(x)
	return s
}

// positions emits a loop over the scores, four at a time. body may change
// them; seen marks the lanes from lo to hi-1: as unsigned numbers their place
// after lo is below the span.
func (s *softmax) positions(loop string, body func(v, seen vreg)) {
	p, v, seen := s.reg(), s.vec(), s.vec()
	s.op("MOVD R%d, R%d", s.start, s.at)
	s.op("MOVD R%d, R%d", s.p, p)
	s.do(move(s.place, s.first))
	s.label(loop)
	for at := 0; at < 64; at += 16 {
		s.do(ldrQ(v, p, at), cmhi4(seen, s.span, s.place))
		body(v, seen)
		s.do(strQ(v, p, at), add4(s.place, s.place, s.step))
	}
	s.advance(64, p)
	s.advance(16, s.at)
	s.op("CMP R%d, R%d", s.hi, s.at)
	s.op("BLT %s", loop)
	s.give(v, seen)
	s.giveReg(p)
}

// neonFoldScales merges maxima and sums of parts of the positions, a lane a
// query.
func neonFoldScales(a *arm) {
	a.begin("foldScales_neon", "(x *float32, xSums *float32, y *float32, ySums *float32, a *float32, b *float32, n int)",
		"Maxima and sums of x and y merged into x, and the factors of their weighted sums, n a multiple of 16; portable form: foldScale.")
	r := a.loads("x", "xSums", "y", "ySums", "a", "b", "n")
	x, xSums, y, ySums, first, second, n := r[0], r[1], r[2], r[3], r[4], r[5], r[6]
	e := a.exponential()
	a.overVectors(n, func(at int) {
		u, v, top := a.vec(), a.vec(), a.vec()
		a.do(ldrQ(u, x, at), ldrQ(v, y, at), fmax4(top, u, v), strQ(top, x, at), fsub4(u, u, top), fsub4(v, v, top))
		e.apply(u)
		e.apply(v)
		a.do(strQ(u, first, at), strQ(v, second, at))
		s, t := a.vec(), a.vec()
		a.do(ldrQ(s, xSums, at), ldrQ(t, ySums, at), fmul4(s, s, u), fmla4(s, t, v), strQ(s, xSums, at))
		a.give(u, v, top, s, t)
	}, x, xSums, y, ySums, first, second)
}

// neonFold merges weighted sums, a row of dim elements a query.
func neonFold(a *arm) {
	a.begin("fold_neon", "(out *float32, o *float32, a *float32, b *float32, n int, dim int)",
		"out = F(FMA(F(o), b, RN(out*a))) of n rows of dim elements, a multiple of 16; portable form: attnRun.fold.")
	r := a.loads("out", "o", "a", "b", "n", "dim")
	out, o, factors, weights, n, dim := r[0], r[1], r[2], r[3], r[4], r[5]
	factor, weight, least, left := a.vec(), a.vec(), a.constant(tiny), a.reg()
	a.label("row")
	a.do(ldrS(factor, factors, 0), ldrS(weight, weights, 0))
	a.op("MOVD R%d, R%d", dim, left)
	a.label("vector")
	for at := 0; at < 64; at += 16 {
		v, u := a.vec(), a.vec()
		a.do(ldrQ(v, out, at), ldrQ(u, o, at))
		a.floor(u, least)
		a.do(fmulLane(v, v, factor, 0), fmlaLane(v, u, weight, 0))
		a.floor(v, least)
		a.do(strQ(v, out, at))
		a.give(v, u)
	}
	a.advance(64, out, o)
	a.repeat(left, 16, "vector")
	a.advance(4, factors, weights)
	a.repeat(n, 1, "row")
	a.end()
}

// neonToHalf rounds to half precision.
func neonToHalf(a *arm) {
	a.begin("toHalf_neon", "(dst *uint16, x *float32, n int) (bad uint32)",
		"Halves nearest to x, n a multiple of 16; bad is not 0 if one is not finite; portable form: arith.F32ToF16.")
	dst, x, n := a.load("dst"), a.load("x"), a.load("n")
	limit, most := a.constant(halfOverflow), a.zero()
	a.label("vector")
	for at := 0; at < 64; at += 32 {
		v, w, t := a.vec(), a.vec(), a.vec()
		a.do(ldrQ(v, x, at), ldrQ(w, x, at+16))
		a.do(fabs4(t, v), umax4(most, most, t), fabs4(t, w), umax4(most, most, t))
		a.do(fcvtn(v, v), fcvtn2(v, w), strQ(v, dst, at/2))
		a.give(v, w, t)
	}
	a.advance(64, x)
	a.advance(32, dst)
	a.repeat(n, 16, "vector")
	a.do(cmhs4(most, most, limit), umaxv4(most, most))
	a.result(most, "bad")
	a.end()
}
