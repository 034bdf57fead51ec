package cpu

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/quant"
)

// format is where a weight type keeps things in the packed layout of package
// quant. Sizes are bytes for a group of 16 rows.
type format struct {
	quants int // of a block of 32 columns (float types: of one column)
	scales int // of a block
	super  int // that come before the scales of each 8 blocks
	halves int // sub-blocks of a block: 1, or 2 of 16 columns
}

var formats = map[quant.Type]format{
	quant.F32:    {quants: 64},
	quant.F16:    {quants: 32},
	quant.BF16:   {quants: 32},
	quant.Q4_0:   {quants: 256, scales: 32, halves: 1},
	quant.Q4_1:   {quants: 256, scales: 64, halves: 1},
	quant.Q5_0:   {quants: 320, scales: 32, halves: 1},
	quant.Q5_1:   {quants: 320, scales: 64, halves: 1},
	quant.Q8_0:   {quants: 512, scales: 32, halves: 1},
	quant.IQ4_NL: {quants: 256, scales: 32, halves: 1},
	quant.MXFP4:  {quants: 256, scales: 16, halves: 1},
	quant.Q4_K:   {quants: 256, scales: 32, super: 64, halves: 1},
	quant.Q5_K:   {quants: 320, scales: 32, super: 64, halves: 1},
	quant.IQ4_XS: {quants: 256, scales: 16, super: 32, halves: 1},
	quant.Q2_K:   {quants: 128, scales: 32, super: 64, halves: 2},
	quant.Q3_K:   {quants: 192, scales: 32, super: 32, halves: 2},
	quant.Q6_K:   {quants: 384, scales: 32, super: 32, halves: 2},
}

// strides gives the bytes of a group of 16 rows in both planes.
func (f format) strides(t quant.Type, cols int) (quants, scales int) {
	if t.Float() {
		return up64(cols * f.quants), 0
	}
	blocks := cols / 32
	return blocks * f.quants, up64(blocks*f.scales + blocks/8*f.super)
}

func up64(n int) int { return (n + 63) &^ 63 }

// matrix is a weight matrix whose bytes are the caller's.
type matrix struct {
	d          *Device
	kind       quant.Type
	format     format
	rows, cols int
	groups     int
	quants     []byte
	scales     []byte
	qStride    int // bytes from group to group
	sStride    int
}

// Shape gives rows (outputs) and columns (inputs).
func (m *matrix) Shape() (rows, cols int) { return m.rows, m.cols }

// Close forgets the matrix; its bytes may go afterwards.
func (m *matrix) Close() error {
	if m.d == nil {
		return nil
	}
	m.d.flush()
	if m.kind.Float() {
		m.d.floats--
	} else {
		m.d.quantised--
	}
	m.d, m.quants, m.scales = nil, nil, nil
	return nil
}

// NewMatrix makes a matrix that reads p's bytes where they are.
func (d *Device) NewMatrix(p *quant.Packed) (kernels.Matrix, error) {
	f, ok := formats[p.Type]
	if !ok {
		return nil, fmt.Errorf("make matrix of %s: the cpu device has no kernel for this type", p.Type)
	}
	if _, err := p.Type.Bytes(p.Rows, p.Cols); err != nil {
		return nil, fmt.Errorf("make matrix of %d rows by %d columns: %w", p.Rows, p.Cols, err)
	}
	m := &matrix{d: d, kind: p.Type, format: f, rows: p.Rows, cols: p.Cols, groups: (p.Rows + 15) / 16, quants: p.Quants, scales: p.Scales}
	m.qStride, m.sStride = f.strides(p.Type, p.Cols)
	if len(p.Quants) < m.groups*m.qStride || len(p.Scales) < m.groups*m.sStride {
		return nil, fmt.Errorf("make matrix of %s, %d rows by %d columns: planes of %d and %d bytes; want %d and %d",
			p.Type, p.Rows, p.Cols, len(p.Quants), len(p.Scales), m.groups*m.qStride, m.groups*m.sStride)
	}
	d.makeRoom(m)
	if p.Type.Float() {
		d.floats++
	} else {
		d.quantised++
	}
	return m, nil
}

func asMatrix(h kernels.Matrix) *matrix {
	m, ok := h.(*matrix)
	if !ok {
		panic(fmt.Sprintf("cpu: foreign matrix %T", h))
	}
	if m.d == nil {
		panic("cpu: use of a closed matrix")
	}
	return m
}

// panel is one block of 32 columns of a group, unpacked: what portable code
// computes with. Types with one sub-block use the first scale and minimum.
type panel struct {
	first, last int // rows that are unpacked
	w           [16][32]int8
	scale       [2][16]float32
	min         [2][16]float32
}

// Codebooks of the types that store indices; MXFP4's is doubled, as its scale
// is halved.
var (
	codebookIQ4  = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
	codebookMXFP = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}
)

