package quant

import "fmt"

// Unpack writes the GGUF bytes of the given groups' rows to dst: the exact
// inverse of Pack. dst must have their size. Distinct ranges may be unpacked at
// the same time.
func (p *Packed) Unpack(dst []byte, first, groups int) error {
	row, rows, err := p.rowsIn(first, groups)
	if err != nil {
		return err
	}
	rowBytes, err := p.Type.RowBytes(p.Cols)
	if err != nil {
		return err
	}
	if int64(len(dst)) != rowBytes*int64(rows) {
		return fmt.Errorf("%w: %d rows of %s by %d take %d bytes, there is room for %d", ErrShape, rows, p.Type, p.Cols, rowBytes*int64(rows), len(dst))
	}
	for r := range rows {
		p.unpackRow(dst[int64(r)*rowBytes:int64(r+1)*rowBytes], row+r)
	}
	return nil
}

// unpackRow writes the GGUF bytes of one row.
func (p *Packed) unpackRow(dst []byte, row int) {
	qs, ss := strides(p.Type, p.Cols)
	g, r := row/GroupRows, row%GroupRows
	q := p.Quants[g*qs : (g+1)*qs]
	switch p.Type {
	case F32:
		for k := range p.Cols {
			le.PutUint32(dst[4*k:], le.Uint32(q[64*k+4*r:]))
		}
		return
	case F16, BF16:
		for k := range p.Cols {
			le.PutUint16(dst[2*k:], le.Uint16(q[32*k+2*r:]))
		}
		return
	}
	info := infos[p.Type]
	words := info.BlockElems / 32 * p.Type.vectors()
	scaleBytes := p.Type.scaleBytes()
	sc := p.Scales[g*ss : (g+1)*ss]
	var w [maxWords]uint32
	for b := range p.Cols / info.BlockElems {
		in := q[b*words*64 : (b+1)*words*64]
		for v := range words {
			w[v] = le.Uint32(in[64*v+4*r:])
		}
		block := dst[b*info.BlockBytes : (b+1)*info.BlockBytes]
		join(p.Type, block, &w)
		getScales(p.Type, block, sc[b*scaleBytes:(b+1)*scaleBytes], r)
	}
}
