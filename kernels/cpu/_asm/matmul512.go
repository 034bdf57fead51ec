package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Places in an activation record; see record in package cpu.
const (
	recordBytes = 64
	recD        = 32
	recS        = 36
	recSum8     = 40
	recSum128   = 44
	recSum32    = 48
	recSHalf    = 56
)

// segmentBlocks is the number of blocks of a chain: 256 columns.
const segmentBlocks = 8

const matmulSignature = "func(q, s *byte, qStride, sStride int, x *byte, xStride int, y *float32, yStride int, blocks int)"

// prefetchBytes is how far ahead of the block at work weights are asked for:
// the block's own instructions fill the processor's window long before those
// that would read so far. Beyond a group lies the next one, and beyond the last
// nothing is read, as a prefetch of a page that is not there does nothing.
const prefetchBytes = 2048

// matmul512 emits a kernel for each number of tokens up to 8, so that narrow
// batches read and unpack the weights once.
func matmul512() {
	for _, f := range forms {
		if f.low > 2 || f.high > 0 { // Q2_K is bound by its instructions
			newMul(f, streams(f), 1, 1).emit()
			newMul(f, streams(f), 1, 2).emit()
			for tokens := 2; tokens <= 4; tokens++ {
				newMul(f, 2, tokens, 1).emit()
			}
		}
		for tokens := range 8 {
			newMul(f, 1, 8-tokens, 1).emit()
		}
		for _, tokens := range []int{8, 4, 2, 1} {
			newMul(f, 1, tokens, 2).emit()
		}
	}
}

// mul is a kernel at work: groups of 16 rows times tokens, with activations of
// one plane (8 bits) or two.
type mul struct {
	form
	groups, tokens, planes int

	q, s    []GPVirtual
	x       tokenPointers
	chain   []VecVirtual // float chain of each output vector
	ints    []VecVirtual // integer sum of the sub-block
	super   []VecVirtual // per group: the 8 blocks' scale
	superM  []VecVirtual // and minimum
	rest    GPVirtual    // blocks left, of streams
	ahead   GPVirtual    // bytes from quants to those to ask for, of streams
	aheadS  GPVirtual    // and from scales
	lowMask VecVirtual
	hiMask  VecVirtual
	table   VecVirtual   // codebook
	high0   []VecVirtual // per group: the plane of high bits at hand
}

func newMul(f form, groups, tokens, planes int) *mul {
	return &mul{form: f, groups: groups, tokens: tokens, planes: planes}
}

func (m *mul) emit() {
	TEXT(fmt.Sprintf("mul_%s_g%dt%d_a%d_avx512vnni", m.name, m.groups, m.tokens, 8*m.planes), attr.NOSPLIT, matmulSignature)
	Doc(fmt.Sprintf("Products of %d x 16 rows of %s with %d tokens of %d-bit activations; portable form: matmulTask.portable.", m.groups, m.name, m.tokens, 8*m.planes))
	Pragma("noescape")
	m.q, m.s = groupPointers("q", "qStride", m.groups), groupPointers("s", "sStride", m.groups)
	m.x = loadTokens("x", "xStride", m.tokens)
	left, count := pointer("blocks"), GP64()
	totals := newTotals512(m.groups * m.tokens)
	for range m.groups * m.tokens {
		m.chain, m.ints = append(m.chain, ZMM()), append(m.ints, ZMM())
	}
	m.constants()
	if m.streams() {
		m.rest, m.ahead, m.aheadS = GP64(), GP64(), GP64()
		MOVQ(left, m.rest)
		MOVQ(U32(uint32(segmentBlocks*m.quants)), m.ahead)
		MOVQ(U32(uint32(segmentBlocks*m.scales+m.form.super)), m.aheadS)
	}
	Label("segment")
	MOVQ(U32(segmentBlocks), count)
	CMPQ(left, count)
	CMOVQLT(left, count)
	SUBQ(count, left)
	for _, v := range m.chain {
		VPXORD(v, v, v)
	}
	m.loadSuper()
	Label("block")
	m.lookAhead()
	m.prefetch()
	for h := range m.halves {
		m.dots(h)
		m.extend(h)
	}
	for g := range m.groups {
		ADDQ(U32(uint32(m.quants)), m.q[g])
		ADDQ(Imm(uint64(m.scales)), m.s[g])
	}
	m.x.advance(recordBytes*m.planes, m.tokens)
	DECQ(count)
	JNZ(LabelRef("block"))
	totals.add(m.chain)
	TESTQ(left, left)
	JNZ(LabelRef("segment"))
	totals.store(m.groups, m.tokens, m.chain)
	VZEROUPPER()
	RET()
}

