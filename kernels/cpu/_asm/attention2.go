package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func attention2() {
	for _, kv := range []string{"f16", "f32"} {
		scores2(kv)
		weigh2(kv)
	}
	soften2()
	toHalf2()
}

// loadKV2 reads 8 keys or values.
func loadKV2(kv string, m Mem) VecVirtual {
	v := YMM()
	if kv == "f16" {
		VCVTPH2PS(m, v)
	} else {
		VMOVUPS(m, v)
	}
	return v
}

func scores2(kv string) {
	avx2.text("scores_"+kv, "func(q *float32, keys *byte, out *float32, n, dim int)",
		"Products of n queries with the keys of 16 positions; portable form: scoreBlock.")
	q, keys, out, n, dim := pointer("q"), pointer("keys"), pointer("out"), pointer("n"), pointer("dim")
	x := tokenPointers{base: [2]GPVirtual{GP64()}, stride: GP64(), three: GP64()}
	MOVQ(dim, x.stride)
	SHLQ(Imm(2), x.stride)
	LEAQ(Mem{Base: x.stride, Index: x.stride, Scale: 2}, x.three)
	k, left := GP64(), GP64()
	inTiles("queries", n, []int{4, 3, 2, 1}, func(width int) {
		MOVQ(q, x.base[0])
		MOVQ(keys, k)
		MOVQ(dim, left)
		var acc []VecVirtual
		for range 2 * width {
			acc = append(acc, avx2.zero())
		}
		loop := fmt.Sprintf("dimension%d", width)
		Label(loop)
		lo, hi := loadKV2(kv, Mem{Base: k}), loadKV2(kv, Mem{Base: k, Disp: 8 * kvBytes(kv)})
		for t := range width {
			b := YMM()
			VBROADCASTSS(x.at(t, 0), b)
			VFMADD231PS(b, lo, acc[2*t])
			VFMADD231PS(b, hi, acc[2*t+1])
		}
		ADDQ(Imm(uint64(blockPositions*kvBytes(kv))), k)
		x.advance(4, width)
		DECQ(left)
		JNZ(LabelRef(loop))
		for t := range width {
			VMOVUPS(acc[2*t], Mem{Base: out, Disp: scoreStride * t})
			VMOVUPS(acc[2*t+1], Mem{Base: out, Disp: scoreStride*t + 32})
			ADDQ(x.stride, q)
		}
		ADDQ(U32(uint32(scoreStride*width)), out)
	})
	VZEROUPPER()
	RET()
}

func weigh2(kv string) {
	avx2.text("weigh_"+kv, "func(p *float32, values *byte, o *float32, positions, n, dim int)",
		"Adds p times the values of some positions of a block to n sums of dim elements, a multiple of 16; portable form: weighHalves.")
	p, values, o := pointer("p"), pointer("values"), pointer("o")
	positions, n, dim := pointer("positions"), pointer("n"), pointer("dim")
	row := GP64() // bytes of a position's values
	MOVQ(dim, row)
	SHLQ(Imm(uint64(kvBytes(kv)/2)), row)
	at := tokenPointers{base: [2]GPVirtual{GP64()}, stride: GP64()}
	MOVQ(dim, at.stride)
	SHLQ(Imm(2), at.stride)
	column, left := GP64(), GP64()
	inTiles("queries", n, []int{2, 1}, func(width int) {
		MOVQ(o, at.base[0])
		MOVQ(values, column)
		MOVQ(dim, left)
		inTiles(fmt.Sprintf("slice%d_", width), left, []int{32, 16}, func(elements int) {
			weighSlice2(kv, p, column, row, positions, at, width, elements/8, fmt.Sprintf("position%d_%d", width, elements))
			ADDQ(U32(uint32(elements*4)), at.base[0])
			ADDQ(U32(uint32(elements*kvBytes(kv))), column)
		})
		for range width {
			ADDQ(at.stride, o)
		}
		ADDQ(U32(uint32(scoreStride*width)), p)
	})
	VZEROUPPER()
	RET()
}

// weighSlice2 adds all positions to a slice of the sums of some queries.
func weighSlice2(kv string, p, column, row, positions GPVirtual, at tokenPointers, queries, vectors int, loop string) {
	var sums []VecVirtual
	for t := range queries {
		for j := range vectors {
			sums = append(sums, avx2.loadAt(at.at(t, 32*j)))
		}
	}
	weight, value, left := GP64(), GP64(), GP64()
	MOVQ(p, weight)
	MOVQ(column, value)
	MOVQ(positions, left)
	Label(loop)
	var b []VecVirtual
	for t := range queries {
		b = append(b, YMM())
		VBROADCASTSS(Mem{Base: weight, Disp: scoreStride * t}, b[t])
	}
	for j := range vectors {
		v := loadKV2(kv, Mem{Base: value, Disp: 8 * kvBytes(kv) * j})
		for t := range queries {
			VFMADD231PS(b[t], v, sums[t*vectors+j])
		}
	}
	ADDQ(Imm(4), weight)
	ADDQ(row, value)
	DECQ(left)
	JNZ(LabelRef(loop))
	for t := range queries {
		for j := range vectors {
			VMOVUPS(sums[t*vectors+j], at.at(t, 32*j))
		}
	}
}

