package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// matmulAVX2 emits products for machines without AVX-512. A vector is 8 rows:
// a half of what the packed layout keeps together.
func matmulAVX2() {
	for _, f := range forms {
		most := 4
		if f.high > 0 || f.booked || f.low == 2 {
			most = 2 // high bits or a codebook take the registers
		}
		for _, tokens := range []int{most, 1} {
			m := &mul2{form: f, tokens: tokens}
			m.emit()
		}
	}
}

// mul2 is an AVX2 kernel at work: 16 rows times tokens. With one token both
// halves of the rows go together, otherwise one after the other, as 16
// registers hold no more.
type mul2 struct {
	form
	tokens int

	q, s, shared   GPVirtual // shared: what 8 blocks share
	x              tokenPointers
	halvesNow      []int        // halves of the rows at work
	chain, ints    []VecVirtual // by half, then token
	lowMask, ones  VecVirtual
	table          VecVirtual // codebook
	highMask, sign VecVirtual
}

func (m *mul2) emit() {
	TEXT(fmt.Sprintf("mul_%s_g1t%d_a8_avx2", m.name, m.tokens), attr.NOSPLIT, matmulSignature)
	Doc(fmt.Sprintf("Products of 16 rows of %s with %d tokens of 8-bit activations; portable form: matmulTask.portable.", m.name, m.tokens))
	Pragma("noescape")
	totals := AllocLocal(32 * 4)
	m.constants()
	if m.tokens == 1 {
		m.pass(totals, 0, 1)
	} else {
		m.pass(totals, 0)
		m.pass(totals, 1)
	}
	VZEROUPPER()
	RET()
}

func (m *mul2) constants() {
	m.ones = constant2(0x00010001)
	if m.low == 8 {
		m.sign = constant2(0x80808080)
		return
	}
	m.lowMask = constant2(uint32(1<<m.low-1) * 0x01010101)
	if m.high > 0 {
		m.highMask = constant2(uint32((1<<m.high-1)<<m.low) * 0x01010101)
	}
	if m.booked {
		m.table = YMM()
		VPXOR(memory2(0x80808080), bookVector(m.book, m.table), m.table)
	}
}

// constant2 broadcasts 32 bits to a vector.
func constant2(bits uint32) VecVirtual {
	r, x, y := GP32(), XMM(), YMM()
	MOVL(U32(bits), r)
	VMOVD(r, x)
	VPBROADCASTD(x, y)
	return y
}

// pass computes the given halves of the rows over all columns.
func (m *mul2) pass(totals Mem, halves ...int) {
	m.halvesNow = halves
	label := func(s string) string { return fmt.Sprintf("%s%d", s, halves[0]) }
	m.q, m.s, m.shared = pointer("q"), pointer("s"), GP64()
	m.x = loadTokens("x", "xStride", m.tokens)
	left, count := pointer("blocks"), GP64()
	m.chain, m.ints = nil, nil
	for range len(halves) * m.tokens {
		m.chain, m.ints = append(m.chain, YMM()), append(m.ints, YMM())
	}
	for i, v := range m.chain {
		VPXOR(v, v, v)
		VMOVUPS(v, totals.Offset(32*i))
	}
	Label(label("segment"))
	MOVQ(U32(segmentBlocks), count)
	CMPQ(left, count)
	CMOVQLT(left, count)
	SUBQ(count, left)
	for _, v := range m.chain {
		VPXOR(v, v, v)
	}
	if m.super > 0 {
		MOVQ(m.s, m.shared)
		ADDQ(Imm(uint64(m.super)), m.s)
	}
	Label(label("block"))
	for h := range m.form.halves {
		m.dots(h)
		m.extend(h)
	}
	ADDQ(U32(uint32(m.quants)), m.q)
	ADDQ(Imm(uint64(m.scales)), m.s)
	m.x.advance(recordBytes, m.tokens)
	DECQ(count)
	JNZ(LabelRef(label("block")))
	for i, v := range m.chain {
		VADDPS(totals.Offset(32*i), v, v)
		VMOVUPS(v, totals.Offset(32*i))
	}
	TESTQ(left, left)
	JNZ(LabelRef(label("segment")))
	m.store()
}

