package main

import "fmt"

// neonMatmul emits products for arm64: with SDOT, which sums four products of
// bytes in a lane, or with multiplications to words of 16 bits that are summed
// in pairs. A vector is 4 rows: a quarter of what the packed layout keeps
// together. All bytes are multiplied as signed ones, stored quants below 128
// as they are.
func neonMatmul(a *arm, dot bool) {
	for _, f := range forms {
		for _, planes := range []int{1, 2} {
			widths := []int{4, 1}
			if dot && planes == 1 {
				widths = []int{4, 2, 1}
			}
			for _, tokens := range widths {
				m := &neonMul{arm: a, form: f, dot: dot, tokens: tokens, planes: planes}
				m.emit()
			}
		}
	}
}

// neonMul is a kernel at work: 16 rows times tokens, a few quarters of the
// rows in each pass over the columns.
type neonMul struct {
	*arm
	form
	dot            bool
	tokens, planes int
	quarters       int // rows at work / 4

	q      xreg
	halfs  xreg   // scales that are f16, of the quarters at work
	bytes  xreg   // scales that are bytes
	x, y   []xreg // by token
	chain  []vreg // by quarter, then token
	ints   []vreg
	words  [2][]vreg // products of 16 bits: of the lower and upper two rows
	sums   [2][]vreg // sums of pairs of them
	folded bool      // sums hold something
	fresh  []bool    // words hold nothing
	act    [2][]vreg // by half of the record, then token
	mask   vreg
	book   vreg // codebook or sign
	high   []vreg
	hiMask vreg
}

func (m *neonMul) emit() {
	tier := "neon"
	m.quarters = 1
	if m.dot {
		tier, m.quarters = "neondot", min(4, 8/m.tokens)
	}
	if m.tokens == 1 {
		m.quarters = 4
	}
	m.begin(fmt.Sprintf("mul_%s_g1t%d_a%d_%s", m.form.name, m.tokens, 8*m.planes, tier), matmulParameters,
		fmt.Sprintf("Products of 16 rows of %s with %d tokens of %d-bit activations; portable form: matmulTask.portable.", m.form.name, m.tokens, 8*m.planes))
	m.constants()
	first := m.reg()
	m.op("MOVD $0, R%d", first)
	m.label("pass")
	m.pass(first)
	m.advance(m.quarters, first)
	m.op("CMP $4, R%d", first)
	m.op("BLT pass")
	m.end()
}

// matmulParameters is matmulSignature in the form that arm.begin reads.
const matmulParameters = "(q *byte, s *byte, qStride int, sStride int, x *byte, xStride int, y *float32, yStride int, blocks int)"

func (m *neonMul) constants() {
	if m.low == 8 {
		m.book = m.vec()
		m.do(movi16(m.book, 0x80))
		return
	}
	m.mask = m.vec()
	m.do(movi16(m.mask, 1<<m.low-1))
	if m.form.high > 0 {
		m.hiMask = m.vec()
		m.do(movi16(m.hiMask, uint32(1<<m.form.high-1)<<m.low))
	}
	if m.booked {
		m.book = m.table(m.form.book)
	}
}

// table fills a register with a codebook.
func (a *arm) table(book [16]int8) vreg {
	v, upper, x := a.vec(), a.vec(), a.reg()
	for i, to := range []vreg{v, upper} {
		var word uint64
		for j, n := range book[8*i : 8*i+8] {
			word |= uint64(uint8(n)) << (8 * j)
		}
		a.op("MOVD $0x%016x, R%d", word, x)
		a.op("FMOVD R%d, F%d", x, to)
	}
	a.do(zip2(v, v, upper))
	a.give(upper)
	a.giveReg(x)
	return v
}

// tokensAt gives pointers to the rows of tokens.
func (a *arm) tokensAt(base, stride string, tokens int) []xreg {
	p := []xreg{a.load(base)}
	if tokens == 1 {
		return p
	}
	by := a.load(stride)
	for t := 1; t < tokens; t++ {
		p = append(p, a.reg())
		a.op("ADD R%d, R%d, R%d", by, p[t-1], p[t])
	}
	a.giveReg(by)
	return p
}

