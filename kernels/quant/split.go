package quant

const (
	ones   = 0x01010101
	twos   = 0x03030303
	nibble = 0x0f0f0f0f
)

// split turns the quants of one GGUF block of a row into the row's words of the
// packed vectors, block after block of 32 columns. Types whose words are GGUF's
// own are not here: scatter4 copies them.
func split(t Type, s []byte, w *[maxWords]uint32) {
	switch t {
	case IQ4_XS:
		splitNibbles(s[8:], w[:32])
	case Q5_0:
		splitNibbles(s[6:], w[:4])
		w[4] = spread(le.Uint32(s[2:]))
	case Q5_1:
		splitNibbles(s[8:], w[:4])
		w[4] = spread(le.Uint32(s[4:]))
	case Q4_K:
		splitPairs(s[16:144], w, 4)
	case Q5_K:
		splitPairs(s[48:176], w, 5)
		splitBits(s[16:48], w, 4, 5)
	case Q6_K:
		splitQ6K(s, w)
	case Q2_K:
		splitTwos(s[16:80], w, 2)
	case Q3_K:
		splitTwos(s[32:96], w, 3)
		splitBits(s[:32], w, 2, 3)
	}
}

// join undoes split: it writes the quants back into a GGUF block.
func join(t Type, d []byte, w *[maxWords]uint32) {
	switch t {
	case Q4_0:
		joinNibbles(d[2:], w[:4])
	case Q4_1:
		joinNibbles(d[4:], w[:4])
	case IQ4_NL:
		joinNibbles(d[2:], w[:4])
	case MXFP4:
		joinNibbles(d[1:], w[:4])
	case IQ4_XS:
		joinNibbles(d[8:], w[:32])
	case Q5_0:
		joinNibbles(d[6:], w[:4])
		le.PutUint32(d[2:], unspread(w[4]))
	case Q5_1:
		joinNibbles(d[8:], w[:4])
		le.PutUint32(d[4:], unspread(w[4]))
	case Q8_0:
		for j := range 8 {
			le.PutUint32(d[2+4*j:], w[j]^0x80808080)
		}
	case Q4_K:
		joinPairs(d[16:144], w, 4)
	case Q5_K:
		joinPairs(d[48:176], w, 5)
		joinBits(d[16:48], w, 4, 5)
	case Q6_K:
		joinQ6K(d, w)
	case Q2_K:
		joinTwos(d[16:80], w, 2)
	case Q3_K:
		joinTwos(d[32:96], w, 3)
		joinBits(d[:32], w, 2, 3)
	}
}

// splitNibbles: the packed order of nibbles is GGUF's own.
func splitNibbles(qs []byte, w []uint32) {
	qs = qs[:4*len(w)]
	for j := range w {
		w[j] = le.Uint32(qs[4*j:])
	}
}

func joinNibbles(qs []byte, w []uint32) {
	for j := range w {
		le.PutUint32(qs[4*j:], w[j])
	}
}

// spreadTable moves bit 4j+i of a byte (j = 0, 1) to bit j of byte i;
// unspreadTable moves bit 4h+j of a byte to bit 16h+4j.
var spreadTable, unspreadTable = func() (s, u [256]uint32) {
	for x := range 256 {
		for bit := range 8 {
			v := uint32(x >> bit & 1)
			s[x] |= v << (8*(bit%4) + bit/4)
			u[x] |= v << (16*(bit/4) + 4*(bit%4))
		}
	}
	return s, u
}()

// spread moves bit 16h+4j+i of a row's 32 high bits to bit 4h+j of byte i.
func spread(qh uint32) uint32 {
	return spreadTable[qh&255] | spreadTable[qh>>8&255]<<2 | spreadTable[qh>>16&255]<<4 | spreadTable[qh>>24]<<6
}

func unspread(w uint32) uint32 {
	return unspreadTable[w&255] | unspreadTable[w>>8&255]<<1 | unspreadTable[w>>16&255]<<2 | unspreadTable[w>>24]<<3
}

// splitPairs: 32 bytes hold the nibbles of two blocks, one in their low and
// one in their high halves (Q4_K, Q5_K).
func splitPairs(qs []byte, w *[maxWords]uint32, vectors int) {
	for pair := range 4 {
		lo, hi := w[2*pair*vectors:][:4], w[(2*pair+1)*vectors:][:4]
		s := qs[32*pair:][:32]
		for j := range 4 {
			a, c := le.Uint32(s[4*j:]), le.Uint32(s[16+4*j:])
			lo[j] = a&nibble | c&nibble<<4
			hi[j] = a>>4&nibble | c&(nibble<<4)
		}
	}
}