// soften2 takes 16 positions a turn, in two vectors, as the sum has 16 lanes.
func soften2() {
	avx2.text("soften", "func(s *float32, lo, hi int, scale float32) (maximum, sum float32, bad uint32)",
		"Softmax of positions lo..hi-1 of a chunk, lo < hi, without the division; portable form: softenScores.")
	s, lo, hi := pointer("s"), pointer("lo"), pointer("hi")
	scale, e, floor := avx2.argument("scale"), avx2.exponential(), avx2.floor()
	// 0 <= place < span selects the visible lanes.
	first, span, start, r := placesFrom2(lo), YMM(), GP64(), GP64()
	MOVQ(hi, r)
	SUBQ(lo, r)
	x := XMM()
	VMOVD(r.As32(), x)
	VPBROADCASTD(x, span)
	MOVQ(lo, start)
	ANDQ(I8(-16), start)
	LEAQ(Mem{Base: s, Index: start, Scale: 4}, s)
	at, ptr, place := GP64(), GP64(), YMM()
	top, badLanes := YMM(), avx2.zero()
	VMOVUPS(memory2(0xff800000), top)
	turn := func(loop string, body func(half int, seen VecVirtual)) {
		MOVQ(start, at)
		MOVQ(s, ptr)
		VMOVDQA(first, place)
		Label(loop)
		for half := range 2 {
			seen, t := YMM(), YMM()
			VPCMPGTD(place, span, seen)
			VPCMPGTD(memory2(0xffffffff), place, t)
			VPAND(t, seen, seen)
			body(half, seen)
			VPADDD(memory2(8), place, place)
		}
		ADDQ(Imm(64), ptr)
		ADDQ(Imm(16), at)
		CMPQ(at, hi)
		JLT(LabelRef(loop))
	}
	turn("largest", func(half int, seen VecVirtual) {
		m, t := Mem{Base: ptr, Disp: 32 * half}, YMM()
		v := avx2.loadAt(m)
		VMULPS(scale, v, v)
		floor(v)
		VMOVUPS(v, m)
		VPAND(memory2(absMask), v, t)
		VPCMPGTD(memory2(notFinite-1), t, t)
		VPAND(seen, t, t)
		VPOR(t, badLanes, badLanes)
		VBLENDVPS(seen, v, top, t)
		VMAXPS(t, top, top)
	})
	greatestAcross2(top)
	sums := []VecVirtual{avx2.zero(), avx2.zero()}
	turn("exponentials", func(half int, seen VecVirtual) {
		m := Mem{Base: ptr, Disp: 32 * half}
		v := avx2.loadAt(m)
		VSUBPS(top, v, v)
		y := e.apply(v)
		VPAND(seen, y, y)
		VADDPS(y, sums[half], sums[half])
		VMOVUPS(y, m)
	})
	storeFloat(top.AsX(), "maximum")
	VADDPS(sums[1], sums[0], sums[0])
	storeFloat(tree256(sums[0]), "sum")
	VPMOVMSKB(badLanes, r.As32())
	Store(r.As32(), Return("bad"))
	VZEROUPPER()
	RET()
}

// placesFrom2 gives 0..7 plus lo rounded down to 16, minus lo.
func placesFrom2(lo GPVirtual) VecVirtual {
	r, x, y, minus := GP64(), XMM(), YMM(), YMM()
	MOVQ(U64(0x0706050403020100), r)
	VMOVQ(r, x)
	VPMOVZXBD(x, y)
	MOVQ(lo, r)
	ANDQ(I8(15), r)
	VMOVD(r.As32(), x)
	VPBROADCASTD(x, minus)
	VPSUBD(minus, y, y)
	return y
}

// greatestAcross2 leaves the largest lane in each.
func greatestAcross2(m VecVirtual) {
	t := YMM()
	VPERM2F128(Imm(1), m, m, t)
	VMAXPS(m, t, m)
	VPERMILPS(Imm(0x4e), m, t)
	VMAXPS(m, t, m)
	VPERMILPS(Imm(0xb1), m, t)
	VMAXPS(m, t, m)
}

// toHalf2 is toHalf512 for AVX2.
func toHalf2() {
	avx2.text("toHalf", "func(dst *uint16, x *float32, n int) (bad uint32)",
		"Halves nearest to x, n a multiple of 16; bad is not 0 if one is not finite; portable form: arith.F32ToF16.")
	dst, x, n := pointer("dst"), pointer("x"), pointer("n")
	badLanes := avx2.zero()
	Label("vector")
	v, t := avx2.load(x), YMM()
	VPAND(memory2(absMask), v, t)
	VPCMPGTD(memory2(halfOverflow-1), t, t)
	VPOR(t, badLanes, badLanes)
	VCVTPS2PH(Imm(0), v, Mem{Base: dst})
	ADDQ(Imm(32), x)
	ADDQ(Imm(16), dst)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("vector"))
	r := GP32()
	VPMOVMSKB(badLanes, r)
	Store(r, Return("bad"))
	VZEROUPPER()
	RET()
}