// pass computes the quarters of the rows from first on over all columns.
// Totals are kept where the results go.
func (m *neonMul) pass(first xreg) {
	m.q, m.halfs, m.bytes = m.load("q"), m.load("s"), m.load("s")
	m.op("ADD R%d<<4, R%d", first, m.q)
	m.op("ADD R%d<<3, R%d", first, m.halfs)
	m.op("ADD R%d<<2, R%d", first, m.bytes)
	m.advance(m.super, m.bytes)
	m.x, m.y = m.tokensAt("x", "xStride", m.tokens), m.tokensAt("y", "yStride", m.tokens)
	for _, y := range m.y {
		m.op("ADD R%d<<4, R%d", first, y)
	}
	left, count := m.load("blocks"), m.reg()
	m.chain, m.ints = m.vecs(m.quarters*m.tokens), m.vecs(m.quarters*m.tokens)
	m.clearTotals(m.chain[0], m.y, m.quarters)
	m.label("segment")
	m.least(count, left, segmentBlocks)
	for _, v := range m.chain {
		m.do(movi4(v, 0))
	}
	m.label("block")
	for h := range m.halves {
		m.dots(h)
		m.extend(h)
	}
	m.advance(m.form.quants, m.q)
	m.next()
	m.advance(recordBytes*m.planes, m.x...)
	m.repeat(count, 1, "block")
	if m.super > 0 {
		m.advance(m.super, m.bytes)
		m.advance(m.super+segmentBlocks*m.scales, m.halfs)
	}
	m.addTotals(m.chain, m.y, m.quarters)
	m.op("CBNZ R%d, segment", left)
	m.give(m.ints...)
	m.storeTotals(m.chain, m.y, m.quarters)
	m.give(m.chain...)
	m.giveReg(append(append(m.x, m.y...), m.q, m.halfs, m.bytes, left, count)...)
}

// next moves on to the scales of the next block.
func (m *neonMul) next() {
	if m.kind != scaleF16 {
		m.advance(m.scales, m.bytes)
		return
	}
	m.advance(m.scales, m.halfs)
}

// clearTotals stores zeros where the results of some quarters of the rows go.
func (a *arm) clearTotals(zero vreg, y []xreg, quarters int) {
	a.do(movi4(zero, 0))
	for _, p := range y {
		for k := range quarters {
			a.do(strQ(zero, p, 16*k))
		}
	}
}

// addTotals adds the chains, by quarter and token, to the totals.
func (a *arm) addTotals(chain []vreg, y []xreg, quarters int) {
	v := a.vec()
	for t, p := range y {
		for k := range quarters {
			a.do(ldrQ(v, p, 16*k), fadd4(v, v, chain[k*len(y)+t]), strQ(v, p, 16*k))
		}
	}
	a.give(v)
}

// storeTotals passes the totals, which the last addition left in memory,
// through the floor. It uses two of the chains' registers.
func (a *arm) storeTotals(chain []vreg, y []xreg, quarters int) {
	least, v := a.constant(tiny), chain[0]
	for _, p := range y {
		for k := range quarters {
			a.do(ldrQ(v, p, 16*k))
			a.floor(v, least)
			a.do(strQ(v, p, 16*k))
		}
	}
	a.give(least)
}

// dots leaves the integer sums of sub-block h in m.ints. With two planes the
// high one comes first and is multiplied by 128.
func (m *neonMul) dots(h int) {
	for plane := m.planes - 1; plane >= 0; plane-- {
		line, first := plane*recordBytes, plane == m.planes-1
		m.startSums(h, line, first)
		m.loadHigh(h)
		switch {
		case m.halves == 2:
			m.loadActs(h, line)
			for j := range 4 {
				m.quad(h, j)
			}
		case m.dot || m.tokens == 1 && m.form.high == 0 && !m.booked && m.low == 4:
			m.loadActs(0, line)
			m.loadActs(1, line)
			m.both()
		default: // registers for one half of the record
			for half := range 2 {
				m.loadActs(half, line)
				for j := range 4 {
					m.single(half, j)
				}
				m.giveActs(half)
			}
		}
		m.giveActs(0)
		m.giveActs(1)
		m.give(m.high...)
		m.high = nil
		m.endSums(h, line, first)
	}
}