func joinPairs(qs []byte, w *[maxWords]uint32, vectors int) {
	for pair := range 4 {
		lo, hi := w[2*pair*vectors:][:4], w[(2*pair+1)*vectors:][:4]
		d := qs[32*pair:][:32]
		for j := range 4 {
			le.PutUint32(d[4*j:], lo[j]&nibble|hi[j]&nibble<<4)
			le.PutUint32(d[16+4*j:], lo[j]>>4&nibble|hi[j]&(nibble<<4))
		}
	}
}

// splitBits: bit b of byte k belongs to element k of block b (Q5_K, Q3_K).
func splitBits(qh []byte, w *[maxWords]uint32, at, vectors int) {
	var h [8]uint32
	for t := range h {
		h[t] = le.Uint32(qh[4*t:])
	}
	for b := range 8 {
		var v uint32
		for t, x := range h {
			v |= x >> b & ones << t
		}
		w[b*vectors+at] = v
	}
}

func joinBits(qh []byte, w *[maxWords]uint32, at, vectors int) {
	for t := range 8 {
		var v uint32
		for b := range 8 {
			v |= w[b*vectors+at] >> t & ones << b
		}
		le.PutUint32(qh[4*t:], v)
	}
}

// splitTwos: 32 bytes hold the low two bits of four blocks (Q2_K, Q3_K).
func splitTwos(qs []byte, w *[maxWords]uint32, vectors int) {
	for half := range 2 {
		var s [8]uint32
		for t := range s {
			s[t] = le.Uint32(qs[32*half+4*t:])
		}
		for c := range 4 {
			out := w[(4*half+c)*vectors:][:2]
			out[0] = fourTwos(s[:4], 2*c)
			out[1] = fourTwos(s[4:], 2*c)
		}
	}
}

// fourTwos takes the two bits at shift of each byte of four words and stacks
// them.
func fourTwos(s []uint32, shift int) uint32 {
	return s[0]>>shift&twos | s[1]>>shift&twos<<2 | s[2]>>shift&twos<<4 | s[3]>>shift&twos<<6
}

func joinTwos(qs []byte, w *[maxWords]uint32, vectors int) {
	for half := range 2 {
		for t := range 8 {
			var v uint32
			for c := range 4 {
				v |= w[(4*half+c)*vectors+t/4] >> (2 * (t % 4)) & twos << (2 * c)
			}
			le.PutUint32(qs[32*half+4*t:], v)
		}
	}
}

// splitQ6K: half n of the block keeps the nibbles of its four blocks c at
// ql[64n+32(c&1)], low or high by c>>1, and their top bits at qh[32n], bits 2c.
func splitQ6K(src []byte, w *[maxWords]uint32) {
	for b := range 8 {
		n, c := b/4, b%4
		ql, qh := src[64*n+32*(c&1):][:32], src[128+32*n:][:32]
		out := w[6*b:][:6]
		shift := 4 * (c >> 1)
		var lo, hi uint32
		for j := range 4 {
			out[j] = le.Uint32(ql[4*j:])>>shift&nibble | le.Uint32(ql[16+4*j:])>>shift&nibble<<4
			lo |= le.Uint32(qh[4*j:]) >> (2 * c) & twos << (2 * j)
			hi |= le.Uint32(qh[16+4*j:]) >> (2 * c) & twos << (2 * j)
		}
		out[4], out[5] = lo, hi
	}
}

func joinQ6K(dst []byte, w *[maxWords]uint32) {
	clear(dst[:192])
	or32 := func(b []byte, v uint32) { le.PutUint32(b, le.Uint32(b)|v) }
	for b := range 8 {
		n, c := b/4, b%4
		ql, qh := dst[64*n+32*(c&1):][:32], dst[128+32*n:][:32]
		in := w[6*b:][:6]
		shift := 4 * (c >> 1)
		for j := range 4 {
			or32(ql[4*j:], in[j]&nibble<<shift)
			or32(ql[16+4*j:], in[j]>>4&nibble<<shift)
			or32(qh[4*j:], in[4]>>(2*j)&twos<<(2*c))
			or32(qh[16+4*j:], in[5]>>(2*j)&twos<<(2*c))
		}
	}
}
