package quant

import (
	"fmt"
	"math"

	"github.com/weft-mesh/weft/kernels/arith"
)

// Row is one row of a matrix as the arithmetic contract sees it. Of a float
// type it has Float alone: the weights, through the floor. Of a quantised type
// it has Weights, the signed integers (codebook values for codebook types),
// and for each sub-block of SubBlock elements its Scale and, where the type
// has one, its Minimum (the summand, negative as a rule for K-quants). Scales
// and minimums below 2^-24 in magnitude are +0.
type Row struct {
	SubBlock int
	Weights  []int16
	Scale    []float32
	Minimum  []float32
	Float    []float32
}

// Row reads row i into r, reusing r's slices. It panics if i is no row.
func (p *Packed) Row(i int, r *Row) {
	if i < 0 || i >= p.Rows {
		panic(fmt.Sprintf("quant: row %d of a matrix of %d", i, p.Rows))
	}
	info := infos[p.Type]
	r.SubBlock = info.SubBlock
	r.Weights, r.Scale, r.Minimum, r.Float = r.Weights[:0], r.Scale[:0], r.Minimum[:0], r.Float[:0]
	if p.Type.Float() {
		r.Float = grow(r.Float, p.Cols)
		p.floatRow(i, r.Float)
		return
	}
	r.Weights = grow(r.Weights, p.Cols)
	r.Scale = grow(r.Scale, p.Cols/info.SubBlock)
	if info.Minimum {
		r.Minimum = grow(r.Minimum, p.Cols/info.SubBlock)
	}
	p.weights(i, r.Weights)
	p.scales(i, r.Scale, r.Minimum)
}

func grow[T any](s []T, n int) []T {
	if cap(s) >= n {
		return s[:n]
	}
	return make([]T, n)
}

func (p *Packed) floatRow(row int, dst []float32) {
	qs, _ := strides(p.Type, p.Cols)
	q, r := p.Quants[row/GroupRows*qs:], row%GroupRows
	switch p.Type {
	case F32:
		for k := range dst {
			dst[k] = arith.Floor(math.Float32frombits(le.Uint32(q[64*k+4*r:])))
		}
	case F16:
		for k := range dst {
			dst[k] = arith.Floor(arith.F16ToF32(le.Uint16(q[32*k+2*r:])))
		}
	case BF16:
		for k := range dst {
			dst[k] = arith.Floor(arith.BF16ToF32(le.Uint16(q[32*k+2*r:])))
		}
	}
}

// stored reads the unsigned quants of row r of a block of 32 columns.
func (t Type) stored(block []byte, r int, q *[32]byte) {
	word := func(vector int) uint32 { return le.Uint32(block[64*vector+4*r:]) }
	var bits, first, second uint32 // planes of high bits
	vectors := t.vectors()
	switch vectors {
	case 8:
		for j := range 8 {
			le.PutUint32(q[4*j:], word(j)^0x80808080)
		}
		return
	case 2, 3:
		if vectors == 3 {
			bits = word(2)
		}
		for j := range 8 {
			le.PutUint32(q[4*j:], word(j/4)>>(2*(j%4))&twos|bits>>j&ones<<2)
		}
		return
	case 5:
		bits = word(4)
	case 6:
		first, second = word(4), word(5)
	}
	for j := range 4 {
		w := word(j)
		le.PutUint32(q[4*j:], w&nibble|bits>>j&ones<<4|first>>(2*j)&twos<<4)
		le.PutUint32(q[16+4*j:], w>>4&nibble|bits>>(4+j)&ones<<4|second>>(2*j)&twos<<4)
	}
}

// weight is the integer that a stored quant stands for.
func (t Type) weight(q byte) int16 {
	switch t {
	case Q8_0:
		return int16(int8(q))
	case Q4_0:
		return int16(q) - 8
	case Q5_0:
		return int16(q) - 16
	case Q6_K:
		return int16(q) - 32
	case Q3_K:
		return int16(q) - 4
	case IQ4_NL, IQ4_XS:
		return int16(NonLinear4[q&15])
	case MXFP4:
		return int16(MicroFloat4[q&15])
	}
	return int16(q)
}

// tables hold weight for every quant of every type.
var tables = func() map[Type]*[256]int16 {
	m := map[Type]*[256]int16{}
	for _, t := range Types() {
		m[t] = new([256]int16)
		for q := range m[t] {
			m[t][q] = t.weight(byte(q))
		}
	}
	return m
}()

func (p *Packed) weights(row int, dst []int16) {
	qs, _ := strides(p.Type, p.Cols)
	plane, r := p.Quants[row/GroupRows*qs:], row%GroupRows
	size := 64 * p.Type.vectors()
	table := tables[p.Type]
	var q [32]byte
	for b := range len(dst) / 32 {
		p.Type.stored(plane[b*size:(b+1)*size], r, &q)
		out := dst[32*b : 32*b+32]
		for k := range out {
			out[k] = table[q[k]]
		}
	}
}

// small is the contract's rule for scales and minimums: +0 below 2^-24.
func small(x float32) float32 {
	if math.Float32bits(x)&0x7fffffff < 0x33800000 {
		return 0
	}
	return x
}

func (p *Packed) scales(row int, scale, minimum []float32) {
	_, ss := strides(p.Type, p.Cols)
	s, r := p.Scales[row/GroupRows*ss:], row%GroupRows
	size := p.Type.scaleBytes()
	f16 := func(b []byte) float32 { return arith.F16ToF32(le.Uint16(b[2*r:])) }
	per := infos[p.Type].BlockElems / infos[p.Type].SubBlock
	for i := range scale {
		b := s[i/per*size:]
		sub := i % per
		switch p.Type {
		case Q4_0, Q5_0, Q8_0, IQ4_NL:
			scale[i] = small(f16(b))
		case Q4_1, Q5_1:
			scale[i], minimum[i] = small(f16(b)), small(f16(b[32:]))
		case MXFP4:
			scale[i] = small(halfExponent(b[r]))
		case Q4_K, Q5_K:
			scale[i] = small(f16(b) * float32(b[64+32*sub+r]))
			minimum[i] = small(-(f16(b[32:]) * float32(b[80+32*sub+r])))
		case Q2_K:
			v := b[64+16*sub+r]
			scale[i] = small(f16(b) * float32(v&15))
			minimum[i] = small(-(f16(b[32:]) * float32(v>>4)))
		default: // Q6_K, Q3_K, IQ4_XS
			scale[i] = small(f16(b) * float32(int8(b[32+16*sub+r])))
		}
	}
}

// halfExponent is 2^(e-128), a denormal for e below 2.
func halfExponent(e byte) float32 {
	if e < 2 {
		return math.Float32frombits(0x00200000 << e)
	}
	return math.Float32frombits(uint32(e-1) << 23)
}

// DecodeRow stores row i of p in dst, p.Cols long, as the contract's embedding
// does: F(RN(S*q)), with a minimum F(FMA(S, q, M)); of float types F(w).
// It panics if i is no row.
func (p *Packed) DecodeRow(dst []float32, i int, r *Row) {
	p.Row(i, r)
	if p.Type.Float() {
		copy(dst, r.Float)
		return
	}
	for k := range dst[:p.Cols] {
		b := k / r.SubBlock
		q := float32(r.Weights[k])
		if len(r.Minimum) > 0 {
			dst[k] = arith.Floor(arith.FMA(r.Scale[b], q, r.Minimum[b]))
		} else {
			dst[k] = arith.Floor(float32(r.Scale[b] * q))
		}
	}
}
