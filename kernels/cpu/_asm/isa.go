package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// isa is an instruction set that elementwise kernels are written for.
type isa struct {
	name  string
	wide  bool // AVX-512: 16 lanes, masks and 32 registers
	lanes int
}

var (
	avx512 = isa{"avx512vnni", true, 16}
	avx2   = isa{"avx2", false, 8}
)

// text begins a kernel.
func (i isa) text(name, signature, doc string) {
	TEXT(name+"_"+i.name, attr.NOSPLIT, signature)
	Doc(doc)
	Pragma("noescape")
}

// vec makes a vector register.
func (i isa) vec() VecVirtual {
	if i.wide {
		return ZMM()
	}
	return YMM()
}

// constant gives 32 bits in each lane: in a register, or in memory where
// registers are few.
func (i isa) constant(bits uint32) Op {
	if i.wide {
		return constant512(bits)
	}
	return memory2(bits)
}

// memoryConstants are the constants in memory by their bits.
var memoryConstants = map[uint32]Mem{}

func memory2(bits uint32) Mem {
	m, ok := memoryConstants[bits]
	if !ok {
		m = GLOBL(fmt.Sprintf("lanes_%08x", bits), attr.RODATA|attr.NOPTR)
		for n := range 8 {
			DATA(4*n, U32(bits))
		}
		memoryConstants[bits] = m
	}
	return m
}

func (i isa) load(p GPVirtual) VecVirtual { return i.loadAt(Mem{Base: p}) }

func (i isa) loadAt(m Mem) VecVirtual {
	v := i.vec()
	VMOVUPS(m, v)
	return v
}

func (i isa) zero() VecVirtual {
	v := i.vec()
	if i.wide {
		VPXORD(v, v, v)
	} else {
		VPXOR(v, v, v)
	}
	return v
}

// argument broadcasts a float argument.
func (i isa) argument(name string) VecVirtual {
	x, v := XMM(), i.vec()
	Load(Param(name), x)
	VBROADCASTSS(x, v)
	return v
}

// floor gives the code of the contract's F.
func (i isa) floor() func(v VecVirtual) {
	if i.wide {
		return newFloor512().apply
	}
	return floor2{memory2(absMask), memory2(tiny - 1)}.apply
}

// overVectors emits a loop over n elements, a positive multiple of 16.
func (i isa) overVectors(count GPVirtual, body func(), pointers ...GPVirtual) {
	Label("vector")
	body()
	for _, p := range pointers {
		ADDQ(Imm(uint64(4*i.lanes)), p)
	}
	SUBQ(Imm(uint64(i.lanes)), count)
	JNZ(LabelRef("vector"))
	VZEROUPPER()
	RET()
}

// clear makes v zeros.
func (i isa) clear(v VecVirtual) {
	if i.wide {
		VPXORD(v, v, v)
	} else {
		VPXOR(v, v, v)
	}
}

// broadcast puts the low 32 bits of r into each lane.
func (i isa) broadcast(r GPVirtual, v VecVirtual) {
	if i.wide {
		VPBROADCASTD(r.As32(), v)
		return
	}
	x := XMM()
	VMOVD(r.As32(), x)
	VPBROADCASTD(x, v)
}

// places gives 0, 1, 2 and so on.
func (i isa) places() VecVirtual {
	r, x, v := GP64(), XMM(), i.vec()
	MOVQ(U64(0x0706050403020100), r)
	VMOVQ(r, x)
	if i.wide {
		MOVQ(U64(0x0f0e0d0c0b0a0908), r)
		VPINSRQ(Imm(1), r, x, x)
	}
	VPMOVZXBD(x, v)
	return v
}

// anyAtLeast makes r other than 0 if a lane of v, none of them negative, is at
// least bits.
func (i isa) anyAtLeast(bits uint32, v VecVirtual, r GPVirtual) {
	if i.wide {
		over := K()
		VPCMPUD(Imm(cmpGreaterEqual), constant512(bits), v, over)
		KMOVW(over, r.As32())
		return
	}
	t := YMM()
	VPCMPGTD(memory2(bits-1), v, t)
	VPMOVMSKB(t, r.As32())
}