func (m *neonMul) loadActs(half, line int) {
	m.act[half] = m.vecs(m.tokens)
	for t, v := range m.act[half] {
		m.do(ldrQ(v, m.x[t], line+16*half))
	}
}

func (m *neonMul) giveActs(half int) {
	m.give(m.act[half]...)
	m.act[half] = nil
}

// loadHigh reads the plane of high bits that sub-block h needs.
func (m *neonMul) loadHigh(h int) {
	if m.form.high == 0 {
		return
	}
	at := 64 * m.low
	if m.form.high == 2 {
		at += 64 * h
	}
	m.high = m.vecs(m.quarters)
	for k, v := range m.high {
		m.do(ldrQ(v, m.q, at+16*k))
	}
}

// both multiplies a block's quads, the two that share a byte together.
func (m *neonMul) both() {
	if m.low == 8 {
		for half := range 2 {
			for j := range 4 {
				m.single(half, j)
			}
		}
		return
	}
	for j := range 4 {
		for k := range m.quarters {
			w, upper := m.vec(), m.vec()
			m.do(ldrQ(w, m.q, 64*j+16*k), ushr16(upper, w, 4), and16(w, w, m.mask))
			for half, v := range []vreg{w, upper} {
				m.finish(v, k, j+4*half)
				m.multiply(v, k, half, j)
			}
			m.give(w, upper)
		}
	}
}

// single multiplies quad j of half a block.
func (m *neonMul) single(half, j int) {
	for k := range m.quarters {
		w := m.vec()
		switch {
		case m.low == 8:
			m.do(ldrQ(w, m.q, 64*(4*half+j)+16*k), eor16(w, w, m.book))
		case half == 0:
			m.do(ldrQ(w, m.q, 64*j+16*k), and16(w, w, m.mask))
		default:
			m.do(ldrQ(w, m.q, 64*j+16*k), ushr16(w, w, 4))
		}
		m.finish(w, k, j+4*half)
		m.multiply(w, k, half, j)
		m.give(w)
	}
	m.sumWords(4*half+j, 7)
}

// finish gives the nibbles of a quad their high bit, or looks them up.
func (m *neonMul) finish(w vreg, k, quad int) {
	if m.form.high == 1 {
		m.setHigh(w, k, quad-4)
	}
	if m.booked {
		m.do(tbl(w, m.book, w))
	}
}

// setHigh sets the bits of w under hiMask from the high plane shifted right.
func (m *neonMul) setHigh(w vreg, k, right int) {
	if right == 0 {
		m.do(bit16(w, m.high[k], m.hiMask))
		return
	}
	t := m.vec()
	if right > 0 {
		m.do(ushr16(t, m.high[k], uint32(right)))
	} else {
		m.do(shl16(t, m.high[k], uint32(-right)))
	}
	m.do(bit16(w, t, m.hiMask))
	m.give(t)
}

// quad multiplies columns 4j..4j+3 of sub-block h, of two.
func (m *neonMul) quad(h, j int) {
	for k := range m.quarters {
		w := m.vec()
		at, right := 64*j, 4*h
		if m.low == 2 {
			at, right = 64*h, 2*j
		}
		m.do(ldrQ(w, m.q, at+16*k))
		if right > 0 {
			m.do(ushr16(w, w, uint32(right)))
		}
		if right+m.low < 8 {
			m.do(and16(w, w, m.mask))
		}
		switch m.form.high {
		case 1: // bit 4h+j to bit 2
			m.setHigh(w, k, 4*h+j-2)
		case 2: // bits 2j to bit 4
			m.setHigh(w, k, 2*j-4)
		}
		m.multiply(w, k, h, j)
		m.give(w)
	}
	m.sumWords(j, 3)
}
