package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func rotate512() {
	rotateHalves512()
	rotatePairs512()
}

func rotateHalves512() {
	TEXT("rotateHalves_avx512vnni", attr.NOSPLIT, "func(x, cos, sin *float32, n int)")
	Doc("Rotates x[i] with x[i+n], n a multiple of 16; portable form: rotateHalves.")
	Pragma("noescape")
	x, cos, sin, n := pointer("x"), pointer("cos"), pointer("sin"), pointer("n")
	far := GP64()
	LEAQ(Mem{Base: x, Index: n, Scale: 4}, far)
	f := newFloor512()
	avx512.overVectors(n, func() {
		a, b, c, s := avx512.load(x), avx512.load(far), avx512.load(cos), avx512.load(sin)
		ac, bs := ZMM(), ZMM()
		VMULPS(a, c, ac)
		VMULPS(b, s, bs)
		VSUBPS(bs, ac, ac)
		VMULPS(a, s, s)
		VMULPS(b, c, c)
		VADDPS(c, s, s)
		f.apply(ac)
		f.apply(s)
		VMOVUPS(ac, Mem{Base: x})
		VMOVUPS(s, Mem{Base: far})
	}, x, far, cos, sin)
}

// rotatePairs512 works on 8 pairs at once. A lane's own factor is the cosine,
// its neighbour's the sine, negative in even lanes: negation is exact, so a
// sum of both products has the bits of the contract's difference.
func rotatePairs512() {
	TEXT("rotatePairs_avx512vnni", attr.NOSPLIT, "func(x, cos, sin *float32, n int)")
	Doc("Rotates x[2i] with x[2i+1], n (of pairs) a multiple of 8; portable form: rotatePairs.")
	Pragma("noescape")
	x, cos, sin, n := pointer("x"), pointer("cos"), pointer("sin"), pointer("n")
	f, twice, minus := newFloor512(), doubledLanes(), ZMM()
	r := GP64()
	MOVQ(U64(0x0000000080000000), r)
	VPBROADCASTQ(r, minus)
	Label("pairs")
	v, other, c, s := avx512.load(x), ZMM(), ZMM(), ZMM()
	VMOVUPS(Mem{Base: cos}, c.AsY())
	VMOVUPS(Mem{Base: sin}, s.AsY())
	VPERMPS(c, twice, c)
	VPERMPS(s, twice, s)
	VPXORD(minus, s, s)
	VPERMILPS(Imm(0xb1), v, other)
	VMULPS(c, v, v)
	VMULPS(s, other, other)
	VADDPS(other, v, v)
	f.apply(v)
	VMOVUPS(v, Mem{Base: x})
	ADDQ(Imm(64), x)
	ADDQ(Imm(32), cos)
	ADDQ(Imm(32), sin)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("pairs"))
	VZEROUPPER()
	RET()
}

// doubledLanes gives 0 0 1 1 2 2 up to 7 7.
func doubledLanes() VecVirtual {
	r, x, z := GP64(), XMM(), ZMM()
	MOVQ(U64(0x0303020201010000), r)
	VMOVQ(r, x)
	MOVQ(U64(0x0707060605050404), r)
	VPINSRQ(Imm(1), r, x, x)
	VPMOVZXBD(x, z)
	return z
}
