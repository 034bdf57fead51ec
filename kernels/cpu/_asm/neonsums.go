package main

// multiply adds the products of quarter k's quad with the four activations at
// place j of half a record.
func (m *neonMul) multiply(w vreg, k, half, j int) {
	for t, x := range m.act[half] {
		i := k*m.tokens + t
		if m.dot {
			m.do(sdot(m.ints[i], w, x, j))
			continue
		}
		b := m.vec()
		m.do(dup4(b, x, j))
		if m.fresh[i] {
			m.do(smull(m.words[0][i], w, b), smull2(m.words[1][i], w, b))
		} else {
			m.do(smlal(m.words[0][i], w, b), smlal2(m.words[1][i], w, b))
		}
		m.fresh[i] = false
		m.give(b)
	}
}

// neonRoom is how many quads' products fit in 16 bits, for activations of up to
// 127 and the largest weight that the form can hold as it is multiplied.
func (m *neonMul) neonRoom() int {
	largest := 1<<(m.low+m.form.high) - 1
	switch {
	case m.low == 8:
		largest = 128
	case m.booked:
		largest = 0
		for _, n := range m.form.book {
			largest = max(largest, int(n), -int(n))
		}
	}
	return 32767 / (127 * largest)
}

// quads is the number of quads of a sub-block.
func (m *neonMul) quads() int { return 8 / m.halves }

// startSums makes the sums of a plane empty. With SDOT they start at the
// correction for the type's offset.
func (m *neonMul) startSums(h, line int, first bool) {
	if !m.dot {
		n := m.quarters * m.tokens
		m.words = [2][]vreg{m.vecs(n), m.vecs(n)}
		if m.neonRoom() < m.quads() {
			m.sums = [2][]vreg{m.vecs(n), m.vecs(n)}
		}
		m.empty()
		m.folded = false
		return
	}
	for _, v := range m.ints {
		switch {
		case !first:
			m.do(shl4(v, v, 7))
		case !m.corrected():
			m.do(movi4(v, 0))
		}
	}
	m.correct(h, line, first)
}

// empty marks the words as holding nothing.
func (m *neonMul) empty() {
	m.fresh = make([]bool, m.quarters*m.tokens)
	for i := range m.fresh {
		m.fresh[i] = true
	}
}

// sumWords is called after a quad, with its number and the last one's. It adds
// the words to the sums where the next quad's would not fit.
func (m *neonMul) sumWords(quad, last int) {
	if m.dot || m.sums[0] == nil {
		return
	}
	if room := m.neonRoom(); quad%room != room-1 && quad != last {
		return
	}
	add := saddlp
	if m.folded {
		add = sadalp
	}
	for p, words := range m.words {
		for i, v := range words {
			m.do(add(m.sums[p][i], v))
		}
	}
	m.folded = true
	m.empty()
}

// endSums brings the products of 16 bits together in m.ints.
func (m *neonMul) endSums(h, line int, first bool) {
	if m.dot {
		return
	}
	for i, v := range m.ints {
		low, high := m.words[0][i], m.words[1][i]
		if m.folded {
			low, high = m.sums[0][i], m.sums[1][i]
		} else {
			m.do(saddlp(low, low), saddlp(high, high))
		}
		if first {
			m.do(addp4(v, low, high))
		} else {
			m.do(addp4(low, low, high), shl4(v, v, 7), add4(v, v, low))
		}
	}
	for p := range 2 {
		m.give(m.words[p]...)
		m.give(m.sums[p]...)
	}
	m.words, m.sums = [2][]vreg{}, [2][]vreg{}
	m.correct(h, line, false)
}

// corrected reports whether stored quants differ from weights by an offset
// that the record's sums make up for. Codebooks and bytes are signed already.
func (m *neonMul) corrected() bool { return m.offset != 0 && !m.booked && m.low != 8 }

