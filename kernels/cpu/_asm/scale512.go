package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// scale gives sub-block h's scales and minimums of a group, and whether the
// minimum is to be subtracted.
func (m *mul) scale(g, h int) (scale, minimum VecVirtual, negative bool) {
	s := m.s[g]
	scale, minimum = ZMM(), ZMM()
	switch m.kind {
	case scaleF16:
		VCVTPH2PS(Mem{Base: s}, scale)
		if m.min {
			VCVTPH2PS(Mem{Base: s, Disp: 32}, minimum)
		}
	case scaleExponent: // 2^(e-128): e-1 as exponent bits; +0 below 2^-24
		k := K()
		VPMOVZXBD(Mem{Base: s}, scale)
		VPCMPUD(Imm(cmpGreaterEqual), constant512(128-24), scale, k)
		VPSUBD(constant512(1), scale, scale)
		VPSLLD(Imm(23), scale, scale)
		VMOVDQA32_Z(scale, k, scale)
	case scaleK:
		product512(m.super[g], scale, func() { VPMOVZXBD(Mem{Base: s}, scale) })
		product512(m.superM[g], minimum, func() { VPMOVZXBD(Mem{Base: s, Disp: 16}, minimum) })
	case scaleNibbleK:
		both := ZMM()
		VPMOVZXBD(Mem{Base: s, Disp: 16 * h}, both)
		product512(m.super[g], scale, func() { lowNibble(both, scale) })
		product512(m.superM[g], minimum, func() { VPSRLD(Imm(4), both, minimum) })
	case scaleSigned:
		product512(m.super[g], scale, func() { VPMOVSXBD(Mem{Base: s, Disp: 16 * h}, scale) })
	}
	return scale, minimum, m.form.super > 0
}

// lowNibble keeps the low nibble of each lane.
func lowNibble(from, to VecVirtual) { VPANDD(constant512(15), from, to) }

// product512 makes v, filled with integers, their product with super.
func product512(super, v VecVirtual, fill func()) {
	fill()
	VCVTDQ2PS(v, v)
	VMULPS(super, v, v)
}

// totals512 holds the sums over segments: in registers while they are few,
// otherwise on the stack.
type totals512 struct {
	regs  []VecVirtual
	stack Mem
}

func newTotals512(n int) *totals512 {
	t := &totals512{}
	if n <= 4 {
		for range n {
			v := ZMM()
			VPXORD(v, v, v)
			t.regs = append(t.regs, v)
		}
		return t
	}
	t.stack = AllocLocal(64 * n)
	zero := ZMM()
	VPXORD(zero, zero, zero)
	for i := range n {
		VMOVUPS(zero, t.stack.Offset(64*i))
	}
	return t
}

// add folds a segment's chains; they hold the totals afterwards.
func (t *totals512) add(chain []VecVirtual) {
	for i, v := range chain {
		if t.regs != nil {
			VADDPS(v, t.regs[i], t.regs[i])
			continue
		}
		VADDPS(t.stack.Offset(64*i), v, v)
		VMOVUPS(v, t.stack.Offset(64*i))
	}
}

// store writes the totals to y through the floor. chain holds the last ones.
func (t *totals512) store(groups, tokens int, chain []VecVirtual) {
	if t.regs != nil {
		chain = t.regs
	}
	f := newFloor512()
	y := pointer("y")
	stride := GP64()
	if tokens > 1 {
		stride = pointer("yStride")
	}
	for token := range tokens {
		for g := range groups {
			v := chain[g*tokens+token]
			f.apply(v)
			VMOVUPS(v, Mem{Base: y, Disp: 64 * g})
		}
		if token < tokens-1 {
			ADDQ(stride, y)
		}
	}
}
