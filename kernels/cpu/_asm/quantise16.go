package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// quantise16 emits the quantiser of 16-bit activations, whose numbers are kept
// as two planes of bytes. It works in vectors of 8 lanes on every tier.
func quantise16(i isa) {
	i.text("quantise_a16", "func(x *float32, rec *byte, blocks int) (bad uint32)",
		"Records of two planes of blocks of 32 elements; bad is not 0 if one is not finite; portable form: quantiseBlock.")
	x, rec, count := pointer("x"), pointer("rec"), pointer("blocks")
	order, badLanes := interleave2(), avx2.zero()
	Label("block")
	var v, high [4]VecVirtual
	m, t := YMM(), YMM()
	for j := range v {
		v[j] = avx2.loadAt(Mem{Base: x, Disp: 32 * j})
		if j == 0 {
			VPAND(memory2(absMask), v[j], m)
			continue
		}
		VPAND(memory2(absMask), v[j], t)
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
	VMOVSS(memory2(0x467efc00), top) // 16319
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
		// v becomes ((q+64) & 127) - 64, high (q-v)/128.
		high[j] = YMM()
		VPADDD(memory2(64), v[j], t)
		VPSRAD(Imm(7), t, high[j])
		VPAND(memory2(127), t, t)
		VPSUBD(memory2(64), t, v[j])
	}
	low, up, total := sums16(v), sums16(high), XMM()
	VPSLLD(Imm(7), up, total)
	VPADDD(low, total, total)
	for line, plane := range [][4]VecVirtual{v, high} {
		VPACKSSDW(plane[1], plane[0], plane[0])
		VPACKSSDW(plane[3], plane[2], plane[2])
		VPACKSSWB(plane[2], plane[0], plane[0])
		VPERMD(plane[0], order, plane[0])
		VMOVDQU(plane[0], Mem{Base: rec, Disp: recordBytes * line})
	}
	storeFactors(rec, total, d)
	storeCorrections(rec, 0, low)
	storeCorrections(rec, recordBytes, up)
	ADDQ(U32(128), x)
	ADDQ(U32(2*recordBytes), rec)
	DECQ(count)
	JNZ(LabelRef("block"))
	r := GP32()
	VPMOVMSKB(badLanes, r)
	Store(r, Return("bad"))
	VZEROUPPER()
	RET()
}

// sums16 gives the sums of the first and the last 16 numbers in lanes 0 and 1.
func sums16(v [4]VecVirtual) VecVirtual {
	first, second, halves := YMM(), YMM(), XMM()
	VPADDD(v[0], v[1], first)
	VPADDD(v[2], v[3], second)
	VPHADDD(second, first, first)
	VEXTRACTI128(Imm(1), first, halves)
	VPADDD(first.AsX(), halves, halves)
	VPHADDD(halves, halves, halves)
	return halves
}

// storeFactors writes d and what it makes of the sums of both halves.
func storeFactors(rec GPVirtual, halves, d VecVirtual) {
	total, v, wide := XMM(), XMM(), XMM()
	VPHADDD(halves, halves, total) // lane 0: sum of all
	VMOVD(d, Mem{Base: rec, Disp: recD})
	VCVTDQ2PS(total, v)
	VMULSS(d, v, v)
	VMOVD(v, Mem{Base: rec, Disp: recS})
	VBROADCASTSS(d, wide)
	VCVTDQ2PS(halves, v)
	VMULPS(wide, v, v)
	VMOVQ(v, Mem{Base: rec, Disp: recSHalf})
}

// storeCorrections writes the multiples of a plane's sums that start the
// accumulators of weights with an offset.
func storeCorrections(rec GPVirtual, line int, halves VecVirtual) {
	total, zero, n := XMM(), XMM(), XMM()
	VPHADDD(halves, halves, total)
	VPXOR(zero, zero, zero)
	for _, c := range []struct{ shift, at int }{{3, recSum8}, {7, recSum128}} {
		VPSLLD(Imm(uint64(c.shift)), total, n)
		VPSUBD(n, zero, n)
		VMOVD(n, Mem{Base: rec, Disp: line + c.at})
	}
	VPSLLD(Imm(5), halves, n)
	VPSUBD(n, zero, n)
	VMOVQ(n, Mem{Base: rec, Disp: line + recSum32})
}
