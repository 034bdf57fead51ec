package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// matmul2 emits products for machines without AVX-512, with the integer
// products of AVX2 or those of AVX-VNNI. A vector is 8 rows: a half of what the
// packed layout keeps together.
func matmul2(isa string) {
	for _, f := range forms {
		for _, shape := range [][2]int{{4, 1}, {2, 1}, {1, 1}, {4, 2}, {1, 2}} {
			m := &mul2{form: f, isa: isa, tokens: shape[0], planes: shape[1]}
			m.emit()
		}
	}
}

// Instruction sets of mul2.
const (
	isaAVX2    = "avx2"
	isaAVXVNNI = "avxvnni"
)

// mul2 is a kernel at work: 16 rows times tokens, with activations of one plane
// (8 bits) or two. With up to two tokens both halves of the rows go together,
// otherwise one after the other, as 16 registers hold no more.
type mul2 struct {
	form
	isa            string
	tokens, planes int

	q, s, shared GPVirtual // shared: what 8 blocks share
	x            tokenPointers
	halvesNow    []int        // halves of the rows at work
	chain, ints  []VecVirtual // by half, then token
	table        VecVirtual   // codebook

	ones, sign, lowMask, highMask Op // constants
}

// pass is one of the ways over a segment.
type pass struct {
	halves []int
	number int
	last   bool
}

func (m *mul2) passes() []pass {
	if m.tokens <= 2 {
		return []pass{{halves: []int{0, 1}, last: true}}
	}
	return []pass{{halves: []int{0}}, {halves: []int{1}, number: 1, last: true}}
}

func (m *mul2) vnni() bool { return m.isa == isaAVXVNNI }

func (m *mul2) emit() {
	TEXT(fmt.Sprintf("mul_%s_g1t%d_a%d_%s", m.name, m.tokens, 8*m.planes, m.isa), attr.NOSPLIT, matmulSignature)
	Doc(fmt.Sprintf("Products of 16 rows of %s with %d tokens of %d-bit activations; portable form: matmulTask.portable.", m.name, m.tokens, 8*m.planes))
	Pragma("noescape")
	totals := AllocLocal(32 * 2 * m.tokens)
	m.constants()
	m.q, m.s, m.shared = pointer("q"), pointer("s"), GP64()
	m.x = loadTokens("x", "xStride", m.tokens)
	left, blocks := pointer("blocks"), GP64()
	zero := avx2.zero()
	for i := range 2 * m.tokens {
		VMOVUPS(zero, totals.Offset(32*i))
	}
	Label("segment")
	MOVQ(U32(segmentBlocks), blocks)
	CMPQ(left, blocks)
	CMOVQLT(left, blocks)
	SUBQ(blocks, left)
	if m.super > 0 {
		MOVQ(m.s, m.shared)
		ADDQ(Imm(uint64(m.super)), m.s)
	}
	for _, p := range m.passes() {
		m.pass(p, blocks, totals)
	}
	TESTQ(left, left)
	JNZ(LabelRef("segment"))
	m.store(totals)
	VZEROUPPER()
	RET()
}

// constants keeps what the products need in registers, as far as they go.
func (m *mul2) constants() {
	spare := m.vnni() || m.tokens <= 2 || m.high == 0
	if !m.vnni() {
		m.ones = constant2(0x00010001, spare)
	}
	if m.low == 8 {
		if !m.vnni() {
			m.sign = constant2(0x80808080, true)
		}
		return
	}
	m.lowMask = constant2(uint32(1<<m.low-1)*0x01010101, true)
	if m.high > 0 {
		m.highMask = constant2(uint32((1<<m.high-1)<<m.low)*0x01010101, spare)
	}
	if m.booked {
		m.table = bookVector(m.book, YMM())
		if !m.vnni() {
			VPXOR(memory2(0x80808080), m.table, m.table)
		}
	}
}

// constant2 gives 32 bits in each lane of a register, or of memory.
func constant2(bits uint32, register bool) Op {
	if !register {
		return memory2(bits)
	}
	r, x, y := GP32(), XMM(), YMM()
	MOVL(U32(bits), r)
	VMOVD(r, x)
	VPBROADCASTD(x, y)
	return y
}

// pass computes halves of the rows over the blocks of a segment, and goes back
// to its beginning if another pass follows.
func (m *mul2) pass(p pass, blocks GPVirtual, totals Mem) {
	label := fmt.Sprintf("block%d", p.number)
	m.halvesNow, m.chain, m.ints = p.halves, nil, nil
	for range len(p.halves) * m.tokens {
		m.chain, m.ints = append(m.chain, avx2.zero()), append(m.ints, YMM())
	}
	q, s, x, count := GP64(), GP64(), GP64(), GP64()
	if !p.last {
		MOVQ(m.q, q)
		MOVQ(m.s, s)
		MOVQ(m.x.base[0], x)
	}
	MOVQ(blocks, count)
	Label(label)
	m.prefetch(p)
	for h := range m.form.halves {
		m.dots(h)
		m.extend(h)
	}
	ADDQ(U32(uint32(m.quants)), m.q)
	ADDQ(Imm(uint64(m.scales)), m.s)
	m.x.advance(recordBytes*m.planes, m.tokens)
	DECQ(count)
	JNZ(LabelRef(label))
	if !p.last {
		MOVQ(q, m.q)
		MOVQ(s, m.s)
		MOVQ(x, m.x.base[0])
	}
	for i, half := range p.halves {
		for t := range m.tokens {
			v, at := m.chain[i*m.tokens+t], totals.Offset(32*(half*m.tokens+t))
			VADDPS(at, v, v)
			VMOVUPS(v, at)
		}
	}
}

// prefetch asks for the quants of a later block; of two passes over a segment
// each asks for half of the next segment.
func (m *mul2) prefetch(p pass) {
	first, step, ahead := 0, 64, prefetchBytes
	if m.tokens > 2 {
		first, step, ahead = 64*p.number, 128, segmentBlocks*m.quants
	}
	for at := first; at < m.quants; at += step {
		PREFETCHT0(Mem{Base: m.q, Disp: ahead + at})
	}
}

// store writes the totals through the floor.
func (m *mul2) store(totals Mem) {
	y, stride := pointer("y"), GP64()
	if m.tokens > 1 {
		stride = pointer("yStride")
	}
	f := floor2{memory2(absMask), memory2(tiny - 1)}
	for t := range m.tokens {
		for half := range 2 {
			v := YMM()
			VMOVUPS(totals.Offset(32*(half*m.tokens+t)), v)
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

// extend adds the sub-block's terms to the chains.
func (m *mul2) extend(h int) {
	place := recS
	if m.form.halves == 2 {
		place = recSHalf + 4*h
	}
	for i, half := range m.halvesNow {
		for t := range m.tokens {
			v := m.ints[i*m.tokens+t]
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
