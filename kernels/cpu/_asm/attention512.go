package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// scoreStride is the distance of two queries' scores: a chunk of 256 positions.
const scoreStride = 1024

// blockPositions is the number of positions of a KV block.
const blockPositions = 16

func attention512() {
	for _, kv := range []string{"f16", "f32"} {
		scores512(kv)
		weigh512(kv)
	}
	soften512()
	toHalf512()
}

// loadKV reads 16 keys or values.
func loadKV(kv string, m Mem) VecVirtual {
	v := ZMM()
	if kv == "f16" {
		VCVTPH2PS(m, v)
	} else {
		VMOVUPS(m, v)
	}
	return v
}

func kvBytes(kv string) int {
	if kv == "f16" {
		return 2
	}
	return 4
}

// inTiles emits body for tiles of queries, the widest first, until n are done.
func inTiles(name string, n GPVirtual, widths []int, body func(width int)) {
	for _, w := range widths {
		loop, next := fmt.Sprintf("%s%d", name, w), fmt.Sprintf("%sBelow%d", name, w)
		Label(loop)
		CMPQ(n, Imm(uint64(w)))
		JLT(LabelRef(next))
		body(w)
		SUBQ(Imm(uint64(w)), n)
		JMP(LabelRef(loop))
		Label(next)
	}
}

func scores512(kv string) {
	TEXT("scores_"+kv+"_avx512vnni", attr.NOSPLIT, "func(q *float32, keys *byte, out *float32, n, dim int)")
	Doc("Products of n queries with the keys of 16 positions; portable form: scoreBlock.")
	Pragma("noescape")
	q, keys, out, n, dim := pointer("q"), pointer("keys"), pointer("out"), pointer("n"), pointer("dim")
	x := tokenPointers{base: [2]GPVirtual{GP64(), GP64()}, stride: GP64(), three: GP64()}
	MOVQ(dim, x.stride)
	SHLQ(Imm(2), x.stride)
	LEAQ(Mem{Base: x.stride, Index: x.stride, Scale: 2}, x.three)
	k, left := GP64(), GP64()
	inTiles("queries", n, []int{8, 4, 3, 2, 1}, func(width int) {
		MOVQ(q, x.base[0])
		if width > 4 {
			LEAQ(Mem{Base: q, Index: x.stride, Scale: 4}, x.base[1])
		}
		MOVQ(keys, k)
		MOVQ(dim, left)
		var acc []VecVirtual
		for range width {
			v := ZMM()
			VPXORD(v, v, v)
			acc = append(acc, v)
		}
		loop := fmt.Sprintf("dimension%d", width)
		Label(loop)
		v := loadKV(kv, Mem{Base: k})
		for t := range width {
			VFMADD231PS_BCST(x.at(t, 0), v, acc[t])
		}
		ADDQ(Imm(uint64(blockPositions*kvBytes(kv))), k)
		x.advance(4, width)
		DECQ(left)
		JNZ(LabelRef(loop))
		for t := range width {
			VMOVUPS(acc[t], Mem{Base: out, Disp: scoreStride * t})
			ADDQ(x.stride, q)
		}
		ADDQ(U32(uint32(scoreStride*width)), out)
	})
	VZEROUPPER()
	RET()
}

