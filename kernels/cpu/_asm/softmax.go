package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// scoreStride is the distance of two queries' scores: a chunk of 256 positions
// and a line.
const scoreStride = 4 * (256 + 16)

// nothing is the largest score of a part without positions: the least float.
const nothing = 0xff7fffff

// softening is the kernel that softens the scores of queries, 16 positions a
// turn, in one vector or in two.
type softening struct {
	isa
	e             exponential
	scale         VecVirtual
	abs, least    Op
	lanes, span   VecVirtual // 0, 1, 2 ..; hi-lo in each lane
	s, lo, hi, at GPVirtual  // of the query at hand
	top, worst    VecVirtual // largest score, largest pattern without sign
	sums          []VecVirtual
	name          string // of the pass at hand
}

func soften(i isa) {
	i.text("soften", "func(s *float32, spans *[2]int32, maxima, sums *float32, bad *uint32, n int, scale float32)",
		"Softmax of n queries' places lo..hi-1 of a chunk, without the division; portable form: softenScores.")
	s, spans, maxima, sums, bad, n := pointer("s"), pointer("spans"), pointer("maxima"), pointer("sums"), pointer("bad"), pointer("n")
	k := softening{isa: i, e: i.exponential(), scale: i.argument("scale"), abs: i.constant(absMask), lanes: i.places(), span: i.vec(), s: s, lo: GP64(), hi: GP64(), at: GP64()}
	k.least = i.constant(tiny)
	if !i.wide {
		k.least = i.constant(tiny - 1)
	}
	k.top, k.worst = i.vec(), i.vec()
	for range 16 / i.lanes {
		k.sums = append(k.sums, i.vec())
	}
	Label("query")
	MOVL(Mem{Base: spans}, k.lo.As32())
	MOVL(Mem{Base: spans, Disp: 4}, k.hi.As32())
	SUBQ(k.lo, k.hi)
	JLE(LabelRef("empty"))
	i.broadcast(k.hi, k.span)
	ADDQ(k.lo, k.hi)
	VMOVUPS(i.constant(0xff800000), k.top)
	i.clear(k.worst)
	k.pass("largest", k.largest)
	i.greatestAcross(k.top)
	for _, v := range k.sums {
		i.clear(v)
	}
	k.pass("exponentials", k.exponentials)
	r := GP32()
	VMOVD(k.top.AsX(), r)
	MOVL(r, Mem{Base: maxima})
	VMOVD(i.tree(k.sums), r)
	MOVL(r, Mem{Base: sums})
	i.anyAtLeast(notFinite, k.worst, r)
	ORL(r, Mem{Base: bad})
	Label("next")
	ADDQ(U32(scoreStride), s)
	ADDQ(Imm(8), spans)
	for _, p := range []GPVirtual{maxima, sums, bad} {
		ADDQ(Imm(4), p)
	}
	DECQ(n)
	JNZ(LabelRef("query"))
	VZEROUPPER()
	RET()
	Label("empty")
	MOVL(U32(nothing), Mem{Base: maxima})
	MOVL(U32(0), Mem{Base: sums})
	JMP(LabelRef("next"))
}

// pass emits a pass over the places: whole turns, and a part of one at either
// end.
func (k *softening) pass(name string, turn func(part bool)) {
	k.name = name
	label := func(s string) string { return fmt.Sprintf("%s_%s", name, s) }
	step := func(part bool) {
		turn(part)
		ADDQ(Imm(16), k.at)
	}
	MOVQ(k.lo, k.at)
	ANDQ(I8(-16), k.at)
	CMPQ(k.at, k.lo)
	JEQ(LabelRef(label("whole")))
	step(true)
	Label(label("whole"))
	ADDQ(Imm(16), k.at)
	CMPQ(k.at, k.hi)
	JGT(LabelRef(label("rest")))
	SUBQ(Imm(16), k.at)
	step(false)
	JMP(LabelRef(label("whole")))
	Label(label("rest"))
	SUBQ(Imm(16), k.at)
	CMPQ(k.at, k.hi)
	JGE(LabelRef(label("done")))
	step(true)
	Label(label("done"))
}

// place is where vector h of the turn lies.
func (k *softening) place(h int) Mem {
	return Mem{Base: k.s, Index: k.at, Scale: 4, Disp: 4 * k.isa.lanes * h}
}

