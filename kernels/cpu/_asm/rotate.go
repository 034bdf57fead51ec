package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func rotate(i isa) {
	rotateHalves(i)
	rotatePairs(i)
}

func rotateHalves(i isa) {
	i.text("rotateHalves", "func(x, cos, sin *float32, n int)", "Rotates x[i] with x[i+n], n a multiple of 16; portable form: Device.rotateHalves.")
	x, cos, sin, n := pointer("x"), pointer("cos"), pointer("sin"), pointer("n")
	far := GP64()
	LEAQ(Mem{Base: x, Index: n, Scale: 4}, far)
	floor := i.floor()
	i.overVectors(n, func() {
		a, b, c, s := i.load(x), i.load(far), i.load(cos), i.load(sin)
		ac, bs := i.vec(), i.vec()
		VMULPS(a, c, ac)
		VMULPS(b, s, bs)
		VSUBPS(bs, ac, ac)
		VMULPS(a, s, s)
		VMULPS(b, c, c)
		VADDPS(c, s, s)
		floor(ac)
		floor(s)
		VMOVUPS(ac, Mem{Base: x})
		VMOVUPS(s, Mem{Base: far})
	}, x, far, cos, sin)
}

// rotatePairs works on a vector of pairs at once. A lane's own factor is the
// cosine, its neighbour's the sine, negative in even lanes: negation is exact,
// so a sum of both products has the bits of the contract's difference.
func rotatePairs(i isa) {
	i.text("rotatePairs", "func(x, cos, sin *float32, n int)", "Rotates x[2i] with x[2i+1], n (of pairs) a multiple of 8; portable form: Device.rotatePairs.")
	x, cos, sin, n := pointer("x"), pointer("cos"), pointer("sin"), pointer("n")
	floor, twice, minus := i.floor(), i.doubledLanes(), i.evenSigns()
	Label("pairs")
	v, other := i.load(x), i.vec()
	c, s := i.doubled(cos, twice), i.doubled(sin, twice)
	if i.wide {
		VPXORD(minus, s, s)
	} else {
		VPXOR(minus, s, s)
	}
	VPERMILPS(Imm(0xb1), v, other)
	VMULPS(c, v, v)
	VMULPS(s, other, other)
	VADDPS(other, v, v)
	floor(v)
	VMOVUPS(v, Mem{Base: x})
	ADDQ(Imm(uint64(4*i.lanes)), x)
	ADDQ(Imm(uint64(2*i.lanes)), cos)
	ADDQ(Imm(uint64(2*i.lanes)), sin)
	SUBQ(Imm(uint64(i.lanes/2)), n)
	JNZ(LabelRef("pairs"))
	VZEROUPPER()
	RET()
}

// doubled reads half a vector and gives each of its lanes twice.
func (i isa) doubled(p GPVirtual, twice VecVirtual) VecVirtual {
	v := i.vec()
	if i.wide {
		VMOVUPS(Mem{Base: p}, v.AsY())
	} else {
		VMOVUPS(Mem{Base: p}, v.AsX())
	}
	VPERMPS(v, twice, v)
	return v
}

// doubledLanes gives 0 0 1 1 2 2 and so on.
func (i isa) doubledLanes() VecVirtual {
	r, x, v := GP64(), XMM(), i.vec()
	MOVQ(U64(0x0303020201010000), r)
	VMOVQ(r, x)
	if i.wide {
		MOVQ(U64(0x0707060605050404), r)
		VPINSRQ(Imm(1), r, x, x)
	}
	VPMOVZXBD(x, v)
	return v
}

// evenSigns gives the sign bit in even lanes.
func (i isa) evenSigns() VecVirtual {
	r, x, v := GP64(), XMM(), i.vec()
	MOVQ(U64(0x0000000080000000), r)
	VMOVQ(r, x)
	VPBROADCASTQ(x, v)
	return v
}