// prefetch asks for the quants of a later block, and of streams for the
// scales: of one group the processor sees itself where they go on.
func (m *mul) prefetch() {
	for g := range m.groups {
		later := Mem{Base: m.q[g], Disp: prefetchBytes}
		if m.streams() {
			later = Mem{Base: m.q[g], Index: m.ahead, Scale: 1}
			PREFETCHT0(Mem{Base: m.s[g], Index: m.aheadS, Scale: 1})
		}
		for at := 0; at < m.quants; at += 64 {
			PREFETCHT0(later.Offset(at))
		}
	}
}

// streams is the number of groups that a single token's products read at once; of
// types with high bits four would not fit in the registers.
func streams(f form) int {
	if f.high == 0 && f.halves == 1 {
		return 4
	}
	return 2
}

// streams reports whether the kernel reads several groups, as streams.
func (m *mul) streams() bool { return m.groups > 1 }

// lookAhead says what is asked for where groups are read as streams: what lies a
// segment ahead, which near the end of the groups is the beginning of the next.
func (m *mul) lookAhead() {
	if !m.streams() {
		return
	}
	DECQ(m.rest)
	CMPQ(m.rest, Imm(segmentBlocks-1))
	JNE(LabelRef("within"))
	jump := func(stride string, ahead GPVirtual) {
		r := pointer(stride)
		if m.groups == 4 {
			LEAQ(Mem{Base: r, Index: r, Scale: 2}, r)
		}
		ADDQ(r, ahead)
	}
	jump("qStride", m.ahead)
	jump("sStride", m.aheadS)
	Label("within")
}

func (m *mul) constants() {
	if m.low < 8 {
		m.lowMask = constant512(uint32(1<<m.low-1) * 0x01010101)
	}
	if m.high > 0 {
		m.hiMask = constant512(uint32((1<<m.high-1)<<m.low) * 0x01010101)
	}
	if m.booked {
		m.table = bookVector(m.book, ZMM())
	}
}

// bookVector fills v with a codebook, plus 128 to make it unsigned, in each 16
// bytes.
func bookVector(book [16]int8, v VecVirtual) VecVirtual {
	var words [2]uint64
	for i, n := range book {
		words[i/8] |= uint64(uint8(int(n)+128)) << (8 * (i % 8))
	}
	r, x := GP64(), XMM()
	MOVQ(U64(words[0]), r)
	VMOVQ(r, x)
	MOVQ(U64(words[1]), r)
	VPINSRQ(Imm(1), r, x, x)
	if v.Size() == 64 {
		VSHUFI32X4(Imm(0), x.AsZ(), x.AsZ(), v)
	} else {
		VINSERTI128(Imm(1), x, x.AsY(), v)
	}
	return v
}

// loadSuper reads what 8 blocks share.
func (m *mul) loadSuper() {
	if m.form.super == 0 {
		return
	}
	if m.super == nil {
		for range m.groups {
			m.super, m.superM = append(m.super, ZMM()), append(m.superM, ZMM())
		}
	}
	for g, s := range m.s {
		VCVTPH2PS(Mem{Base: s}, m.super[g])
		if m.min {
			VCVTPH2PS(Mem{Base: s, Disp: 32}, m.superM[g])
		}
		ADDQ(Imm(uint64(m.form.super)), s)
	}
}

// dots leaves the integer sums of sub-block h in m.ints. With two planes the
// high one comes first and is multiplied by 128.
func (m *mul) dots(h int) {
	for plane := m.planes - 1; plane >= 0; plane-- {
		line := plane * recordBytes
		if plane == m.planes-1 {
			m.start(h, line)
		} else {
			for _, v := range m.ints {
				VPSLLD(Imm(7), v, v)
			}
			m.correct(h, line)
		}
		m.loadHigh(h)
		if m.halves == 2 {
			for j := range 4 {
				m.dot(m.each(func(g int) VecVirtual { return m.quad(g, h, j) }), line+16*h+4*j)
			}
			continue
		}
		for j := range m.vectors() {
			if m.low == 8 {
				m.dot(m.each(func(g int) VecVirtual { return m.load(g, 64*j) }), line+4*j)
				continue
			}
			words := m.each(func(g int) VecVirtual { return m.load(g, 64*j) })
			m.dot(m.each(func(g int) VecVirtual { return m.nibbles(words[g], g, 0, j) }), line+4*j)
			m.dot(m.each(func(g int) VecVirtual { return m.nibbles(words[g], g, 1, j) }), line+16+4*j)
		}
	}
}

// vectors is the number of 64-byte vectors of the low plane.
func (m *mul) vectors() int { return m.low }

func (m *mul) each(f func(g int) VecVirtual) (v []VecVirtual) {
	for g := range m.groups {
		v = append(v, f(g))
	}
	return v
}

func (m *mul) load(g, at int) VecVirtual {
	v := ZMM()
	VMOVDQU64(Mem{Base: m.q[g], Disp: at}, v)
	return v
}

// loadHigh reads the plane of high bits that sub-block h needs.
func (m *mul) loadHigh(h int) {
	m.high0 = nil
	if m.high == 0 {
		return
	}
	at := 64 * m.low
	if m.high == 2 {
		at += 64 * h
	}
	m.high0 = m.each(func(g int) VecVirtual { return m.load(g, at) })
}

