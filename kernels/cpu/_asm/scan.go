package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// maximaBlock is how many elements share a maximum.
const maximaBlock = 64

// scans emits the kernels that look for something in a row.
func scans(i isa) {
	maxima(i)
	finiteness(i)
	weights(i)
}

func maxima(i isa) {
	i.text("maxima", "func(x, dst *float32, blocks int)", "The largest of each 64 elements, none of them NaN; portable form: largest.")
	x, dst, blocks, r := pointer("x"), pointer("dst"), pointer("blocks"), GP32()
	Label("block")
	var most []VecVirtual // of even and of odd vectors
	for at := 0; at < maximaBlock; at += i.lanes {
		m := Mem{Base: x, Disp: 4 * at}
		if len(most) < 2 {
			most = append(most, i.loadAt(m))
			continue
		}
		v := most[at/i.lanes%2]
		VMAXPS(m, v, v)
	}
	VMAXPS(most[1], most[0], most[0])
	i.greatestAcross(most[0])
	VMOVD(most[0].AsX(), r)
	MOVL(r, Mem{Base: dst})
	ADDQ(U32(4*maximaBlock), x)
	ADDQ(Imm(4), dst)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// finiteness tells whether a row holds a value that is not finite.
func finiteness(i isa) {
	i.text("notFinite", "func(x *float32, n int) (bad uint32)", "Other than 0 if one of n elements, a multiple of 16, is not finite; portable form: arith.MaxAbsBits.")
	x, n := pointer("x"), pointer("n")
	abs := i.constant(absMask)
	var most []VecVirtual
	for range 16 / i.lanes {
		most = append(most, i.zero())
	}
	Label("vector")
	for j, m := range most {
		v := i.vec()
		if i.wide {
			VPANDD(Mem{Base: x}, abs.(VecVirtual), v)
		} else {
			VMOVUPS(Mem{Base: x, Disp: 4 * i.lanes * j}, v)
			VPAND(abs, v, v)
		}
		VPMAXUD(v, m, m)
	}
	ADDQ(Imm(64), x)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("vector"))
	if !i.wide {
		VPMAXUD(most[1], most[0], most[0])
	}
	r := GP32()
	i.anyAtLeast(notFinite, most[0], r)
	Store(r, Return("bad"))
	VZEROUPPER()
	RET()
}
