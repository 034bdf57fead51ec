package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// elementwise emits the kernels that work on rows element by element.
func elementwise(i isa) {
	siluMul(i)
	add(i)
	squares(i)
	normMul(i)
	divide(i)
	floorRow(i)
}

func siluMul(i isa) {
	i.text("siluMul", "func(dst, gate, up *float32, n int)", "dst = F(RN(SiLU(gate)*up)), n a multiple of 16; portable form: Device.siluRow.")
	dst, gate, up, n := pointer("dst"), pointer("gate"), pointer("up"), pointer("n")
	e, floor, sign := i.exponential().limited(), i.floor(), i.constant(0x80000000)
	i.overVectors(n, func() {
		v, r := i.load(gate), i.vec()
		if i.wide {
			VPXORD(sign, v, r)
		} else {
			VPXOR(sign, v, r)
		}
		p := e.apply(r)
		VADDPS(e.one, p, p)
		VDIVPS(p, v, v)
		VMULPS(Mem{Base: up}, v, v)
		floor(v)
		VMOVUPS(v, Mem{Base: dst})
	}, dst, gate, up)
}

func add(i isa) {
	i.text("add", "func(dst, x, y *float32, n int)", "dst = F(RN(x+y)), n a multiple of 16; portable form: Device.addRow.")
	dst, x, y, n := pointer("dst"), pointer("x"), pointer("y"), pointer("n")
	floor := i.floor()
	i.overVectors(n, func() {
		v := i.load(x)
		VADDPS(Mem{Base: y}, v, v)
		floor(v)
		VMOVUPS(v, Mem{Base: dst})
	}, dst, x, y)
}

func squares(i isa) {
	i.text("squares", "func(x *float32, lanes *[16]float32, n int)", "Sums of squares by lane, n a multiple of 16; portable form: Device.norm.")
	x, lanes, n := pointer("x"), pointer("lanes"), pointer("n")
	var sums []VecVirtual
	for range 16 / i.lanes {
		sums = append(sums, i.zero())
	}
	Label("vector")
	for j, sum := range sums {
		v := i.loadAt(Mem{Base: x, Disp: 4 * i.lanes * j})
		VFMADD231PS(v, v, sum)
	}
	ADDQ(Imm(64), x)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("vector"))
	for j, sum := range sums {
		VMOVUPS(sum, Mem{Base: lanes, Disp: 4 * i.lanes * j})
	}
	VZEROUPPER()
	RET()
}

func normMul(i isa) {
	i.text("normMul", "func(dst, x, w *float32, r float32, n int)", "dst = F(RN(RN(x*r)*w)), n a multiple of 16; portable form: Device.norm.")
	dst, x, w, n := pointer("dst"), pointer("x"), pointer("w"), pointer("n")
	r, floor := i.argument("r"), i.floor()
	i.overVectors(n, func() {
		v := i.load(x)
		VMULPS(r, v, v)
		VMULPS(Mem{Base: w}, v, v)
		floor(v)
		VMOVUPS(v, Mem{Base: dst})
	}, dst, x, w)
}

func divide(i isa) {
	i.text("divide", "func(out, o *float32, sum float32, n int)", "out = F(RN(o/sum)), n a multiple of 16; portable form: Device.divide.")
	out, o, n := pointer("out"), pointer("o"), pointer("n")
	sum, floor := i.argument("sum"), i.floor()
	i.overVectors(n, func() {
		v := i.load(o)
		VDIVPS(sum, v, v)
		floor(v)
		VMOVUPS(v, Mem{Base: out})
	}, out, o)
}

func floorRow(i isa) {
	i.text("floor", "func(x *float32, n int)", "x = F(x), n a multiple of 16; portable form: arith.FloorAll.")
	x, n := pointer("x"), pointer("n")
	floor := i.floor()
	i.overVectors(n, func() {
		v := i.load(x)
		floor(v)
		VMOVUPS(v, Mem{Base: x})
	}, x)
}