// nibbles gives the low or high nibbles of a vector, with their high bits, or
// looked up in the codebook. It may overwrite word for the high ones.
func (m *mul) nibbles(word VecVirtual, g, upper, j int) VecVirtual {
	v := word
	if upper == 0 {
		v = ZMM()
		VPANDD(word, m.lowMask, v)
	} else {
		VPSRLD(Imm(4), v, v)
		VPANDD(v, m.lowMask, v)
	}
	if m.high == 1 {
		m.orHigh(v, g, j+4*upper-4)
	}
	if m.booked {
		VPSHUFB(v, m.table, v)
	}
	return v
}

// orHigh sets bits of v under hiMask from the high plane shifted right.
func (m *mul) orHigh(v VecVirtual, g, right int) {
	u := m.high0[g]
	if right != 0 {
		u = ZMM()
		if right > 0 {
			VPSRLD(Imm(uint64(right)), m.high0[g], u)
		} else {
			VPSLLD(Imm(uint64(-right)), m.high0[g], u)
		}
	}
	VPTERNLOGD(Imm(0xf8), m.hiMask, u, v) // v |= u & hiMask
}

// quad gives the unsigned quants of columns 4j..4j+3 of sub-block h.
func (m *mul) quad(g, h, j int) VecVirtual {
	v := ZMM()
	at := Mem{Base: m.q[g], Disp: 64 * j}
	shift := 4 * h
	if m.low == 2 {
		at.Disp, shift = 64*h, 2*j
	}
	if shift == 0 {
		VPANDD(at, m.lowMask, v)
	} else {
		VPSRLD(Imm(uint64(shift)), at, v)
		VPANDD(v, m.lowMask, v)
	}
	switch m.high {
	case 1: // bit 4h+j to bit 2
		m.orHigh(v, g, 4*h+j-2)
	case 2: // bits 2j to bit 4
		m.orHigh(v, g, 2*j-4)
	}
	return v
}

// dot adds the products with the four activations at the place in the record.
func (m *mul) dot(w []VecVirtual, at int) {
	for t := range m.tokens {
		if m.groups == 1 {
			VPDPBUSD_BCST(m.x.at(t, at), w[0], m.ints[t])
			continue
		}
		b := ZMM()
		VPBROADCASTD(m.x.at(t, at), b)
		for g := range m.groups {
			VPDPBUSD(b, w[g], m.ints[g*m.tokens+t])
		}
	}
}

// correction is the place of the record's sum for the type's offset, and the
// shift left that makes it -offset times the sum.
func (m *mul) correction(h int) (at, shift int) {
	switch m.offset {
	case 8:
		return recSum8, 0
	case 16:
		return recSum8, 1
	case 128:
		return recSum128, 0
	case 32:
		return recSum32 + 4*h, 0
	}
	return recSum32 + 4*h, -3 // 4
}

// shifted gives a token's correction in each lane.
func (m *mul) shifted(v VecVirtual, h, t, line int) {
	at, shift := m.correction(h)
	VPBROADCASTD(m.x.at(t, line+at), v)
	if shift > 0 {
		VPSLLD(Imm(uint64(shift)), v, v)
	} else if shift < 0 {
		VPSRAD(Imm(uint64(-shift)), v, v)
	}
}

// start sets the integer sums to the corrections.
func (m *mul) start(h, line int) {
	for t := range m.tokens {
		first := m.ints[t]
		if m.offset == 0 {
			VPXORD(first, first, first)
		} else {
			m.shifted(first, h, t, line)
		}
		for g := 1; g < m.groups; g++ {
			VMOVDQA64(first, m.ints[g*m.tokens+t])
		}
	}
}

// correct adds the corrections of a further plane.
func (m *mul) correct(h, line int) {
	if m.offset == 0 {
		return
	}
	for t := range m.tokens {
		c := ZMM()
		m.shifted(c, h, t, line)
		for g := range m.groups {
			VPADDD(c, m.ints[g*m.tokens+t], m.ints[g*m.tokens+t])
		}
	}
}

// extend adds the sub-block's terms to the chains.
func (m *mul) extend(h int) {
	place := recS
	if m.halves == 2 {
		place = recSHalf + 4*h
	}
	for g := range m.groups {
		scale, minimum, negative := m.scale(g, h)
		for t := range m.tokens {
			i, f := g*m.tokens+t, ZMM()
			VMULPS_BCST(m.x.at(t, recD), scale, f)
			VCVTDQ2PS(m.ints[i], m.ints[i])
			VFMADD231PS(f, m.ints[i], m.chain[i])
			switch {
			case m.min && negative:
				VFNMADD231PS_BCST(m.x.at(t, place), minimum, m.chain[i])
			case m.min:
				VFMADD231PS_BCST(m.x.at(t, place), minimum, m.chain[i])
			}
		}
	}
}
