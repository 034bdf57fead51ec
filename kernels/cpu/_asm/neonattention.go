package main

import "fmt"

func neonAttention(a *arm) {
	for _, kv := range []string{"f16", "f32"} {
		neonScores(a, kv)
		neonWeigh(a, kv)
	}
	neonSoften(a)
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
	a.begin("scores_"+kv+"_neon", "(q *float32, keys *byte, out *float32, n int, dim int)", "Products of n queries with the keys of 16 positions; portable form: scoreBlock.")
	r := a.loads("q", "keys", "out", "n", "dim")
	q, keys, out, n, dim := r[0], r[1], r[2], r[3], r[4]
	stride, key, left := a.reg(), a.reg(), a.reg()
	a.op("LSL $2, R%d, R%d", dim, stride)
	x := []xreg{a.reg(), a.reg(), a.reg(), a.reg()}
	a.inTiles("queries", n, []int{4, 2, 1}, func(width int) {
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
	a.end()
}

func neonWeigh(a *arm, kv string) {
	a.begin("weigh_"+kv+"_neon", "(p *float32, values *byte, o *float32, positions int, n int, dim int)",
		"Adds p times the values of some positions of a block to n sums of dim elements, a multiple of 16; portable form: weighHalves.")
	r := a.loads("p", "values", "o", "positions", "n", "dim")
	p, values, o, positions, n, dim := r[0], r[1], r[2], r[3], r[4], r[5]
	row, stride, column, left := a.reg(), a.reg(), a.reg(), a.reg()
	a.op("LSL $%d, R%d, R%d", kvBytes(kv)/2, dim, row)
	a.op("LSL $2, R%d, R%d", dim, stride)
	at := []xreg{a.reg(), a.reg(), a.reg(), a.reg()}
	a.inTiles("queries", n, []int{4, 1}, func(width int) {
		a.rowsFrom(at[:width], o, stride)
		a.op("MOVD R%d, R%d", values, column)
		a.op("MOVD R%d, R%d", dim, left)
		slices := []int{16}
		if width == 1 {
			slices = []int{64, 16}
		}
		a.inTiles(fmt.Sprintf("slice%d_", width), left, slices, func(elements int) {
			weight, value, count := a.reg(), a.reg(), a.reg()
			a.op("MOVD R%d, R%d", p, weight)
			a.op("MOVD R%d, R%d", column, value)
			a.op("MOVD R%d, R%d", positions, count)
			a.weighSlice(kv, at[:width], weight, value, count, row, elements, fmt.Sprintf("position%d_%d", width, elements))
			a.giveReg(weight, value, count)
			a.advance(4*elements, at[:width]...)
			a.advance(kvBytes(kv)*elements, column)
		})
		for range width {
			a.op("ADD R%d, R%d", stride, o)
		}
		a.advance(scoreStride*width, p)
	})
	a.end()
}

// weighSlice adds all positions to a slice of the sums of some queries.
func (a *arm) weighSlice(kv string, at []xreg, weight, value, count, row xreg, elements int, loop string) {
	var sums []vreg
	for _, p := range at {
		for j := range elements / 4 {
			v := a.vec()
			a.do(ldrQ(v, p, 16*j))
			sums = append(sums, v)
		}
	}
	e := a.vecs(len(at))
	a.label(loop)
	for t, v := range e {
		a.do(ldrS(v, weight, scoreStride*t))
	}
	for part := range elements / 16 {
		v := a.loadKVs(kv, value, 64*part)
		for t := range at {
			for j := range 4 {
				a.do(fmlaLane(sums[t*elements/4+4*part+j], v[j], e[t], 0))
			}
		}
		a.give(v...)
	}
	a.advance(4, weight)
	a.op("ADD R%d, R%d", row, value)
	a.repeat(count, 1, loop)
	for t, p := range at {
		for j := range elements / 4 {
			a.do(strQ(sums[t*elements/4+j], p, 16*j))
		}
	}
	a.give(append(sums, e...)...)
}

// softmax is the kernel that softens scores, at work on 16 positions at once.
type softmax struct {
	*arm
	start, at, hi, p xreg
	span, step       vreg
	first, place     vreg // lane's position minus lo, of the first lanes and at hand
}

func neonSoften(a *arm) {
	a.begin("soften_neon", "(s *float32, lo int, hi int, scale float32) (maximum float32, sum float32, bad uint32)",
		"Softmax of positions lo..hi-1 of a chunk, lo < hi, without the division; portable form: softenScores.")
	s, scale, least := newSoftmax(a), a.float("scale"), a.constant(tiny)
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
	a.result(badLanes, "bad")
	a.result(top, "maximum")
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
	a.result(sums[0], "sum")
	a.end()
}

// newSoftmax sets a kernel's pointers to the 16 positions that lo lies in.
func newSoftmax(a *arm) *softmax {
	base, lo := a.load("s"), a.load("lo")
	s := &softmax{arm: a, start: a.reg(), at: a.reg(), hi: a.load("hi"), p: base}
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
	a.op("ADD R%d<<2, R%d", s.start, s.p)
	a.give(minus)
	a.giveReg(x, lo)
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