// seen marks the lanes of vector h that lie in lo..hi-1.
func (k *softening) seen(h int) Register {
	r, place := GP64(), k.vec()
	MOVQ(k.at, r)
	SUBQ(k.lo, r)
	if h > 0 {
		ADDQ(Imm(uint64(k.isa.lanes*h)), r)
	}
	k.broadcast(r, place)
	VPADDD(k.lanes, place, place)
	if k.wide {
		seen := K()
		VPCMPUD(Imm(cmpLess), k.span, place, seen)
		return seen
	}
	seen, t := YMM(), YMM()
	VPCMPGTD(place, k.span, seen)
	VPCMPGTD(memory2(0xffffffff), place, t)
	VPAND(t, seen, seen)
	return seen
}

// largest scales and floors the scores and finds the largest.
func (k *softening) largest(part bool) {
	for h := range k.sums {
		v, t := k.loadAt(k.place(h)), k.vec()
		VMULPS(k.scale, v, v)
		if k.wide {
			alive := K()
			VPANDD(k.abs, v, t)
			VPCMPUD(Imm(cmpGreaterEqual), k.least, t, alive)
			VMOVAPS_Z(v, alive, v)
			VMOVUPS(v, k.place(h))
			if part {
				seen := k.seen(h)
				VPMAXUD(t, k.worst, seen, k.worst)
				VMAXPS(v, k.top, seen, k.top)
				continue
			}
		} else {
			alive := YMM()
			VPAND(k.abs, v, t)
			VPCMPGTD(k.least, t, alive)
			VPAND(alive, v, v)
			VMOVUPS(v, k.place(h))
			if part {
				seen := k.seen(h)
				VPAND(seen, t, t)
				VBLENDVPS(seen, v, k.top, v)
			}
		}
		VPMAXUD(t, k.worst, k.worst)
		VMAXPS(v, k.top, k.top)
	}
}

// exponentials takes them and adds them up.
func (k *softening) exponentials(part bool) {
	for h, sum := range k.sums {
		x := k.loadAt(k.place(h))
		VSUBPS(k.top, x, x)
		y := k.e.apply(x)
		if part && k.wide {
			VMOVAPS_Z(y, k.seen(h), y)
		} else if part {
			VPAND(k.seen(h), y, y)
		}
		VADDPS(y, sum, sum)
		VMOVUPS(y, k.place(h))
	}
}

// foldScales merges maxima and sums of parts of the positions, a lane a query.
func foldScales(i isa) {
	i.text("foldScales", "func(x, xSums, y, ySums, a, b *float32, n int)", "Maxima and sums of x and y merged into x, and the factors of their weighted sums, n a multiple of 16; portable form: foldScale.")
	x, xSums, y, ySums, a, b, n := pointer("x"), pointer("xSums"), pointer("y"), pointer("ySums"), pointer("a"), pointer("b"), pointer("n")
	e := i.exponential()
	i.overVectors(n, func() {
		first, second, top := i.load(x), i.load(y), i.vec()
		VMAXPS(second, first, top)
		VMOVUPS(top, Mem{Base: x})
		VSUBPS(top, first, first)
		VSUBPS(top, second, second)
		first = e.apply(first)
		VMOVUPS(first, Mem{Base: a})
		second = e.apply(second)
		VMOVUPS(second, Mem{Base: b})
		sum := i.load(xSums)
		VMULPS(first, sum, sum)
		VFMADD231PS(Mem{Base: ySums}, second, sum)
		VMOVUPS(sum, Mem{Base: xSums})
	}, x, xSums, y, ySums, a, b)
}

// fold merges weighted sums, a row of dim elements a query.
func fold(i isa) {
	i.text("fold", "func(out, o, a, b *float32, n, dim int)", "out = F(FMA(F(o), b, RN(out*a))) of n rows of dim elements, a multiple of 16; portable form: attnRun.fold.")
	out, o, a, b, n, dim, left := pointer("out"), pointer("o"), pointer("a"), pointer("b"), pointer("n"), pointer("dim"), GP64()
	floor, old, add := i.floor(), i.vec(), i.vec()
	Label("row")
	VBROADCASTSS(Mem{Base: a}, old)
	VBROADCASTSS(Mem{Base: b}, add)
	MOVQ(dim, left)
	Label("vector")
	u, v := i.load(o), i.load(out)
	VMULPS(old, v, v)
	floor(u)
	VFMADD231PS(u, add, v)
	floor(v)
	VMOVUPS(v, Mem{Base: out})
	ADDQ(Imm(uint64(4*i.lanes)), o)
	ADDQ(Imm(uint64(4*i.lanes)), out)
	SUBQ(Imm(uint64(i.lanes)), left)
	JNZ(LabelRef("vector"))
	ADDQ(Imm(4), a)
	ADDQ(Imm(4), b)
	DECQ(n)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}