// unpack fills rows first to last-1 of p with block b of group g.
func (m *matrix) unpack(p *panel, g, b, first, last int) {
	p.first, p.last = first, last
	f := m.format
	q := m.quants[g*m.qStride+b*f.quants:][:f.quants]
	s := m.scales[g*m.sStride : (g+1)*m.sStride]
	super := s[b/8*(f.super+8*f.scales):]
	sub := s[(b/8+1)*f.super+b*f.scales:][:f.scales]
	m.unpackQuants(p, q)
	m.unpackScales(p, super, sub)
}

func (m *matrix) unpackQuants(p *panel, q []byte) {
	switch m.kind {
	case quant.Q8_0:
		eachQuad(p, func(r, j, i int) int8 { return int8(q[64*j+4*r+i] ^ 0x80) })
	case quant.Q2_K:
		eachQuad(p, func(r, j, i int) int8 { return int8(q[64*(j/4)+4*r+i] >> (2 * (j % 4)) & 3) })
	case quant.Q3_K:
		eachQuad(p, func(r, j, i int) int8 {
			low := q[64*(j/4)+4*r+i] >> (2 * (j % 4)) & 3
			return int8(low|q[128+4*r+i]>>j&1<<2) - 4
		})
	case quant.Q6_K:
		eachQuad(p, func(r, j, i int) int8 {
			high := q[256+64*(j/4)+4*r+i] >> (2 * (j % 4)) & 3
			return int8(nibble(q, r, j, i)|high<<4) - 32
		})
	case quant.Q5_0:
		eachQuad(p, func(r, j, i int) int8 { return int8(nibble(q, r, j, i)|q[256+4*r+i]>>j&1<<4) - 16 })
	case quant.Q5_1, quant.Q5_K:
		eachQuad(p, func(r, j, i int) int8 { return int8(nibble(q, r, j, i) | q[256+4*r+i]>>j&1<<4) })
	case quant.Q4_0:
		eachQuad(p, func(r, j, i int) int8 { return int8(nibble(q, r, j, i)) - 8 })
	case quant.IQ4_NL, quant.IQ4_XS:
		eachQuad(p, func(r, j, i int) int8 { return codebookIQ4[nibble(q, r, j, i)] })
	case quant.MXFP4:
		eachQuad(p, func(r, j, i int) int8 { return codebookMXFP[nibble(q, r, j, i)] })
	default: // Q4_1, Q4_K
		eachQuad(p, func(r, j, i int) int8 { return int8(nibble(q, r, j, i)) })
	}
}

// eachQuad sets w[r][4j+i] of the panel's rows.
func eachQuad(p *panel, at func(r, j, i int) int8) {
	for j := range 8 {
		for r := p.first; r < p.last; r++ {
			for i := range 4 {
				p.w[r][4*j+i] = at(r, j, i)
			}
		}
	}
}

// nibble reads column 4j+i of a plane of nibbles: low ones are the first 16.
func nibble(q []byte, r, j, i int) byte { return q[64*(j%4)+4*r+i] >> (4 * (j / 4)) & 15 }

func half(s []byte, i int) float32 {
	return arith.F16ToF32(binary.LittleEndian.Uint16(s[2*i:]))
}

func (m *matrix) unpackScales(p *panel, super, sub []byte) {
	for r := p.first; r < p.last; r++ {
		switch m.kind {
		case quant.Q4_0, quant.Q5_0, quant.Q8_0, quant.IQ4_NL:
			p.scale[0][r] = half(sub, r)
		case quant.Q4_1, quant.Q5_1:
			p.scale[0][r], p.min[0][r] = half(sub, r), half(sub, 16+r)
		case quant.MXFP4:
			p.scale[0][r] = mxScale(sub[r])
		case quant.Q4_K, quant.Q5_K:
			p.scale[0][r] = float32(half(super, r) * float32(sub[r]))
			p.min[0][r] = -float32(half(super, 16+r) * float32(sub[16+r]))
		case quant.IQ4_XS:
			p.scale[0][r] = float32(half(super, r) * float32(int8(sub[r])))
		case quant.Q2_K:
			for h := range 2 {
				c := sub[16*h+r]
				p.scale[h][r] = float32(half(super, r) * float32(c&15))
				p.min[h][r] = -float32(half(super, 16+r) * float32(c>>4))
			}
		case quant.Q3_K, quant.Q6_K:
			for h := range 2 {
				p.scale[h][r] = float32(half(super, r) * float32(int8(sub[16*h+r])))
			}
		}
	}
}

// mxScale is 2^(e-128), +0 below 2^-24, the contract's least scale. Scales made
// of half precision numbers and integers are multiples of it, so only MXFP4 can
// fall below.
func mxScale(e byte) float32 {
	if e < 128-24 {
		return 0
	}
	return math.Float32frombits(uint32(e-1) << 23)
}

// hasMin reports whether the type has minimums.
func hasMin(t quant.Type) bool {
	switch t {
	case quant.Q4_1, quant.Q5_1, quant.Q4_K, quant.Q5_K, quant.Q2_K:
		return true
	}
	return false
}
