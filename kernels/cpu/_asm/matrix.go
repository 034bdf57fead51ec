package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The products with matrix tiles read both factors in a form of their own.
//
// Weights: a block of a group is 512 bytes of signed integers, 16 rows by 4
// columns in each 64, then the scales of its sub-blocks as f32 and, in types
// that have them, their minimums, with their signs.
//
// Activations: a block of 16 tokens is 512 bytes of a plane's integers, 32 of
// each token, then the other plane if there is one, then four times 16 floats:
// d, s, and the s of both halves.
const (
	panelBytes   = 512
	panelD       = 0
	panelS       = 64
	panelSHalf   = 128
	panelScalars = 256
)

// unpacked gives the bytes of a block of weights in the form above.
func (f form) unpacked() int {
	n := panelBytes + 64*f.halves
	if f.min {
		n += 64 * f.halves
	}
	return n
}

// unpackers emits what brings weights and activations into the form above.
func unpackers() {
	for _, f := range forms {
		unpacker(f)
	}
	for planes := 1; planes <= 2; planes++ {
		spreader(planes)
	}
}

// unpacker emits the unpacking of a group.
func unpacker(f form) {
	TEXT(fmt.Sprintf("unpack_%s_avx512vnni", f.name), attr.NOSPLIT, "func(q, s, dst *byte, blocks int)")
	Doc(fmt.Sprintf("Weights of 16 rows of %s for matrix tiles; portable form: matrix.unpack.", f.name))
	Pragma("noescape")
	m := newMul(f, 1, 1, 1)
	m.q, m.s = []GPVirtual{pointer("q")}, []GPVirtual{pointer("s")}
	dst, left, count := pointer("dst"), pointer("blocks"), GP64()
	m.constants()
	u := unpacking{mul: m, dst: dst}
	if f.offset > 0 {
		u.offset = constant512(uint32(f.offset) * 0x01010101)
	}
	if f.min && f.super > 0 {
		u.sign = constant512(0x80000000)
	}
	Label("segment")
	MOVQ(U32(segmentBlocks), count)
	CMPQ(left, count)
	CMOVQLT(left, count)
	SUBQ(count, left)
	m.loadSuper()
	Label("block")
	m.prefetch()
	for h := range f.halves {
		u.quants(h)
		u.scales(h)
	}
	ADDQ(U32(uint32(f.quants)), m.q[0])
	ADDQ(Imm(uint64(f.scales)), m.s[0])
	ADDQ(U32(uint32(f.unpacked())), dst)
	DECQ(count)
	JNZ(LabelRef("block"))
	TESTQ(left, left)
	JNZ(LabelRef("segment"))
	VZEROUPPER()
	RET()
}

// unpacking is an unpacker at work.
type unpacking struct {
	*mul
	dst          GPVirtual
	offset, sign VecVirtual
}

// put stores columns 4i to 4i+3 as signed integers.
func (u unpacking) put(i int, v VecVirtual) {
	if u.form.offset > 0 {
		to := ZMM()
		VPSUBB(u.offset, v, to)
		v = to
	}
	VMOVDQU64(v, Mem{Base: u.dst, Disp: 64 * i})
}

func (u unpacking) quants(h int) {
	u.loadHigh(h)
	if u.halves == 2 {
		for j := range 4 {
			u.put(4*h+j, u.quad(0, h, j))
		}
		return
	}
	for j := range u.vectors() {
		word := u.load(0, 64*j)
		if u.low == 8 {
			u.put(j, word)
			continue
		}
		u.put(j, u.nibbles(word, 0, 0, j))
		u.put(4+j, u.nibbles(word, 0, 1, j))
	}
}

func (u unpacking) scales(h int) {
	scale, minimum, negative := u.scale(0, h)
	VMOVUPS(scale, Mem{Base: u.dst, Disp: panelBytes + 64*h})
	if !u.min {
		return
	}
	if negative {
		VPXORD(u.sign, minimum, minimum)
	}
	VMOVUPS(minimum, Mem{Base: u.dst, Disp: panelBytes + 64*(u.halves+h)})
}