func weigh512(kv string) {
	TEXT("weigh_"+kv+"_avx512vnni", attr.NOSPLIT, "func(p *float32, values *byte, o *float32, positions, n, dim int)")
	Doc("Adds p times the values of some positions of a block to n sums of dim elements, a multiple of 16; portable form: weighHalves.")
	Pragma("noescape")
	p, values, o := pointer("p"), pointer("values"), pointer("o")
	positions, n, dim := pointer("positions"), pointer("n"), pointer("dim")
	row := GP64() // bytes of a position's values
	MOVQ(dim, row)
	SHLQ(Imm(uint64(kvBytes(kv)/2)), row)
	at := tokenPointers{base: [2]GPVirtual{GP64()}, stride: GP64(), three: GP64()}
	MOVQ(dim, at.stride)
	SHLQ(Imm(2), at.stride)
	LEAQ(Mem{Base: at.stride, Index: at.stride, Scale: 2}, at.three)
	column, left := GP64(), GP64()
	inTiles("queries", n, []int{4, 3, 2, 1}, func(width int) {
		MOVQ(o, at.base[0])
		MOVQ(values, column)
		MOVQ(dim, left)
		inTiles(fmt.Sprintf("slice%d_", width), left, []int{64, 16}, func(elements int) {
			weighSlice(kv, p, column, row, positions, at, width, elements/16, fmt.Sprintf("position%d_%d", width, elements))
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

// weighSlice adds all positions to a slice of the sums of some queries.
func weighSlice(kv string, p, column, row, positions GPVirtual, at tokenPointers, queries, vectors int, loop string) {
	var sums []VecVirtual
	for t := range queries {
		for j := range vectors {
			v := ZMM()
			VMOVUPS(at.at(t, 64*j), v)
			sums = append(sums, v)
		}
	}
	weight, value, left := GP64(), GP64(), GP64()
	MOVQ(p, weight)
	MOVQ(column, value)
	MOVQ(positions, left)
	Label(loop)
	for j := range vectors {
		v := loadKV(kv, Mem{Base: value, Disp: 16 * kvBytes(kv) * j})
		for t := range queries {
			VFMADD231PS_BCST(Mem{Base: weight, Disp: scoreStride * t}, v, sums[t*vectors+j])
		}
	}
	ADDQ(Imm(4), weight)
	ADDQ(row, value)
	DECQ(left)
	JNZ(LabelRef(loop))
	for t := range queries {
		for j := range vectors {
			VMOVUPS(sums[t*vectors+j], at.at(t, 64*j))
		}
	}
}

func soften512() {
	TEXT("soften_avx512vnni", attr.NOSPLIT, "func(s *float32, lo, hi int, scale float32) (maximum, sum float32, bad uint32)")
	Doc("Softmax of positions lo..hi-1 of a chunk, lo < hi, without the division; portable form: softenScores.")
	Pragma("noescape")
	s, lo, hi := pointer("s"), pointer("lo"), pointer("hi")
	scale, scalar := ZMM(), XMM()
	Load(Param("scale"), scalar)
	VBROADCASTSS(scalar, scale)
	e, f, limit := avx512.exponential(), newFloor512(), constant512(notFinite)
	sixteen := constant512(16)
	// place - first < span selects the visible lanes.
	span, first, start := ZMM(), lanesFrom(lo), GP64()
	SUBQ(lo, hi)
	VPBROADCASTD(hi.As32(), span)
	ADDQ(lo, hi)
	MOVQ(lo, start)
	ANDQ(I8(-16), start)
	LEAQ(Mem{Base: s, Index: start, Scale: 4}, s)
	at, place, top, badLanes := GP64(), ZMM(), constant512(0xff800000), K()
	KXORW(badLanes, badLanes, badLanes)
	ptr := GP64()
	rewind := func() {
		MOVQ(start, at)
		MOVQ(s, ptr)
		VMOVDQA64(first, place)
	}
	next := func(loop string) {
		VPADDD(sixteen, place, place)
		ADDQ(Imm(64), ptr)
		ADDQ(Imm(16), at)
		CMPQ(at, hi)
		JLT(LabelRef(loop))
	}
	rewind()
	Label("largest")
	v, abs, seen, over := avx512.load(ptr), ZMM(), K(), K()
	VPCMPUD(Imm(cmpLess), span, place, seen)
	VMULPS(scale, v, v)
	f.apply(v)
	VPANDD(f.abs, v, abs)
	VPCMPUD(Imm(cmpGreaterEqual), limit, abs, seen, over)
	KORW(over, badLanes, badLanes)
	VMAXPS(v, top, seen, top)
	VMOVUPS(v, Mem{Base: ptr})
	next("largest")
	greatestAcross(top)
	sums := ZMM()
	VPXORD(sums, sums, sums)
	rewind()
	Label("exponentials")
	x := avx512.load(ptr)
	seen = K()
	VPCMPUD(Imm(cmpLess), span, place, seen)
	VSUBPS(top, x, x)
	y := e.apply(x)
	VMOVAPS_Z(y, seen, y)
	VADDPS(y, sums, sums)
	VMOVUPS(y, Mem{Base: ptr})
	next("exponentials")
	storeFloat(top.AsX(), "maximum")
	storeFloat(tree512(sums), "sum")
	r := GP32()
	KMOVW(badLanes, r)
	Store(r, Return("bad"))
	VZEROUPPER()
	RET()
}

// storeFloat returns lane 0. (Store would use an instruction that cannot name
// the upper sixteen registers.)
func storeFloat(x Register, name string) {
	b, err := Return(name).Resolve()
	if err != nil {
		panic(err)
	}
	r := GP32()
	VMOVD(x, r)
	MOVL(r, b.Addr)
}

// lanesFrom gives 0..15 plus lo rounded down to 16, minus lo.
func lanesFrom(lo GPVirtual) VecVirtual {
	r, x, z, minus := GP64(), XMM(), ZMM(), ZMM()
	MOVQ(U64(0x0706050403020100), r)
	VMOVQ(r, x)
	MOVQ(U64(0x0f0e0d0c0b0a0908), r)
	VPINSRQ(Imm(1), r, x, x)
	VPMOVZXBD(x, z)
	MOVQ(lo, r)
	ANDQ(I8(15), r)
	VPBROADCASTD(r.As32(), minus)
	VPSUBD(minus, z, z)
	return z
}

// greatestAcross leaves the largest lane in each.
func greatestAcross(m VecVirtual) {
	t := ZMM()
	VSHUFF32X4(Imm(0x4e), m, m, t)
	VMAXPS(m, t, m)
	VSHUFF32X4(Imm(0xb1), m, m, t)
	VMAXPS(m, t, m)
	VPERMILPS(Imm(0x4e), m, t)
	VMAXPS(m, t, m)
	VPERMILPS(Imm(0xb1), m, t)
	VMAXPS(m, t, m)
}

// tree512 sums the lanes in the contract's order.
func tree512(v VecVirtual) Register {
	y := YMM()
	VEXTRACTF64X4(Imm(1), v, y)
	VADDPS(y, v.AsY(), y)
	return tree256(y)
}

// tree256 is the rest of the tree, from 8 lanes on.
func tree256(y VecVirtual) Register {
	x, t := XMM(), XMM()
	VEXTRACTF128(Imm(1), y, x)
	VADDPS(x, y.AsX(), x)
	VPSHUFD(Imm(0x4e), x, t)
	VADDPS(t, x, x)
	VPSHUFD(Imm(0xb1), x, t)
	VADDPS(t, x, x)
	return x
}

// toHalf512 rounds to half precision; an infinity or NaN in the result shows
// as all bits of the exponent.
func toHalf512() {
	TEXT("toHalf_avx512vnni", attr.NOSPLIT, "func(dst *uint16, x *float32, n int) (bad uint32)")
	Doc("Halves nearest to x, n a multiple of 16; bad is not 0 if one is not finite; portable form: arith.F32ToF16.")
	Pragma("noescape")
	dst, x, n := pointer("dst"), pointer("x"), pointer("n")
	abs, limit, bad := constant512(absMask), constant512(halfOverflow), K()
	KXORW(bad, bad, bad)
	Label("vector")
	v, t, over := avx512.load(x), ZMM(), K()
	VPANDD(abs, v, t)
	VPCMPUD(Imm(cmpGreaterEqual), limit, t, over)
	KORW(over, bad, bad)
	VCVTPS2PH(Imm(0), v, Mem{Base: dst})
	ADDQ(Imm(64), x)
	ADDQ(Imm(32), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("vector"))
	r := GP32()
	KMOVW(bad, r)
	Store(r, Return("bad"))
	VZEROUPPER()
	RET()
}
