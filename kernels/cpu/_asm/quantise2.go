package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// quantise2 emits the quantiser of 8-bit activations for AVX2.
func quantise2() {
	avx2.text("quantise_a8", "func(x *float32, rec *byte, blocks int) (bad uint32)",
		"Records of blocks of 32 elements; bad is not 0 if one is not finite; portable form: quantiseBlock.")
	x, rec, count := pointer("x"), pointer("rec"), pointer("blocks")
	abs, order, badLanes := memory2(absMask), interleave2(), avx2.zero()
	Label("block")
	var v [4]VecVirtual
	m, t := YMM(), YMM()
	for j := range v {
		v[j] = avx2.loadAt(Mem{Base: x, Disp: 32 * j})
		if j == 0 {
			VPAND(abs, v[j], m)
			continue
		}
		VPAND(abs, v[j], t)
		VPMAXUD(m, t, m)
	}
	VPERM2I128(Imm(1), m, m, t)
	VPMAXUD(m, t, m)
	VPSHUFD(Imm(0x4e), m, t)
	VPMAXUD(m, t, m)
	VPSHUFD(Imm(0xb1), m, t)
	VPMAXUD(m, t, m) // amax in each lane
	over, ok := YMM(), YMM()
	VPCMPGTD(memory2(notFinite-1), m, over)
	VPOR(over, badLanes, badLanes)
	VPCMPGTD(memory2(tiny-1), m, ok)
	VPANDN(ok, over, ok)
	top, d, id := XMM(), XMM(), XMM()
	VMOVSS(memory2(0x42fe0000), top) // 127
	VDIVSS(top, m.AsX(), d)
	VDIVSS(m.AsX(), top, id)
	VPAND(ok.AsX(), d, d)
	scale := YMM()
	VBROADCASTSS(id, scale)
	VPAND(ok, scale, scale)
	for j := range v {
		VMULPS(scale, v[j], v[j])
		VCVTPS2DQ(v[j], v[j])
		VPAND(ok, v[j], v[j]) // NaN has become a number
	}
	first, second := YMM(), YMM()
	VPADDD(v[0], v[1], first)
	VPADDD(v[2], v[3], second)
	VPHADDD(second, first, first)
	halves := XMM()
	VEXTRACTI128(Imm(1), first, halves)
	VPADDD(first.AsX(), halves, halves) // two lanes of each half
	VPHADDD(halves, halves, halves)
	VPACKSSDW(v[1], v[0], v[0])
	VPACKSSDW(v[3], v[2], v[2])
	VPACKSSWB(v[2], v[0], v[0])
	VPERMD(v[0], order, v[0])
	VMOVDQU(v[0], Mem{Base: rec})
	storeTerms(rec, halves, d)
	ADDQ(U32(128), x)
	ADDQ(Imm(recordBytes), rec)
	DECQ(count)
	JNZ(LabelRef("block"))
	r := GP32()
	VPMOVMSKB(badLanes, r)
	Store(r, Return("bad"))
	VZEROUPPER()
	RET()
}

// interleave2 gives the order 0 4 1 5 2 6 3 7, which undoes the packing of
// 128-bit halves.
func interleave2() VecVirtual {
	r, x, y := GP64(), XMM(), YMM()
	MOVQ(U64(0x0703060205010400), r)
	VMOVQ(r, x)
	VPMOVZXBD(x, y)
	return y
}
