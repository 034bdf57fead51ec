package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// doubles are constants of 64 bits in memory, a whole vector of each.
var doubles = map[uint64]Mem{}

func double(bits uint64) Mem {
	m, ok := doubles[bits]
	if !ok {
		m = GLOBL(fmt.Sprintf("doubles_%016x", bits), attr.RODATA|attr.NOPTR)
		for n := range 8 {
			DATA(8*n, U64(bits))
		}
		doubles[bits] = m
	}
	return m
}

// number is a constant of a formula.
func number(v float64) Mem { return double(math.Float64bits(v)) }

// weights emits arith.Weight for a row: in float64, each operation rounded by
// itself, so that no multiplication is fused with an addition.
func weights(i isa) {
	i.text("weights", "func(x *float32, dst *uint64, powers *float64, n int, best, temperature float32) (sum uint64)",
		"Weights of n logits, a multiple of 16, beside the best one, and their sum; portable form: arith.Weight.")
	x, dst, powers, n := pointer("x"), pointer("dst"), pointer("powers"), pointer("n")
	lanes := i.lanes / 2
	half := func() VecVirtual { // a register of lanes 32-bit elements
		if i.wide {
			return YMM()
		}
		return XMM()
	}
	best, scalar, temperature := half(), XMM(), i.vec()
	Load(Param("best"), scalar)
	VBROADCASTSS(scalar, best)
	Load(Param("temperature"), scalar)
	VCVTSS2SD(scalar, scalar, scalar)
	VBROADCASTSD(scalar, temperature)
	sum := i.zero()
	Label("vector")
	f, v, t, p, k := half(), i.vec(), i.vec(), i.vec(), half()
	VMOVUPS(Mem{Base: x}, f)
	VSUBPS(best, f, f)
	VCVTPS2PD(f, v)
	VDIVPD(temperature, v, v)
	alive, dead := K(), YMM()
	if i.wide {
		VCMPPD(Imm(cmpOrderedGE), number(-27), v, alive)
	} else {
		VCMPPD(Imm(cmpOrderedGE), number(-27), v, dead)
	}
	VMULPD(number(64/math.Ln2), v, t)
	VSUBPD(number(0.5), t, t)
	if i.wide {
		VCVTTPD2DQ(t, k)
	} else {
		VCVTTPD2DQY(t, k)
	}
	VCVTDQ2PD(k, t)
	VMULPD(number(math.Ln2/64), t, t)
	VSUBPD(t, v, v)
	VMULPD(number(1.0/24), v, p)
	for _, c := range []float64{1.0 / 6, 0.5, 1} {
		VADDPD(number(c), p, p)
		VMULPD(p, v, p)
	}
	VADDPD(number(1), p, p)
	i.timesPower(p, k, powers)
	bits := double(math.Float64bits(1 << 52))
	VADDPD(bits, p, p) // to the nearest integer, which the low bits are then
	if i.wide {
		VPXORQ_Z(bits, p, alive, p)
	} else {
		VPXOR(bits, p, p)
		VPAND(dead, p, p)
	}
	VPADDQ(p, sum, sum)
	if i.wide {
		VMOVDQU64(p, Mem{Base: dst})
	} else {
		VMOVDQU(p, Mem{Base: dst})
	}
	ADDQ(Imm(uint64(4*lanes)), x)
	ADDQ(Imm(uint64(8*lanes)), dst)
	SUBQ(Imm(uint64(lanes)), n)
	JNZ(LabelRef("vector"))
	r := GP64()
	i.total(sum, r)
	Store(r, Return("sum"))
	VZEROUPPER()
	RET()
}

// timesPower multiplies p by 2^(40+k/64): a power of the table by an exponent.
func (i isa) timesPower(p, k VecVirtual, powers GPVirtual) {
	v := i.vec()
	if i.wide {
		index, all := YMM(), K()
		VPANDD(memory2(63), k, index)
		KXNORB(all, all, all)
		VPXORQ(v, v, v)
		VGATHERDPD(Mem{Base: powers, Index: index, Scale: 8}, all, v)
		VMULPD(v, p, p)
		VPSRAD(Imm(6), k, k)
		VPADDD(memory2(1023+40), k, k)
		VPMOVZXDQ(k, v)
	} else {
		index, all := XMM(), YMM()
		VPAND(memory2(63), k, index)
		VPCMPEQD(all, all, all)
		VXORPD(v, v, v)
		VGATHERDPD(all, Mem{Base: powers, Index: index, Scale: 8}, v)
		VMULPD(v, p, p)
		VPSRAD(Imm(6), k, k)
		VPADDD(memory2(1023+40), k, k)
		VPMOVZXDQ(k, v)
	}
	VPSLLQ(Imm(52), v, v)
	VMULPD(v, p, p)
}

// total adds the lanes of 64 bits up.
func (i isa) total(v VecVirtual, r GPVirtual) {
	x, t := XMM(), XMM()
	if i.wide {
		high := YMM()
		VEXTRACTI64X4(Imm(1), v, high)
		VPADDQ(high, v.AsY(), high)
		VEXTRACTI32X4(Imm(1), high, x)
		VPADDQ(x, high.AsX(), x)
	} else {
		VEXTRACTI128(Imm(1), v, x)
		VPADDQ(x, v.AsX(), x)
	}
	VPSHUFD(Imm(0x4e), x, t)
	VPADDQ(t, x, x)
	VMOVQ(x, r)
}
