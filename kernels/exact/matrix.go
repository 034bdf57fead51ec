package exact

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/quant"
)

// matrix is packed weights and, where the cache had room, their values.
type matrix struct {
	d      *Device
	p      *quant.Packed
	values []float32 // all rows, or nil
}

// Shape gives outputs and inputs.
func (m *matrix) Shape() (rows, cols int) { return m.p.Rows, m.p.Cols }

// Close gives the matrix's share of the cache back.
func (m *matrix) Close() error {
	m.d.cache += 4 * int64(len(m.values))
	m.values = nil
	return nil
}

// NewMatrix makes a matrix of packed weights, dequantised at once if the cache
// has room. It keeps p.
func (d *Device) NewMatrix(p *quant.Packed) (kernels.Matrix, error) {
	q, s, err := quant.PackedSize(p.Type, p.Rows, p.Cols)
	if err != nil {
		return nil, fmt.Errorf("make matrix: %w", err)
	}
	if int64(len(p.Quants)) < q || int64(len(p.Scales)) < s {
		return nil, fmt.Errorf("make matrix of %s, %d by %d: planes of %d and %d bytes; want %d and %d", p.Type, p.Rows, p.Cols, len(p.Quants), len(p.Scales), q, s)
	}
	m := &matrix{d: d, p: p}
	if size := 4 * int64(p.Rows) * int64(p.Cols); size <= d.cache {
		d.cache -= size
		m.values = make([]float32, p.Rows*p.Cols)
		d.parallel(p.Rows, func(from, to int) {
			var r quant.Row
			for i := from; i < to; i++ {
				m.decode(m.values[i*p.Cols:(i+1)*p.Cols], i, &r)
			}
		})
	}
	return m, nil
}

// decode dequantises row i: products of scale and quant are exact, the sum with
// a minimum is rounded to float32, as the formats define it.
func (m *matrix) decode(dst []float32, i int, r *quant.Row) {
	m.p.Row(i, r)
	if m.p.Type.Float() {
		copy(dst, r.Float)
		return
	}
	for b, s := range r.Scale {
		from := b * r.SubBlock
		in, out := r.Weights[from:from+r.SubBlock], dst[from:from+r.SubBlock]
		var low float32
		if len(r.Minimum) > 0 {
			low = r.Minimum[b]
		}
		for k, w := range in {
			out[k] = float32(s*float32(w)) + low
		}
	}
}

// row gives the values of row i, which may be scratch's.
func (m *matrix) row(i int, scratch []float32, r *quant.Row) []float32 {
	if m.values != nil {
		return m.values[i*m.p.Cols : (i+1)*m.p.Cols]
	}
	m.decode(scratch, i, r)
	return scratch
}

// Embed stores the rows ids of w.
func (d *Device) Embed(b *kernels.Batch, dst kernels.Buffer, w kernels.Matrix, ids []int32) {
	m := as[*matrix](w)
	out := table(dst, len(b.Rows), m.p.Cols, "embed")
	need(len(ids) == len(b.Rows), "embed")
	var r quant.Row
	for i, id := range ids {
		copy(out.row(i), m.row(int(id), out.row(i), &r))
		arith.FloorAll(out.row(i))
	}
}

// Prepare widens x's rows. Values that are not finite are faults.
func (d *Device) Prepare(b *kernels.Batch, dst kernels.Acts, x kernels.Buffer) {
	a := as[*acts](dst)
	in := table(x, len(b.Rows), a.cols, "prepare")
	need(len(b.Rows) <= a.rows, "prepare")
	for i := range b.Rows {
		if arith.MaxAbsBits(in.row(i)) >= 0x7f800000 {
			note(b, i, "quantise")
		}
		out := a.data[i*a.cols : (i+1)*a.cols]
		for k, v := range in.row(i) {
			out[k] = float64(v)
		}
	}
}

// MatMul stores w times each row of x, each sum in float64.
func (d *Device) MatMul(b *kernels.Batch, dst kernels.Buffer, w kernels.Matrix, x kernels.Acts) {
	m, a := as[*matrix](w), as[*acts](x)
	n := len(b.Rows)
	out := table(dst, n, m.p.Rows, "product")
	need(a.cols == m.p.Cols && n <= a.rows, "product")
	d.parallel(m.p.Rows, func(from, to int) {
		var r quant.Row
		scratch := make([]float32, m.p.Cols)
		for o := from; o < to; o++ {
			values := m.row(o, scratch, &r)
			for i := 0; i < n; i += 4 {
				in := a.data[i*a.cols : min(n, i+4)*a.cols]
				if i+4 <= n {
					for j, s := range dot4(values, in) {
						out.data[(i+j)*out.cols+o] = arith.Floor(float32(s))
					}
					continue
				}
				for j := i; j < n; j++ {
					out.data[j*out.cols+o] = arith.Floor(float32(dot(values, in[(j-i)*a.cols:])))
				}
			}
		}
	})
}

// dot sums w*x in two chains, of even and of odd elements.
func dot(w []float32, x []float64) float64 {
	x = x[:len(w)]
	var a, b float64
	k := 0
	for ; k+2 <= len(w); k += 2 {
		a += float64(float64(w[k]) * x[k])
		b += float64(float64(w[k+1]) * x[k+1])
	}
	if k < len(w) {
		a += float64(float64(w[k]) * x[k])
	}
	return a + b
}

// dot4 is dot for four rows of x that lie behind one another, with the same
// chains: a row's result does not depend on its neighbours. Eight sums are what
// fits in registers.
func dot4(w []float32, x []float64) [4]float64 {
	n := len(w)
	x0, x1, x2, x3 := x[:n], x[n:2*n], x[2*n:3*n], x[3*n:4*n]
	var a0, a1, a2, a3, b0, b1, b2, b3 float64
	k := 0
	for ; k+2 <= n; k += 2 {
		v, u := float64(w[k]), float64(w[k+1])
		a0 += float64(v * x0[k])
		b0 += float64(u * x0[k+1])
		a1 += float64(v * x1[k])
		b1 += float64(u * x1[k+1])
		a2 += float64(v * x2[k])
		b2 += float64(u * x2[k+1])
		a3 += float64(v * x3[k])
		b3 += float64(u * x3[k+1])
	}
	if k < n {
		v := float64(w[k])
		a0 += float64(v * x0[k])
		a1 += float64(v * x1[k])
		a2 += float64(v * x2[k])
		a3 += float64(v * x3[k])
	}
	return [4]float64{a0 + b0, a1 + b1, a2 + b2, a3 + b3}
}