// spreader emits the copy of a token's records to its place among 16 tokens.
func spreader(planes int) {
	TEXT(fmt.Sprintf("spread_a%d_avx512vnni", 8*planes), attr.NOSPLIT, "func(rec, q, d *byte, blocks int)")
	Doc(fmt.Sprintf("A token's records of %d-bit activations for matrix tiles: integers to q, factors to d; portable form: spreadPortable.", 8*planes))
	Pragma("noescape")
	rec, q, d, count := pointer("rec"), pointer("q"), pointer("d"), pointer("blocks")
	Label("block")
	for p := range planes {
		v := YMM()
		VMOVDQU(Mem{Base: rec, Disp: recordBytes * p}, v)
		VMOVDQU(v, Mem{Base: q, Disp: panelBytes * p})
	}
	for i, pair := range []int{recD, recSHalf} {
		r := GP64()
		MOVQ(Mem{Base: rec, Disp: pair}, r)
		MOVL(r.As32(), Mem{Base: d, Disp: 128 * i})
		SHRQ(Imm(32), r)
		MOVL(r.As32(), Mem{Base: d, Disp: 128*i + 64})
	}
	ADDQ(U32(uint32(recordBytes*planes)), rec)
	ADDQ(U32(uint32(panelBytes*planes+panelScalars)), q)
	ADDQ(U32(uint32(panelBytes*planes+panelScalars)), d)
	DECQ(count)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// matrixProducts emits a kernel for each shape of sub-blocks and precision of
// activations.
func matrixProducts() {
	for planes := 1; planes <= 2; planes++ {
		for halves := 1; halves <= 2; halves++ {
			for _, min := range []bool{false, true} {
				(&matrixProduct{form: form{halves: halves, min: min}, planes: planes}).emit()
			}
		}
	}
}

// panelTokens is the number of tokens whose activations fill a tile.
const panelTokens = 16

// Tiles of the products: up to four of sums, and two of each factor.
const (
	sumTile    tmm = 0
	actTile    tmm = 4
	weightTile tmm = 6
)

// matrixProduct is a kernel at work. Two things run side by side, over the
// blocks of a group and a panel of tokens, of the next group, and so on: tiles
// sum integer products, two blocks ahead, and vectors add the terms of a block to
// the chains of 16 rows by 16 tokens.
type matrixProduct struct {
	form
	planes int

	w, x, left, turns  GPVirtual // tiles: factors, blocks of the group left, of all
	fw, fx, fleft, seg GPVirtual // chains: factors, blocks of the group left, of the segment
	sums, y            GPVirtual
	rows32, rows64     GPVirtual // distances of a tile's rows
	chain              []VecVirtual
	round              VecVirtual // 1.5*2^23, as an integer and as a float
	keep               Register   // mask: all lanes if there are totals of segments before
	tileGroups         Mem        // groups left for the tokens at hand, of the tiles
	chainGroups        Mem        // and of the chains
	tokensLeft         Mem
}

// name tells the shape: sub-blocks of a block, minimum, bits.
func (m *matrixProduct) name() string {
	minimum := ""
	if m.min {
		minimum = "m"
	}
	return fmt.Sprintf("product_h%d%s_a%d_amx", m.halves, minimum, 8*m.planes)
}

// panel is the size of a block of activations, slot that of a block of sums.
// The totals of segments lie behind the two slots.
func (m *matrixProduct) panel() int  { return panelBytes*m.planes + panelScalars }
func (m *matrixProduct) slot() int   { return 1024 * m.planes * m.halves }
func (m *matrixProduct) totals() int { return 8 * 1024 }

func (m *matrixProduct) emit() {
	TEXT(m.name(), attr.NOSPLIT, "func(w, x *byte, xStride int, y *float32, yStride int, blocks, groups, tokens int, room *byte)")
	Doc("Products with matrix tiles of groups of 16 rows, whose unpacked weights lie in a row, with tokens; portable form: matmulTask.portable.")
	Pragma("noescape")
	config := tileConfig(m.name()+"_tiles", m.shapes())
	r := GP64()
	LEAQ(config, r)
	LDTILECFG(Mem{Base: r})
	m.begin()
	warm := GP64()
	MOVQ(U32(2), warm)
	Label("turn")
	m.store()
	DECQ(m.turns)
	JS(LabelRef("chains"))
	m.tiles()
	Label("chains")
	DECQ(warm)
	JGE(LabelRef("next"))
	for h := range m.halves {
		m.extend(h)
	}
	ADDQ(U32(uint32(m.unpacked())), m.fw)
	ADDQ(U32(uint32(m.panel())), m.fx)
	DECQ(m.seg)
	JNZ(LabelRef("next"))
	m.fold()
	Label("next")
	XORQ(U32(uint32(m.slot())), m.sums)
	JMP(LabelRef("turn"))
	Label("done")
	TILERELEASE()
	VZEROUPPER()
	RET()
}

// shapes gives rows and bytes of a row of the tiles.
func (m *matrixProduct) shapes() (s [][2]int) {
	for range 4 {
		s = append(s, [2]int{panelTokens, 64})
	}
	a, b := [2]int{panelTokens, 32 / m.halves}, [2]int{8 / m.halves, 64}
	return append(s, a, a, b, b)
}

func (m *matrixProduct) begin() {
	m.w, m.x, m.left = pointer("w"), pointer("x"), pointer("blocks")
	m.fw, m.fx, m.fleft, m.seg = pointer("w"), pointer("x"), pointer("blocks"), GP64()
	m.sums, m.y = pointer("room"), pointer("y")
	m.rows32, m.rows64 = GP64(), GP64()
	MOVQ(U32(32), m.rows32)
	MOVQ(U32(64), m.rows64)
	locals := AllocLocal(24)
	m.tileGroups, m.chainGroups, m.tokensLeft = locals, locals.Offset(8), locals.Offset(16)
	groups := pointer("groups")
	MOVQ(groups, m.tileGroups)
	MOVQ(groups, m.chainGroups)
	m.turns = pointer("tokens")
	MOVQ(m.turns, m.tokensLeft)
	ADDQ(Imm(panelTokens-1), m.turns)
	SHRQ(Imm(4), m.turns)
	IMULQ(groups, m.turns)
	IMULQ(m.left, m.turns)
	for range panelTokens {
		m.chain = append(m.chain, ZMM())
	}
	if m.planes == 1 {
		m.round = constant512(0x4b400000)
	}
	m.keep = K()
	m.nextSegment()
	KXORW(m.keep, m.keep, m.keep)
}

// nextSegment begins new chains of up to 8 blocks.
func (m *matrixProduct) nextSegment() {
	MOVQ(U32(segmentBlocks), m.seg)
	CMPQ(m.fleft, m.seg)
	CMOVQLT(m.fleft, m.seg)
	SUBQ(m.seg, m.fleft)
	for _, v := range m.chain {
		VPXORD(v, v, v)
	}
}

// eachSum visits the tiles of sums of a block: by sub-block and plane.
func (m *matrixProduct) eachSum(visit func(t tmm, at, h, p int)) {
	for h := range m.halves {
		for p := range m.planes {
			i := h*m.planes + p
			visit(sumTile+tmm(i), 1024*i, h, p)
		}
	}
}

// store writes the sums of the block after the chains' to the other slot.
func (m *matrixProduct) store() {
	other := GP64()
	MOVQ(m.sums, other)
	XORQ(U32(uint32(m.slot())), other)
	m.eachSum(func(t tmm, at, _, _ int) {
		TILESTORED(t, Mem{Base: other, Index: m.rows64, Scale: 1, Disp: at})
	})
}

// tiles begins the sums of the block after that.
func (m *matrixProduct) tiles() {
	m.eachSum(func(t tmm, _, h, p int) {
		if p == 0 {
			TILELOADD(Mem{Base: m.w, Index: m.rows64, Scale: 1, Disp: panelBytes / 2 * h}, weightTile+tmm(h))
		}
		a := actTile + tmm((h*m.planes+p)%2)
		TILELOADD(Mem{Base: m.x, Index: m.rows32, Scale: 1, Disp: panelBytes*p + 16*h}, a)
		TILEZERO(t)
		TDPBSSD(weightTile+tmm(h), a, t)
	})
	ADDQ(U32(uint32(m.unpacked())), m.w)
	ADDQ(U32(uint32(m.panel())), m.x)
	DECQ(m.left)
	JNZ(LabelRef("chains"))
	m.restart(m.left, m.x)
	DECQ(m.tileGroups)
	JNZ(LabelRef("chains"))
	m.nextTokens(m.w, m.x, m.tileGroups)
}

// restart counts a group's blocks anew and takes x back to the first.
func (m *matrixProduct) restart(left, x GPVirtual) {
	Load(Param("blocks"), left)
	r := GP64()
	IMUL3Q(U32(uint32(m.panel())), left, r)
	SUBQ(r, x)
}

// nextTokens turns to the first group again, and to the next tokens.
func (m *matrixProduct) nextTokens(w, x GPVirtual, groups Mem) {
	Load(Param("w"), w)
	r := pointer("xStride")
	ADDQ(r, x)
	r = pointer("groups")
	MOVQ(r, groups)
}

// extend adds the terms of sub-block h to the chains. While tiles are at work the
// second of two units for products and conversions of floats rests, but not that
// for sums: so most integers, which are less than 2^22 at 8 bits, become floats
// as the low bits of one, from which the rest is taken. How many was measured.
func (m *matrixProduct) extend(h int) {
	scale, minimum := ZMM(), ZMM()
	VMOVUPS(Mem{Base: m.fw, Disp: panelBytes + 64*h}, scale)
	if m.min {
		VMOVUPS(Mem{Base: m.fw, Disp: panelBytes + 64*(m.halves+h)}, minimum)
	}
	scalars := panelBytes * m.planes
	place := scalars + panelS
	if m.halves == 2 {
		place = scalars + panelSHalf + 64*h
	}
	for t, chain := range m.chain {
		factor, sum := ZMM(), ZMM()
		VMULPS_BCST(Mem{Base: m.fx, Disp: scalars + panelD + 4*t}, scale, factor)
		low := Mem{Base: m.sums, Disp: 1024*h*m.planes + 64*t}
		switch {
		case m.planes == 2: // too large for the sum below
			VPSLLD(Imm(7), low.Offset(1024), sum)
			VPADDD(low, sum, sum)
			VCVTDQ2PS(sum, sum)
		case m.min || 3*t%8 < 5:
			VPADDD(low, m.round, sum)
			VSUBPS(m.round, sum, sum)
		default:
			VCVTDQ2PS(low, sum)
		}
		VFMADD231PS(factor, sum, chain)
		if m.min {
			VFMADD231PS_BCST(Mem{Base: m.fx, Disp: place + 4*t}, minimum, chain)
		}
	}
}

// fold adds a segment's chains to the totals. After the last one it stores them
// and turns to the next group, or tokens, or ends.
func (m *matrixProduct) fold() {
	totals := pointer("room")
	for t, chain := range m.chain {
		v := ZMM()
		VMOVUPS_Z(Mem{Base: totals, Disp: m.totals() + 64*t}, m.keep, v)
		VADDPS(chain, v, chain)
	}
	TESTQ(m.fleft, m.fleft)
	JZ(LabelRef("whole"))
	for t, chain := range m.chain {
		VMOVUPS(chain, Mem{Base: totals, Disp: m.totals() + 64*t})
	}
	m.nextSegment()
	KXNORW(m.keep, m.keep, m.keep)
	JMP(LabelRef("next"))
	Label("whole")
	m.result()
	m.restart(m.fleft, m.fx)
	m.nextSegment()
	KXORW(m.keep, m.keep, m.keep)
	ADDQ(Imm(64), m.y)
	DECQ(m.chainGroups)
	JNZ(LabelRef("next"))
	SUBQ(Imm(panelTokens), m.tokensLeft)
	JLE(LabelRef("done"))
	m.nextTokens(m.fw, m.fx, m.chainGroups)
	r := pointer("groups")
	SHLQ(Imm(6), r)
	SUBQ(r, m.y)
	r = pointer("yStride")
	SHLQ(Imm(4), r)
	ADDQ(r, m.y)
}

// result stores the totals of the tokens that there are.
func (m *matrixProduct) result() {
	f := newFloor512()
	y, stride, left := GP64(), pointer("yStride"), GP64()
	MOVQ(m.y, y)
	MOVQ(m.tokensLeft, left)
	for t, chain := range m.chain {
		f.apply(chain)
		VMOVUPS(chain, Mem{Base: y})
		if t == panelTokens-1 {
			break
		}
		ADDQ(stride, y)
		DECQ(left)
		JZ(LabelRef("stored"))
	}
	Label("stored")
}