// greatestAcross leaves the largest lane in each.
func (i isa) greatestAcross(m VecVirtual) {
	t := i.vec()
	if i.wide {
		VSHUFF32X4(Imm(0x4e), m, m, t)
		VMAXPS(m, t, m)
		VSHUFF32X4(Imm(0xb1), m, m, t)
	} else {
		VPERM2F128(Imm(1), m, m, t)
	}
	VMAXPS(m, t, m)
	VPERMILPS(Imm(0x4e), m, t)
	VMAXPS(m, t, m)
	VPERMILPS(Imm(0xb1), m, t)
	VMAXPS(m, t, m)
}

// tree sums sixteen lanes, in one vector or two, in the contract's order.
func (i isa) tree(v []VecVirtual) Register {
	y, x, t := YMM(), XMM(), XMM()
	if i.wide { // in forms that can name all registers
		VEXTRACTF64X4(Imm(1), v[0], y)
		VADDPS(y, v[0].AsY(), y)
		VEXTRACTF32X4(Imm(1), y, x)
	} else {
		VADDPS(v[1], v[0], y)
		VEXTRACTF128(Imm(1), y, x)
	}
	VADDPS(x, y.AsX(), x)
	VPSHUFD(Imm(0x4e), x, t)
	VADDPS(t, x, x)
	VPSHUFD(Imm(0xb1), x, t)
	VADDPS(t, x, x)
	return x
}

// exponential holds the constants of the contract's exp.
type exponential struct {
	isa
	low, log2e, ln2Hi, ln2Lo, one Op
	high                          Op // nil where no argument is above 0
	// round is 1.5*2^23: a float to which it is added becomes the nearest
	// integer, ties to even, in the sum's low bits.
	round        Op
	coefficients []Op
}

func (i isa) exponential() exponential {
	e := exponential{
		isa:   i,
		low:   i.constant(0xc1d80000), // -27
		log2e: i.constant(0x3fb8aa3b),
		ln2Hi: i.constant(0x3f317200),
		ln2Lo: i.constant(0x35bfbe8e),
		one:   i.constant(0x3f800000),
		round: i.constant(0x4b400000),
	}
	for _, c := range []uint32{0x3ab511e8, 0x3c091d10, 0x3d2aac79, 0x3e2aaa49, 0x3efffffe} {
		e.coefficients = append(e.coefficients, i.constant(c))
	}
	return e
}

// limited bounds the argument from above too.
func (e exponential) limited() exponential {
	e.high = e.constant(0x42b00000) // 88
	return e
}

// apply gives e^x; x is overwritten.
func (e exponential) apply(x VecVirtual) VecVirtual {
	alive, dead, k, bits, p := K(), YMM(), e.vec(), e.vec(), e.vec()
	if e.wide {
		VCMPPS(Imm(cmpOrderedGE), e.low, x, alive)
	} else {
		VCMPPS(Imm(cmpOrderedGE), e.low, x, dead)
	}
	if e.high != nil {
		VMINPS(e.high, x, x)
	}
	VMULPS(e.log2e, x, bits)
	VADDPS(e.round, bits, bits)
	VSUBPS(e.round, bits, k)
	VFNMADD231PS(e.ln2Hi, k, x)
	VFNMADD231PS(e.ln2Lo, k, x)
	VMOVUPS(e.coefficients[0], p)
	for _, c := range e.coefficients[1:] {
		VFMADD213PS(c, x, p)
	}
	VFMADD213PS(e.one, x, p)
	VFMADD213PS(e.one, x, p)
	VPSLLD(Imm(23), bits, bits) // the integer becomes an exponent; nothing else of the sum stays
	if e.wide {
		VPADDD_Z(bits, p, alive, p)
	} else {
		VPADDD(bits, p, p)
		VPAND(dead, p, p)
	}
	return p
}
