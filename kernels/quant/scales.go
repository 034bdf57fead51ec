package quant

// finite16 reports whether the f16 h is neither NaN nor an infinity.
func finite16(h uint16) bool { return h&0x7c00 != 0x7c00 }

// put16 stores a GGUF block's f16 at src as row r's element of an array.
func put16(dst, src []byte, r int) bool {
	h := le.Uint16(src)
	le.PutUint16(dst[2*r:], h)
	return finite16(h)
}

func get16(dst, src []byte, r int) { le.PutUint16(dst, le.Uint16(src[2*r:])) }

// putScales stores the scales of one GGUF block as row r's. It reports whether
// the contract accepts them.
func putScales(t Type, s, block []byte, r int) bool {
	switch t {
	case Q4_0, Q5_0, Q8_0, IQ4_NL:
		return put16(s, block, r)
	case Q4_1, Q5_1:
		d, m := put16(s, block, r), put16(s[32:], block[2:], r)
		return d && m
	case MXFP4:
		s[r] = block[0]
		return block[0] != 255
	case Q4_K, Q5_K:
		d, m := put16(s, block, r), put16(s[32:], block[2:], r)
		var sc [16]byte
		kScales(block[4:16], &sc)
		for b := range 8 {
			s[64+32*b+r], s[80+32*b+r] = sc[b], sc[8+b]
		}
		return d && m
	case Q2_K:
		for i, v := range block[:16] {
			s[64+16*i+r] = v
		}
		d, m := put16(s, block[80:], r), put16(s[32:], block[82:], r)
		return d && m
	case Q6_K:
		for i, v := range block[192:208] {
			s[32+16*i+r] = v
		}
		return put16(s, block[208:], r)
	case Q3_K:
		var sc [16]byte
		q3Scales(block[96:108], &sc)
		for i, v := range sc {
			s[32+16*i+r] = v - 32
		}
		return put16(s, block[108:], r)
	case IQ4_XS:
		high := le.Uint16(block[2:])
		for b := range 8 {
			v := block[4+b/2]>>(4*(b%2))&15 | byte(high>>(2*b)&3)<<4
			s[32+16*b+r] = v - 32
		}
		return put16(s, block, r)
	}
	return false
}

// getScales undoes putScales.
func getScales(t Type, block, s []byte, r int) {
	switch t {
	case Q4_0, Q5_0, Q8_0, IQ4_NL:
		get16(block, s, r)
	case Q4_1, Q5_1:
		get16(block, s, r)
		get16(block[2:], s[32:], r)
	case MXFP4:
		block[0] = s[r]
	case Q4_K, Q5_K:
		get16(block, s, r)
		get16(block[2:], s[32:], r)
		var sc [16]byte
		for b := range 8 {
			sc[b], sc[8+b] = s[64+32*b+r], s[80+32*b+r]
		}
		joinKScales(block[4:16], &sc)
	case Q2_K:
		for i := range 16 {
			block[i] = s[64+16*i+r]
		}
		get16(block[80:], s, r)
		get16(block[82:], s[32:], r)
	case Q6_K:
		for i := range 16 {
			block[192+i] = s[32+16*i+r]
		}
		get16(block[208:], s, r)
	case Q3_K:
		var sc [16]byte
		for i := range sc {
			sc[i] = s[32+16*i+r] + 32
		}
		joinQ3Scales(block[96:108], &sc)
		get16(block[108:], s, r)
	case IQ4_XS:
		get16(block, s, r)
		getXSScales(block, s, r)
	}
}

func getXSScales(block, s []byte, r int) {
	var high uint16
	clear(block[4:8])
	for b := range 8 {
		v := s[32+16*b+r] + 32
		block[4+b/2] |= v & 15 << (4 * (b % 2))
		high |= uint16(v>>4&3) << (2 * b)
	}
	le.PutUint16(block[2:], high)
}

// kScales unpacks the 6-bit scales [0:8] and minimums [8:16] of Q4_K and Q5_K
// from their 12 bytes: the first four of each are the low six bits of bytes
// 0..7; the last four have their low bits in bytes 8..11, the top two in the
// spare bits of bytes 0..7.
func kScales(p []byte, sc *[16]byte) {
	p = p[:12]
	for j := range 4 {
		sc[j], sc[8+j] = p[j]&63, p[4+j]&63
		sc[4+j] = p[8+j]&15 | p[j]>>6<<4
		sc[12+j] = p[8+j]>>4 | p[4+j]>>6<<4
	}
}

func joinKScales(p []byte, sc *[16]byte) {
	for j := range 4 {
		p[j] = sc[j]&63 | sc[4+j]>>4<<6
		p[4+j] = sc[8+j]&63 | sc[12+j]>>4<<6
		p[8+j] = sc[4+j]&15 | sc[12+j]<<4
	}
}

// q3Scales unpacks Q3_K's sixteen 6-bit scales: byte i%8 holds the low four
// bits of scale i, in its low half for i < 8; byte 8+i%4 the top two at bit
// 2(i/4).
func q3Scales(p []byte, sc *[16]byte) {
	p = p[:12]
	for i := range sc {
		sc[i] = p[i%8]>>(4*(i/8))&15 | p[8+i%4]>>(2*(i/4))&3<<4
	}
}

func joinQ3Scales(p []byte, sc *[16]byte) {
	clear(p)
	for i, v := range sc {
		p[i%8] |= v & 15 << (4 * (i / 8))
		p[8+i%4] |= v >> 4 & 3 << (2 * (i / 4))
	}
}