// store writes the totals, which the chains hold, through the floor.
func (m *mul2) store() {
	y, stride := pointer("y"), GP64()
	if m.tokens > 1 {
		stride = pointer("yStride")
	}
	f := floor2{constant2(absMask), constant2(tiny - 1)}
	for t := range m.tokens {
		for i, half := range m.halvesNow {
			v := m.chain[i*m.tokens+t]
			f.apply(v)
			VMOVUPS(v, Mem{Base: y, Disp: 32 * half})
		}
		if t < m.tokens-1 {
			ADDQ(stride, y)
		}
	}
}

// floor2 stores the contract's F on each lane. below is the largest pattern
// that counts as zero.
type floor2 struct{ abs, below Op }

func (f floor2) apply(v VecVirtual) {
	t := YMM()
	VPAND(f.abs, v, t)
	VPCMPGTD(f.below, t, t)
	VPAND(t, v, v)
}

// room is how many products of pairs fit in 16 bits: 2*127 times the largest
// stored quant each.
func (m *mul2) room() int {
	if m.booked {
		return 1
	}
	switch m.low + m.high {
	case 2, 3, 4:
		return 8
	case 5:
		return 4
	case 6:
		return 2
	}
	return 1
}

// dots leaves the integer sums of sub-block h in m.ints, without corrections.
func (m *mul2) dots(h int) {
	quads := []int{0, 4, 1, 5, 2, 6, 3, 7} // low and high nibbles of a vector together
	if m.low == 8 {
		quads = []int{0, 1, 2, 3, 4, 5, 6, 7}
	}
	if m.form.halves == 2 {
		quads = []int{4 * h, 4*h + 1, 4*h + 2, 4*h + 3}
	}
	for i, half := range m.halvesNow {
		words := make([]VecVirtual, m.tokens) // sums of 16 bits
		for n, j := range quads {
			first, last := n%m.room() == 0, n%m.room() == m.room()-1 || n == len(quads)-1
			w, signs := m.quad(j, half)
			for t := range m.tokens {
				b := YMM()
				VPBROADCASTD(m.x.at(t, 4*j), b)
				if signs != nil {
					VPSIGNB(signs, b, b)
				}
				VPMADDUBSW(b, w, b)
				if first {
					words[t] = b
				} else {
					VPADDW(b, words[t], words[t])
				}
				if last {
					m.widen(words[t], m.ints[i*m.tokens+t], n < m.room())
				}
			}
		}
	}
}

// widen adds pairs of 16-bit sums to the integer sums.
func (m *mul2) widen(words, ints VecVirtual, first bool) {
	if first {
		VPMADDWD(words, m.ones, ints)
		return
	}
	VPMADDWD(words, m.ones, words)
	VPADDD(words, ints, ints)
}

// quad gives the unsigned quants of columns 4j to 4j+3 of 8 rows. For 8-bit
// types they are magnitudes, and signs holds the signed numbers.
func (m *mul2) quad(j, half int) (w, signs VecVirtual) {
	w = YMM()
	if m.low == 8 {
		signs = YMM()
		VPXOR(Mem{Base: m.q, Disp: 64*j + 32*half}, m.sign, signs)
		VPABSB(signs, w)
		return w, signs
	}
	at, shift := Mem{Base: m.q, Disp: 64*(j%4) + 32*half}, 4*(j/4)
	if m.low == 2 {
		at.Disp, shift = 64*(j/4)+32*half, 2*(j%4)
	}
	if shift == 0 {
		VPAND(at, m.lowMask, w)
	} else {
		VMOVDQU(at, w)
		VPSRLW(Imm(uint64(shift)), w, w)
		VPAND(w, m.lowMask, w)
	}
	if m.booked {
		signs = YMM()
		VPSHUFB(w, m.table, signs)
		VPABSB(signs, w)
		return w, signs
	}
	if m.high > 0 {
		m.orHigh(w, j, half)
	}
	return w, nil
}

