package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// exp512 holds the constants of the contract's exponential.
type exp512 struct {
	low, high, log2e, ln2Hi, ln2Lo, one VecVirtual
	coefficients                        []VecVirtual
}

func newExp512() (e exp512) {
	e.low = constant512(0xc1d80000)  // -27
	e.high = constant512(0x42b00000) // 88
	e.log2e = constant512(0x3fb8aa3b)
	e.ln2Hi = constant512(0x3f317200)
	e.ln2Lo = constant512(0x35bfbe8e)
	e.one = constant512(0x3f800000)
	for _, c := range []uint32{0x3ab511e8, 0x3c091d10, 0x3d2aac79, 0x3e2aaa49, 0x3efffffe} {
		e.coefficients = append(e.coefficients, constant512(c))
	}
	return e
}

// apply gives e^x; x is overwritten.
func (e exp512) apply(x VecVirtual) VecVirtual {
	alive, k, p := K(), ZMM(), ZMM()
	VCMPPS(Imm(cmpOrderedGE), e.low, x, alive)
	VMINPS(e.high, x, x)
	VMULPS(e.log2e, x, k)
	VRNDSCALEPS(Imm(0), k, k)
	VFNMADD231PS(e.ln2Hi, k, x)
	VFNMADD231PS(e.ln2Lo, k, x)
	VMOVAPS(e.coefficients[0], p)
	for _, c := range e.coefficients[1:] {
		VFMADD213PS(c, x, p)
	}
	VFMADD213PS(e.one, x, p)
	VFMADD213PS(e.one, x, p)
	VCVTPS2DQ(k, k)
	VPSLLD(Imm(23), k, k)
	VPADDD_Z(k, p, alive, p)
	return p
}

// overVectors emits a loop over n elements, a positive multiple of 16.
func overVectors(count GPVirtual, body func(), pointers ...GPVirtual) {
	Label("vector")
	body()
	for _, p := range pointers {
		ADDQ(Imm(64), p)
	}
	SUBQ(Imm(16), count)
	JNZ(LabelRef("vector"))
	VZEROUPPER()
	RET()
}

func load512(p GPVirtual) VecVirtual {
	v := ZMM()
	VMOVUPS(Mem{Base: p}, v)
	return v
}

func elementwise512() {
	siluMul512()
	add512()
	squares512()
	normMul512()
}

func siluMul512() {
	TEXT("siluMul_avx512vnni", attr.NOSPLIT, "func(dst, gate, up *float32, n int)")
	Doc("dst = F(RN(SiLU(gate)*up)), n a multiple of 16; portable form: Device.siluRow.")
	Pragma("noescape")
	dst, gate, up, n := pointer("dst"), pointer("gate"), pointer("up"), pointer("n")
	e, f, sign := newExp512(), newFloor512(), constant512(0x80000000)
	overVectors(n, func() {
		v, r := load512(gate), ZMM()
		VPXORD(sign, v, r)
		p := e.apply(r)
		VADDPS(e.one, p, p)
		VDIVPS(p, v, v)
		VMULPS(Mem{Base: up}, v, v)
		f.apply(v)
		VMOVUPS(v, Mem{Base: dst})
	}, dst, gate, up)
}

func add512() {
	TEXT("add_avx512vnni", attr.NOSPLIT, "func(dst, x, y *float32, n int)")
	Doc("dst = F(RN(x+y)), n a multiple of 16; portable form: Device.addRow.")
	Pragma("noescape")
	dst, x, y, n := pointer("dst"), pointer("x"), pointer("y"), pointer("n")
	f := newFloor512()
	overVectors(n, func() {
		v := load512(x)
		VADDPS(Mem{Base: y}, v, v)
		f.apply(v)
		VMOVUPS(v, Mem{Base: dst})
	}, dst, x, y)
}

func squares512() {
	TEXT("squares_avx512vnni", attr.NOSPLIT, "func(x *float32, lanes *[16]float32, n int)")
	Doc("Sums of squares by lane, n a multiple of 16; portable form: Device.norm.")
	Pragma("noescape")
	x, lanes, n := pointer("x"), pointer("lanes"), pointer("n")
	sum := ZMM()
	VPXORD(sum, sum, sum)
	Label("vector")
	v := load512(x)
	VFMADD231PS(v, v, sum)
	ADDQ(Imm(64), x)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("vector"))
	VMOVUPS(sum, Mem{Base: lanes})
	VZEROUPPER()
	RET()
}

func normMul512() {
	TEXT("normMul_avx512vnni", attr.NOSPLIT, "func(dst, x, w *float32, r float32, n int)")
	Doc("dst = F(RN(RN(x*r)*w)), n a multiple of 16; portable form: Device.norm.")
	Pragma("noescape")
	dst, x, w, n := pointer("dst"), pointer("x"), pointer("w"), pointer("n")
	r, scalar := ZMM(), XMM()
	Load(Param("r"), scalar)
	VBROADCASTSS(scalar, r)
	f := newFloor512()
	overVectors(n, func() {
		v := load512(x)
		VMULPS(r, v, v)
		VMULPS(Mem{Base: w}, v, v)
		f.apply(v)
		VMOVUPS(v, Mem{Base: dst})
	}, dst, x, w)
}
