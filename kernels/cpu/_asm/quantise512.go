package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// quantise512 emits the quantiser of 8-bit activations.
func quantise512() {
	TEXT("quantise_a8_avx512vnni", attr.NOSPLIT, "func(x *float32, rec *byte, blocks int) (bad uint32)")
	Doc("Records of blocks of 32 elements; bad is not 0 if one is not finite; portable form: quantiseBlock.")
	Pragma("noescape")
	x, rec, count := pointer("x"), pointer("rec"), pointer("blocks")
	abs, ones := constant512(absMask), constant512(0x01010101)
	top := constant512(0x42fe0000) // 127
	least, limit := constant512(tiny), constant512(notFinite)
	span := constant512(notFinite - tiny)
	bad, ok := K(), K()
	KXORW(bad, bad, bad)
	Label("block")
	a, b, m, t := ZMM(), ZMM(), ZMM(), ZMM()
	VMOVUPS(Mem{Base: x}, a)
	VMOVUPS(Mem{Base: x, Disp: 64}, b)
	VPANDD(a, abs, m)
	VPANDD(b, abs, t)
	VPMAXUD(m, t, m)
	maxAcross(m, t)
	over := K()
	VPCMPUD(Imm(cmpGreaterEqual), limit, m, over)
	KORW(over, bad, bad)
	VPSUBD(least, m, t)
	VPCMPUD(Imm(cmpLess), span, t, ok) // 2^-40 <= amax, finite
	d, id := XMM(), XMM()
	VDIVSS(top.AsX(), m.AsX(), d)
	VDIVSS(m.AsX(), top.AsX(), id)
	VMOVAPS_Z(d, ok, d)
	VMOVAPS_Z(id, ok, id)
	scale := ZMM()
	VBROADCASTSS(id, scale)
	VMULPS(scale, a, a)
	VMULPS(scale, b, b)
	VCVTPS2DQ(a, a)
	VCVTPS2DQ(b, b)
	lo, hi := XMM(), XMM()
	VPMOVDB(a, lo)
	VPMOVDB(b, hi)
	VMOVDQU(lo, Mem{Base: rec})
	VMOVDQU(hi, Mem{Base: rec, Disp: 16})
	storeSums(rec, lo, hi, ones.AsX(), d)
	ADDQ(U32(128), x)
	ADDQ(Imm(recordBytes), rec)
	DECQ(count)
	JNZ(LabelRef("block"))
	r := GP32()
	KMOVW(bad, r)
	Store(r, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// maxAcross leaves the unsigned maximum of all lanes in each.
func maxAcross(m, t VecVirtual) {
	VSHUFI32X4(Imm(0x4e), m, m, t)
	VPMAXUD(m, t, m)
	VSHUFI32X4(Imm(0xb1), m, m, t)
	VPMAXUD(m, t, m)
	VPSHUFD(Imm(0x4e), m, t)
	VPMAXUD(m, t, m)
	VPSHUFD(Imm(0xb1), m, t)
	VPMAXUD(m, t, m)
}

// storeSums writes all of the record that follows q.
func storeSums(rec GPVirtual, lo, hi, ones, d Register) {
	halves, second := XMM(), XMM()
	VPXOR(halves, halves, halves)
	VPXOR(second, second, second)
	VPDPBUSD(lo, ones, halves)
	VPDPBUSD(hi, ones, second)
	VPHADDD(second, halves, halves)
	VPHADDD(halves, halves, halves)
	storeTerms(rec, halves, d)
}

// storeTerms writes d and what follows from the sums of both halves, which are
// lanes 0 and 1.
func storeTerms(rec GPVirtual, halves VecVirtual, d Register) {
	total, zero, v := XMM(), XMM(), XMM()
	VPHADDD(halves, halves, total) // lane 0: sum of all
	VPXOR(zero, zero, zero)
	VMOVD(d, Mem{Base: rec, Disp: recD})
	VCVTDQ2PS(total, v)
	VMULSS(d, v, v)
	VMOVD(v, Mem{Base: rec, Disp: recS})
	for _, c := range []struct{ shift, at int }{{3, recSum8}, {7, recSum128}} {
		n := XMM()
		VPSLLD(Imm(uint64(c.shift)), total, n)
		VPSUBD(n, zero, n)
		VMOVD(n, Mem{Base: rec, Disp: c.at})
	}
	n, wide := XMM(), XMM()
	VPSLLD(Imm(5), halves, n)
	VPSUBD(n, zero, n)
	VMOVQ(n, Mem{Base: rec, Disp: recSum32})
	VBROADCASTSS(d, wide)
	VCVTDQ2PS(halves, n)
	VMULPS(wide, n, n)
	VMOVQ(n, Mem{Base: rec, Disp: recSHalf})
}
