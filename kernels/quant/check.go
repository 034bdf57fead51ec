package quant

import "fmt"

// Check looks through the given groups of a packed matrix, one read from a file
// for example, for what Pack would have refused: scales, minimums and float
// weights that are not finite. The error, an ErrValue, names the row. It reads
// all of a float matrix, of others the plane of scales alone.
func (p *Packed) Check(first, groups int) error {
	if _, _, err := p.rowsIn(first, groups); err != nil {
		return err
	}
	qs, ss := strides(p.Type, p.Cols)
	for g := first; g < first+groups; g++ {
		var bad int
		switch p.Type {
		case F32:
			bad = infinite(p.Quants[g*qs:(g+1)*qs], 4, 0x7f800000)
		case F16:
			bad = infinite(p.Quants[g*qs:(g+1)*qs], 2, 0x7c00)
		case BF16:
			bad = infinite(p.Quants[g*qs:(g+1)*qs], 2, 0x7f80)
		default:
			bad = badScale(p.Type, p.Scales[g*ss:(g+1)*ss], p.Cols/infos[p.Type].BlockElems)
		}
		if bad >= 0 {
			return fmt.Errorf("%w: row %d of a packed %s matrix of %d by %d", ErrValue, g*GroupRows+bad, p.Type, p.Rows, p.Cols)
		}
	}
	return nil
}

// infinite finds the first of 16 interleaved rows with a float of the given
// size whose exponent is all ones, or gives -1.
func infinite(b []byte, size int, exponent uint32) int {
	first := GroupRows
	for i := 0; i+size <= len(b); i += size {
		v := uint32(le.Uint16(b[i:]))
		if size == 4 {
			v = le.Uint32(b[i:])
		}
		if v&exponent == exponent {
			first = min(first, i/size%GroupRows)
		}
	}
	if first == GroupRows {
		return -1
	}
	return first
}

// badScale finds the first row of a group whose scales are refused, or gives
// -1. The scales of each GGUF block begin with arrays of f16: one, or two
// where the type has minimums. MXFP4 has exponents.
func badScale(t Type, s []byte, blocks int) int {
	size, halves := t.scaleBytes(), 32
	if infos[t].Minimum {
		halves = 64
	}
	first := GroupRows
	for b := range blocks {
		block := s[b*size : (b+1)*size]
		if t == MXFP4 {
			for r, e := range block {
				if e == 255 {
					first = min(first, r)
				}
			}
			continue
		}
		if r := infinite(block[:halves], 2, 0x7c00); r >= 0 {
			first = min(first, r)
		}
	}
	if first == GroupRows {
		return -1
	}
	return first
}
