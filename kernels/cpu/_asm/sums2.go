package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// dots leaves the integer sums of sub-block h in m.ints. With two planes the
// high one comes first and is multiplied by 128.
func (m *mul2) dots(h int) {
	for plane := m.planes - 1; plane >= 0; plane-- {
		line, first := plane*recordBytes, plane == m.planes-1
		if !first {
			for _, v := range m.ints {
				VPSLLD(Imm(7), v, v)
			}
		}
		if m.vnni() {
			m.correct(h, line, first)
			m.dotsVNNI(h, line)
		} else {
			m.dotsAVX2(h, line, first)
			m.correct(h, line, false)
		}
	}
}

// quads lists the columns of sub-block h in fours, as they are stored: low and
// high nibbles of a vector together.
func (m *mul2) quads(h int) []int {
	switch {
	case m.low == 8:
		return []int{0, 1, 2, 3, 4, 5, 6, 7}
	case m.form.halves == 2:
		return []int{4 * h, 4*h + 1, 4*h + 2, 4*h + 3}
	}
	return []int{0, 4, 1, 5, 2, 6, 3, 7}
}

// dotsVNNI adds to m.ints.
func (m *mul2) dotsVNNI(h, line int) {
	for _, j := range m.quads(h) {
		for i, half := range m.halvesNow {
			w, _ := m.quad(j, half)
			for t := range m.tokens {
				b := YMM()
				VPBROADCASTD(m.x.at(t, line+4*j), b)
				VPDPBUSD(b, w, m.ints[i*m.tokens+t]) // in VEX form: see encodeVEX
			}
		}
	}
}

// dotsAVX2 sets m.ints, or adds to them if they hold another plane's sums.
func (m *mul2) dotsAVX2(h, line int, fresh bool) {
	quads := m.quads(h)
	for i, half := range m.halvesNow {
		words := make([]VecVirtual, m.tokens) // sums of 16 bits
		for n, j := range quads {
			first, last := n%m.room() == 0, n%m.room() == m.room()-1 || n == len(quads)-1
			w, signs := m.quad(j, half)
			for t := range m.tokens {
				b := YMM()
				VPBROADCASTD(m.x.at(t, line+4*j), b)
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
					m.widen(words[t], m.ints[i*m.tokens+t], fresh && n < m.room())
				}
			}
		}
	}
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

// widen adds pairs of 16-bit sums to the integer sums.
func (m *mul2) widen(words, ints VecVirtual, first bool) {
	if first {
		VPMADDWD(m.ones, words, ints)
		return
	}
	VPMADDWD(m.ones, words, words)
	VPADDD(words, ints, ints)
}

// quad gives the unsigned quants of columns 4j to 4j+3 of 8 rows. Without VNNI
// those of 8-bit types and codebooks are magnitudes, and signs holds the signed
// numbers.
func (m *mul2) quad(j, half int) (w, signs VecVirtual) {
	w = YMM()
	if m.low == 8 {
		at := Mem{Base: m.q, Disp: 64*j + 32*half}
		if m.vnni() {
			VMOVDQU(at, w)
			return w, nil
		}
		VPXOR(at, m.sign, w)
		return magnitudes(w)
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
		VPAND(m.lowMask, w, w)
	}
	if m.booked {
		VPSHUFB(w, m.table, w)
		if m.vnni() {
			return w, nil
		}
		return magnitudes(w)
	}
	if m.high > 0 {
		m.orHigh(w, j, half)
	}
	return w, nil
}

// magnitudes splits signed numbers for VPMADDUBSW, which takes one factor
// unsigned: the other gets their signs.
func magnitudes(signs VecVirtual) (w, s VecVirtual) {
	w = YMM()
	VPABSB(signs, w)
	return w, signs
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

// correction is the place of the record's sum for the type's offset, and the
// shift left that makes it -offset times the sum. Without VNNI 8-bit types and
// codebooks are multiplied as signed numbers and need none.
func (m *mul2) correction(h int) (at, shift int, needed bool) {
	switch m.offset {
	case 0:
		return 0, 0, false
	case 8:
		return recSum8, 0, true
	case 16:
		return recSum8, 1, true
	case 128:
		return recSum128, 0, m.vnni()
	case 32:
		return recSum32 + 4*h, 0, true
	}
	return recSum32 + 4*h, -3, true // 4
}

// correct adds what the offset of the stored quants makes up to the integer
// sums, or sets them to it.
func (m *mul2) correct(h, line int, set bool) {
	at, shift, needed := m.correction(h)
	if !needed {
		for _, v := range m.ints {
			if set {
				VPXOR(v, v, v)
			}
		}
		return
	}
	for t := range m.tokens {
		c := YMM()
		VPBROADCASTD(m.x.at(t, line+at), c)
		if shift > 0 {
			VPSLLD(Imm(uint64(shift)), c, c)
		} else if shift < 0 {
			VPSRAD(Imm(uint64(-shift)), c, c)
		}
		for i := range m.halvesNow {
			v := m.ints[i*m.tokens+t]
			if set {
				VMOVDQA(c, v)
			} else {
				VPADDD(c, v, v)
			}
		}
	}
}