// orHigh sets the bits beyond the low plane.
func (m *mul2) orHigh(w VecVirtual, j, half int) {
	plane, right := 64*m.low, j-m.low // bit j to the first bit beyond
	if m.high == 2 {
		plane, right = 64*m.low+64*(j/4), 2*(j%4)-4 // bits 2j and 2j+1 to bits 4 and 5
	}
	u := YMM()
	VMOVDQU(Mem{Base: m.q, Disp: plane + 32*half}, u)
	if right > 0 {
		VPSRLD(Imm(uint64(right)), u, u)
	} else if right < 0 {
		VPSLLD(Imm(uint64(-right)), u, u)
	}
	VPAND(m.highMask, u, u)
	VPOR(u, w, w)
}

// extend corrects the integer sums and adds the sub-block's terms to the
// chains.
func (m *mul2) extend(h int) {
	place := recS
	if m.form.halves == 2 {
		place = recSHalf + 4*h
	}
	for i, half := range m.halvesNow {
		for t := range m.tokens {
			v := m.ints[i*m.tokens+t]
			m.correct(v, h, t)
			VCVTDQ2PS(v, v)
		}
		scale := m.scale(h, half)
		for t := range m.tokens {
			f := YMM()
			VBROADCASTSS(m.x.at(t, recD), f)
			VMULPS(f, scale, f)
			VFMADD231PS(f, m.ints[i*m.tokens+t], m.chain[i*m.tokens+t])
		}
		if !m.min {
			continue
		}
		minimum := m.minimum(h, half)
		for t := range m.tokens {
			s := YMM()
			VBROADCASTSS(m.x.at(t, place), s)
			if m.super > 0 {
				VFNMADD231PS(s, minimum, m.chain[i*m.tokens+t])
			} else {
				VFMADD231PS(s, minimum, m.chain[i*m.tokens+t])
			}
		}
	}
}

// correct adds what the offset of the stored quants makes up. 8-bit types and
// codebooks are multiplied as signed numbers and need none.
func (m *mul2) correct(v VecVirtual, h, t int) {
	if m.offset == 0 || m.offset == 128 {
		return
	}
	at, times := recSum8, m.offset/8
	if m.form.halves == 2 {
		at, times = recSum32+4*h, 1
	}
	c := YMM()
	VPBROADCASTD(m.x.at(t, at), c)
	if m.offset == 4 {
		VPSRAD(Imm(3), c, c)
	}
	for range times {
		VPADDD(c, v, v)
	}
}

func (m *mul2) scale(h, half int) VecVirtual {
	v := YMM()
	switch m.kind {
	case scaleF16:
		VCVTPH2PS(Mem{Base: m.s, Disp: 16 * half}, v)
		return v
	case scaleExponent: // 2^(e-128): e-1 as exponent bits; +0 below 2^-24
		alive := YMM()
		VPMOVZXBD(Mem{Base: m.s, Disp: 8 * half}, v)
		VPCMPGTD(memory2(128-24-1), v, alive)
		VPADDD(memory2(0xffffffff), v, v)
		VPSLLD(Imm(23), v, v)
		VPAND(alive, v, v)
		return v
	case scaleK:
		VPMOVZXBD(Mem{Base: m.s, Disp: 8 * half}, v)
	case scaleNibbleK:
		VPMOVZXBD(Mem{Base: m.s, Disp: 16*h + 8*half}, v)
		VPAND(memory2(15), v, v)
	case scaleSigned:
		VPMOVSXBD(Mem{Base: m.s, Disp: 16*h + 8*half}, v)
	}
	return m.times(v, 16*half)
}

func (m *mul2) minimum(h, half int) VecVirtual {
	v := YMM()
	if m.kind == scaleF16 {
		VCVTPH2PS(Mem{Base: m.s, Disp: 32 + 16*half}, v)
		return v
	}
	if m.kind == scaleNibbleK {
		VPMOVZXBD(Mem{Base: m.s, Disp: 16*h + 8*half}, v)
		VPSRLD(Imm(4), v, v)
	} else {
		VPMOVZXBD(Mem{Base: m.s, Disp: 16 + 8*half}, v)
	}
	return m.times(v, 32+16*half)
}

// times makes integers v their product with what 8 blocks share.
func (m *mul2) times(v VecVirtual, at int) VecVirtual {
	d := YMM()
	VCVTPH2PS(Mem{Base: m.shared, Disp: at}, d)
	VCVTDQ2PS(v, v)
	VMULPS(d, v, v)
	return v
}