// correct adds -offset times the sum of the activations. At the start of dot
// products it is put in their place, for the first quarter.
func (m *neonMul) correct(h, line int, start bool) {
	if !m.corrected() {
		return
	}
	at, left := recSum8, m.offset/8-1 // 8 and 16
	switch m.offset {
	case 32:
		at, left = recSum32+4*h, 0
	case 4:
		at, left = recSum32+4*h, -3
	}
	c := m.vec()
	for t, x := range m.x {
		m.do(ldrS(c, x, line+at), dup4(c, c, 0))
		if left > 0 {
			m.do(shl4(c, c, uint32(left)))
		} else if left < 0 {
			m.do(sshr4(c, c, uint32(-left)))
		}
		for k := range m.quarters {
			v := m.ints[k*m.tokens+t]
			if start {
				m.do(move(v, c))
			} else {
				m.do(add4(v, v, c))
			}
		}
	}
	m.give(c)
}

// extend adds the sub-block's terms to the chains.
func (m *neonMul) extend(h int) {
	place := recS
	if m.halves == 2 {
		place = recSHalf + 4*h
	}
	var scales, minimums []vreg
	var negative bool
	for k := range m.quarters {
		scales = append(scales, m.scale(k, h))
		if m.min {
			var v vreg
			v, negative = m.minimum(k, h)
			minimums = append(minimums, v)
		}
	}
	d, s, f := m.vec(), m.vec(), m.vec()
	for t, x := range m.x {
		m.do(ldrS(d, x, recD))
		if m.min {
			m.do(ldrS(s, x, place))
		}
		for k := range m.quarters {
			i := k*m.tokens + t
			m.do(fmulLane(f, scales[k], d, 0), scvtf4(m.ints[i], m.ints[i]), fmla4(m.chain[i], f, m.ints[i]))
			switch {
			case m.min && negative:
				m.do(fmlsLane(m.chain[i], minimums[k], s, 0))
			case m.min:
				m.do(fmlaLane(m.chain[i], minimums[k], s, 0))
			}
		}
	}
	m.give(d, s, f)
	m.give(scales...)
	m.give(minimums...)
}

// half reads four half precision numbers.
func (m *neonMul) half(at int) vreg {
	v := m.vec()
	m.do(ldrD(v, m.halfs, at), fcvtl(v, v))
	return v
}

// unsignedBytes reads four bytes as integers.
func (m *neonMul) unsignedBytes(at int) vreg {
	v := m.vec()
	m.do(ldrS(v, m.bytes, at), uxtBytes(v, v), uxtWords(v, v))
	return v
}

// scale gives the scales of quarter k's rows.
func (m *neonMul) scale(k, h int) vreg {
	var v vreg
	switch m.kind {
	case scaleF16:
		return m.half(8 * k)
	case scaleExponent:
		return m.exponent(k)
	case scaleK:
		v = m.unsignedBytes(4 * k)
	case scaleNibbleK:
		v = m.unsignedBytes(16*h + 4*k)
		m.do(shl4(v, v, 28), ushr4(v, v, 28))
	case scaleSigned:
		v = m.vec()
		m.do(ldrS(v, m.bytes, 16*h+4*k), sxtBytes(v, v), sxtWords(v, v))
	}
	d := m.half(8 * k)
	m.do(scvtf4(v, v), fmul4(v, v, d))
	m.give(d)
	return v
}

// minimum gives the minimums of quarter k's rows, or their negatives.
func (m *neonMul) minimum(k, h int) (v vreg, negative bool) {
	switch m.kind {
	case scaleF16:
		return m.half(32 + 8*k), false
	case scaleK:
		v = m.unsignedBytes(16 + 4*k)
	default: // scaleNibbleK
		v = m.unsignedBytes(16*h + 4*k)
		m.do(ushr4(v, v, 4))
	}
	d := m.half(32 + 8*k)
	m.do(scvtf4(v, v), fmul4(v, v, d))
	m.give(d)
	return v, true
}

// exponent gives 2^(e-128), and zero where that is below the contract's least
// scale, 2^-24.
func (m *neonMul) exponent(k int) vreg {
	v, c := m.unsignedBytes(4*k), m.vec()
	alive := m.vec()
	m.do(movi4(c, 128-24), cmhs4(alive, v, c), movi4(c, 1), sub4(v, v, c), shl4(v, v, 23), and16(v, v, alive))
	m.give(c, alive)
	return v
}
