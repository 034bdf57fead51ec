package quant

import (
	"fmt"
	"unsafe"
)

// GroupRows is the number of rows of a group.
const GroupRows = 16

// Packed is a weight matrix in the layout that kernels read. All numbers are
// little-endian.
//
// Rows are taken in groups of 16, the last one padded with zero bytes. A
// group's quants are contiguous along the columns and QStride bytes long, its
// scales SStride. Both planes start at addresses divisible by 64, and so do
// all groups.
//
// Quants come in blocks of 32 columns, a block in vectors of 64 bytes: 16 rows
// of one 4-byte word. With r the row within the group, i = 0..3 and q the
// stored (unsigned) quants of a row's block:
//
//   - 4-bit types (Q4_0 Q4_1 Q4_K IQ4_NL IQ4_XS MXFP4), 4 vectors:
//     byte[64j+4r+i] = q[4j+i] | q[16+4j+i]<<4.
//   - 5-bit types (Q5_0 Q5_1 Q5_K), 5 vectors: the low four bits as above, then
//     byte[256+4r+i]: bit j is bit 4 of q[4j+i], bit 4+j that of q[16+4j+i].
//   - Q6_K, 6 vectors: the low four bits, then byte[256+4r+i]: bits 2j and 2j+1
//     are the top bits of q[4j+i]; byte[320+4r+i]: the same of q[16+4j+i].
//   - Q2_K, 2 vectors: byte[64h+4r+i]: bits 2j and 2j+1 are q[16h+4j+i].
//   - Q3_K, 3 vectors: the low two bits as Q2_K, then bit 2 as the 5-bit types
//     store bit 4. The weight is q-4.
//   - Q8_0, 8 vectors: byte[64j+4r+i] = q[4j+i] XOR 0x80.
//   - F32, F16, BF16: no blocks. Column by column, 16 rows of 4 or 2 bytes.
//     QStride is rounded up to 64. There is no plane of scales.
//
// Scales of a group, arrays over its 16 rows:
//
//   - Q4_0 Q5_0 Q8_0 IQ4_NL: a block has f16 d[16]. Q4_1 Q5_1: f16 d[16],
//     f16 m[16]. MXFP4: the exponent bytes e[16].
//   - Q4_K Q5_K: 256 columns have f16 d[16], f16 dmin[16], then each of their 8
//     blocks has uint8 scale[16], uint8 min[16]. Q2_K: the same, but a block
//     has (scale | min<<4)[16] of its first half and [16] of its second.
//   - Q6_K, Q3_K: 256 columns have f16 d[16], then each block has int8
//     scale[16] of its first half and [16] of its second (Q3_K's less 32).
//     IQ4_XS: f16 d[16], then each block has int8 scale[16], less 32.
//
// SStride is rounded up to 64.
type Packed struct {
	Type       Type
	Rows, Cols int
	Quants     []byte
	Scales     []byte
}

// vectors is the number of 64-byte vectors of a block of 32 columns.
func (t Type) vectors() int {
	switch t {
	case Q4_0, Q4_1, Q4_K, IQ4_NL, IQ4_XS, MXFP4:
		return 4
	case Q5_0, Q5_1, Q5_K:
		return 5
	case Q6_K:
		return 6
	case Q2_K:
		return 2
	case Q3_K:
		return 3
	case Q8_0:
		return 8
	}
	return 0
}

// scaleBytes is the number of bytes in the plane of scales for one GGUF block
// of each of 16 rows.
func (t Type) scaleBytes() int {
	switch t {
	case Q4_0, Q5_0, Q8_0, IQ4_NL:
		return 32
	case Q4_1, Q5_1:
		return 64
	case MXFP4:
		return 16
	case Q4_K, Q5_K, Q2_K:
		return 320
	case Q6_K, Q3_K:
		return 288
	case IQ4_XS:
		return 160
	}
	return 0
}

func up64(n int) int { return (n + 63) &^ 63 }

// Strides gives the bytes of one group of 16 rows in each plane.
func Strides(t Type, cols int) (quants, scales int, err error) {
	if _, err := t.RowBytes(cols); err != nil {
		return 0, 0, err
	}
	q, s := strides(t, cols)
	return q, s, nil
}

func strides(t Type, cols int) (quants, scales int) {
	switch t {
	case F32:
		return 64 * cols, 0
	case F16, BF16:
		return up64(32 * cols), 0
	}
	return cols / 32 * 64 * t.vectors(), up64(cols / infos[t].BlockElems * t.scaleBytes())
}

// PackedSize gives the bytes of both planes of a matrix.
func PackedSize(t Type, rows, cols int) (quants, scales int64, err error) {
	if _, err := t.Bytes(rows, cols); err != nil {
		return 0, 0, err
	}
	q, s := strides(t, cols)
	groups := int64(rows+GroupRows-1) / GroupRows
	return groups * int64(q), groups * int64(s), nil
}

// maxNew bounds New: no machine that weft knows has as much memory.
const maxNew = 1 << 42

// New makes a packed matrix of zero bytes in fresh memory. Callers hold sizes
// from foreign files to the file's own size first.
func New(t Type, rows, cols int) (*Packed, error) {
	q, s, err := PackedSize(t, rows, cols)
	if err != nil {
		return nil, err
	}
	if q+s > maxNew {
		return nil, fmt.Errorf("%w: packed %s of %d by %d would take %d bytes of memory", ErrShape, t, rows, cols, q+s)
	}
	b := make([]byte, q+s+64)
	off := int64(-uintptr(unsafe.Pointer(&b[0])) & 63)
	return View(t, rows, cols, b[off:off+q+s:off+q+s])
}

// View reads a packed matrix from b, its quants followed by its scales, and
// nothing else. It keeps b. b must start at an address divisible by 64, as
// mapped files do.
func View(t Type, rows, cols int, b []byte) (*Packed, error) {
	q, s, err := PackedSize(t, rows, cols)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != q+s {
		return nil, fmt.Errorf("%w: packed %s of %d by %d takes %d bytes, there are %d", ErrShape, t, rows, cols, q+s, len(b))
	}
	if uintptr(unsafe.Pointer(&b[0]))&63 != 0 {
		return nil, fmt.Errorf("%w: packed %s of %d by %d does not start at a multiple of 64 bytes", ErrShape, t, rows, cols)
	}
	return &Packed{Type: t, Rows: rows, Cols: cols, Quants: b[:q:q], Scales: b[q:]}, nil
}

// Groups is the number of groups of 16 rows.
func (p *Packed) Groups() int { return (p.Rows + GroupRows - 1) / GroupRows }

// QStride is the number of bytes of a group in Quants.
func (p *Packed) QStride() int { q, _ := strides(p.Type, p.Cols); return q }

// SStride is the number of bytes of a group in Scales; 0 for float types.
func (p *Packed) SStride() int { _, s := strides(p.Type, p.Cols); return s }

// Bytes is the size of both planes.
func (p *Packed) Bytes() int64 { return int64(len(p.Quants)) + int64(len(p.Scales)) }

// rowsIn checks a range of groups against p and gives the rows it holds.
func (p *Packed) rowsIn(first, groups int) (row, rows int, err error) {
	if first < 0 || groups < 0 || first > p.Groups()-groups {
		return 0, 0, fmt.Errorf("%w: groups %d to %d of %d", ErrShape, first, first+groups-1, p.Groups())
	}
	row = first * GroupRows
	return row, max(0, min(p.Rows-row, groups*GroupRows)), nil
}
