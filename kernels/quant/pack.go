package quant

import (
	"encoding/binary"
	"fmt"
)

var le = binary.LittleEndian

// maxWords is the most words that a GGUF block of a row packs to: Q6_K's 8
// blocks of 6 vectors.
const maxWords = 48

// Pack fills the given groups from src, the GGUF bytes of their rows (and of no
// others): rows first*16 up to 16*groups more or the matrix's last. Distinct
// ranges may be packed at the same time. A scale, minimum or float weight that
// is not finite gives an ErrValue that names the row; what was packed until
// then stays.
func (p *Packed) Pack(src []byte, first, groups int) error {
	row, rows, err := p.rowsIn(first, groups)
	if err != nil {
		return err
	}
	rowBytes, err := p.Type.RowBytes(p.Cols)
	if err != nil {
		return err
	}
	if int64(len(src)) != rowBytes*int64(rows) {
		return fmt.Errorf("%w: %d rows of %s by %d take %d bytes, there are %d", ErrShape, rows, p.Type, p.Cols, rowBytes*int64(rows), len(src))
	}
	qs, ss := strides(p.Type, p.Cols)
	for g := first; g < first+groups; g++ {
		n := min(GroupRows, row+rows-g*GroupRows)
		s := src[:int64(n)*rowBytes]
		src = src[len(s):]
		q := p.Quants[g*qs : (g+1)*qs]
		sc := p.Scales[g*ss : (g+1)*ss]
		var bad int
		switch p.Type {
		case F32:
			bad = packF32(q, s, n)
		case F16, BF16:
			bad = pack16(p.Type, q, s, n)
		default:
			bad = packGroup(p.Type, q, sc, s, n)
		}
		if bad >= 0 {
			return fmt.Errorf("%w: row %d of a %s matrix of %d by %d", ErrValue, g*GroupRows+bad, p.Type, p.Rows, p.Cols)
		}
	}
	return nil
}

// packGroup packs n rows of a quantised type. It returns the first row whose
// scales are refused, or -1.
func packGroup(t Type, q, sc, src []byte, n int) int {
	if n < GroupRows { // what other rows held must not stay behind
		clear(q)
		clear(sc)
	}
	info := infos[t]
	rowBytes := len(src) / n
	blocks := rowBytes / info.BlockBytes
	scaleBytes := t.scaleBytes()
	words := info.BlockElems / 32 * t.vectors()
	var w [maxWords]uint32
	bad := GroupRows
	for b := range blocks {
		out := q[b*words*64 : (b+1)*words*64]
		s := sc[b*scaleBytes : (b+1)*scaleBytes]
		for r := range n {
			block := src[r*rowBytes+b*info.BlockBytes:][:info.BlockBytes]
			switch t {
			case Q4_0, Q4_1, IQ4_NL, MXFP4:
				scatter4(out[4*r:], block[info.BlockBytes-16:], 0)
			case Q8_0:
				scatter4(out[4*r:], block[2:], 0x80808080)
				scatter4(out[256+4*r:], block[18:], 0x80808080)
			default:
				split(t, block, &w)
				scatter(out[4*r:], w[:words])
			}
			if !putScales(t, s, block, r) {
				bad = min(bad, r)
			}
		}
	}
	if bad < GroupRows {
		return bad
	}
	return -1
}

// scatter stores words 64 bytes apart: one row's share of as many vectors.
func scatter(out []byte, w []uint32) {
	for len(w) >= 2 && len(out) >= 68 {
		le.PutUint32(out, w[0])
		le.PutUint32(out[64:], w[1])
		w, out = w[2:], out[min(128, len(out)):]
	}
	if len(w) > 0 {
		le.PutUint32(out, w[0])
	}
}

// scatter4 is scatter for 16 bytes that need no splitting, each word flipped by
// flip.
func scatter4(out, in []byte, flip uint32) {
	o, s := (*[196]byte)(out), (*[16]byte)(in)
	le.PutUint32(o[0:], le.Uint32(s[0:])^flip)
	le.PutUint32(o[64:], le.Uint32(s[4:])^flip)
	le.PutUint32(o[128:], le.Uint32(s[8:])^flip)
	le.PutUint32(o[192:], le.Uint32(s[12:])^flip)
}

// packF32 transposes n rows of 4-byte elements.
func packF32(q, src []byte, n int) int {
	if n < GroupRows {
		clear(q)
	}
	rowBytes := len(src) / n
	bad := GroupRows
	const step = 64 // columns at a time: their 4 KiB of output stay in cache
	for k0 := 0; k0 < rowBytes/4; k0 += step {
		for r := range n {
			in := src[r*rowBytes+4*k0 : min((r+1)*rowBytes, r*rowBytes+4*(k0+step))]
			out := q[k0*64+4*r:]
			for k := 0; k+4 <= len(in); k += 4 {
				v := le.Uint32(in[k:])
				if v&0x7f800000 == 0x7f800000 {
					bad = min(bad, r)
				}
				le.PutUint32(out[16*k:], v)
			}
		}
	}
	if bad < GroupRows {
		return bad
	}
	return -1
}

// pack16 transposes n rows of 2-byte elements, two rows at a time.
func pack16(t Type, q, src []byte, n int) int {
	if n < GroupRows {
		clear(q)
	}
	exp := uint32(0x7c00)
	if t == BF16 {
		exp = 0x7f80
	}
	rowBytes := len(src) / n
	zeros := make([]byte, 0)
	if n%2 == 1 {
		zeros = make([]byte, rowBytes)
	}
	bad := GroupRows
	const step = 128
	for k0 := 0; k0 < rowBytes; k0 += step {
		end := min(rowBytes, k0+step)
		for r := 0; r < n; r += 2 {
			a, b := src[r*rowBytes+k0:r*rowBytes+end], zeros
			if r+1 < n {
				b = src[(r+1)*rowBytes+k0 : (r+1)*rowBytes+end]
			}
			b = b[:len(a)]
			out := q[k0*16+2*r:]
			for k := 0; k+2 <= len(a); k += 2 {
				lo, hi := uint32(le.Uint16(a[k:])), uint32(le.Uint16(b[k:]))
				if lo&exp == exp {
					bad = min(bad, r)
				}
				if hi&exp == exp {
					bad = min(bad, r+1)
				}
				le.PutUint32(out[16*k:], lo|hi<<16)
			}
		}
	}
	if bad < GroupRows {
		return bad
	}
	return -1
}
