package conform

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/quant"
)

// naive is the contract as one scalar loop an operation.
type naive struct{}

// Naive makes a device of plain scalar loops: the suite's oracle.
func Naive() kernels.Device { return naive{} }

type (
	matrix struct {
		cols int
		rows []quant.Row
	}
	vector []float32
	buffer struct {
		rows, cols int
		data       []float32
	}
	acts struct {
		rows, cols int
		bits       kernels.ActBits
		data       []float32
	}
	rope struct {
		dims     int
		cos, sin []float32
	}
)

func (m *matrix) Shape() (rows, cols int) { return len(m.rows), m.cols }
func (m *matrix) Close() error            { return nil }
func (v vector) Len() int                 { return len(v) }
func (b *buffer) Shape() (rows, cols int) { return b.rows, b.cols }
func (a *acts) Shape() (rows, cols int)   { return a.rows, a.cols }
func (r *rope) Positions() int            { return len(r.cos) / (r.dims / 2) }
func (r *rope) Dims() int                 { return r.dims }

func (b *buffer) row(i int) []float32 { return b.data[i*b.cols : (i+1)*b.cols] }

func buf(b kernels.Buffer) *buffer { return b.(*buffer) }

// need panics when a shape is wrong, as the seam demands.
func need(ok bool, what string) {
	if !ok {
		panic("conform: wrong shape: " + what)
	}
}

func floored(x []float32) []float32 {
	y := append([]float32(nil), x...)
	for i := range y {
		y[i] = arith.Floor(y[i])
	}
	return y
}

func (naive) Name() string { return "naive" }
func (naive) Sync() error  { return nil }
func (naive) Close() error { return nil }
func (naive) Free(any)     {}

func (naive) NewMatrix(p *quant.Packed) (kernels.Matrix, error) {
	q, s, err := quant.PackedSize(p.Type, p.Rows, p.Cols)
	if err != nil {
		return nil, err
	}
	if int64(len(p.Quants)) < q || int64(len(p.Scales)) < s {
		return nil, fmt.Errorf("planes of %d and %d bytes; want %d and %d", len(p.Quants), len(p.Scales), q, s)
	}
	m := &matrix{cols: p.Cols, rows: make([]quant.Row, p.Rows)}
	for i := range m.rows {
		p.Row(i, &m.rows[i])
	}
	return m, nil
}

func (naive) NewVector(v []float32) (kernels.Vector, error) { return vector(floored(v)), nil }

func (naive) NewBuffer(rows, cols int) (kernels.Buffer, error) {
	if rows <= 0 || cols <= 0 {
		return nil, fmt.Errorf("buffer of %d by %d", rows, cols)
	}
	return &buffer{rows, cols, make([]float32, rows*cols)}, nil
}

func (naive) NewActs(rows, cols int, bits kernels.ActBits) (kernels.Acts, error) {
	return &acts{rows, cols, bits, make([]float32, rows*cols)}, nil
}

func (naive) NewRope(cos, sin []float32, positions, dims int) (kernels.Rope, error) {
	if len(cos) != positions*dims/2 || len(sin) != len(cos) {
		return nil, fmt.Errorf("rope table of %d and %d elements for %d positions of %d", len(cos), len(sin), positions, dims)
	}
	return &rope{dims, floored(cos), floored(sin)}, nil
}

func (naive) Write(dst kernels.Buffer, row int, src []float32) {
	d := buf(dst)
	need(len(src)%d.cols == 0 && row*d.cols+len(src) <= len(d.data), "write")
	copy(d.data[row*d.cols:], floored(src))
}

func (naive) Read(dst []float32, src kernels.Buffer, row int) error {
	s := buf(src)
	need(len(dst)%s.cols == 0 && row*s.cols+len(dst) <= len(s.data), "read")
	copy(dst, s.data[row*s.cols:])
	return nil
}

func (naive) Gather(dst, src kernels.Buffer, rows []int32) {
	d, s := buf(dst), buf(src)
	need(d.cols == s.cols && len(rows) <= d.rows, "gather")
	for i, r := range rows {
		copy(d.row(i), s.row(int(r)))
	}
}

func (naive) Embed(b *kernels.Batch, dst kernels.Buffer, w kernels.Matrix, ids []int32) {
	d, m := buf(dst), w.(*matrix)
	need(d.cols == m.cols && len(ids) == len(b.Rows), "embed")
	for i, id := range ids {
		r := &m.rows[id]
		for k := range m.cols {
			var y float32
			switch {
			case r.Float != nil:
				y = r.Float[k]
			case len(r.Minimum) > 0:
				y = arith.FMA(r.Scale[k/r.SubBlock], float32(r.Weights[k]), r.Minimum[k/r.SubBlock])
			default:
				y = float32(r.Scale[k/r.SubBlock] * float32(r.Weights[k]))
			}
			d.row(i)[k] = arith.Floor(y)
		}
	}
}

func (naive) AddVector(b *kernels.Batch, x kernels.Buffer, v kernels.Vector) {
	bx, w := buf(x), v.(vector)
	need(bx.cols == len(w), "add vector")
	for i := range b.Rows {
		for k := range w {
			bx.row(i)[k] = arith.Floor(float32(bx.row(i)[k] + w[k]))
		}
	}
}

func (naive) Add(b *kernels.Batch, x, y kernels.Buffer) {
	bx, by := buf(x), buf(y)
	need(bx.cols == by.cols, "add")
	for i := range b.Rows {
		for k := range bx.cols {
			bx.row(i)[k] = arith.Floor(float32(bx.row(i)[k] + by.row(i)[k]))
		}
	}
}

func (naive) SiLUMul(b *kernels.Batch, dst, gate, up kernels.Buffer) {
	d, g, u := buf(dst), buf(gate), buf(up)
	need(d.cols == g.cols && d.cols == u.cols, "silu")
	for i := range b.Rows {
		for k := range d.cols {
			x := g.row(i)[k]
			a := float32(x / float32(1+arith.Exp(-x)))
			d.row(i)[k] = arith.Floor(float32(a * u.row(i)[k]))
		}
	}
}

func (naive) Rotate(b *kernels.Batch, x kernels.Buffer, headDim int, t kernels.Rope, mode kernels.RopeMode) {
	bx, r := buf(x), t.(*rope)
	n := r.dims
	need(bx.cols%headDim == 0 && n <= headDim, "rotate")
	for i, row := range b.Rows {
		for h := 0; h < bx.cols; h += headDim {
			head := bx.row(i)[h : h+headDim]
			for j := range n / 2 {
				i0, i1 := 2*j, 2*j+1
				if mode == kernels.RopeHalves {
					i0, i1 = j, j+n/2
				}
				c, s := r.cos[int(row.Pos)*n/2+j], r.sin[int(row.Pos)*n/2+j]
				x0, x1 := head[i0], head[i1]
				head[i0] = arith.Floor(float32(float32(x0*c) - float32(x1*s)))
				head[i1] = arith.Floor(float32(float32(x0*s) + float32(x1*c)))
			}
		}
	}
}

// fault notes a row's first fault.
func fault(b *kernels.Batch, row int, op string) {
	for _, f := range b.Faults {
		if f.Row == row {
			return
		}
	}
	b.Faults = append(b.Faults, kernels.Fault{Row: row, Layer: b.Layer, Op: op})
}

func (naive) Norm(b *kernels.Batch, dst, x kernels.Buffer, w kernels.Vector, eps float32) {
	d, s, v := buf(dst), buf(x), w.(vector)
	n := len(v)
	need(d.cols == s.cols && s.cols%n == 0, "norm")
	for i := range b.Rows {
		for at := 0; at < s.cols; at += n {
			in, out := s.row(i)[at:at+n], d.row(i)[at:at+n]
			var lanes [16]float32
			for k, e := range in {
				lanes[k%16] = arith.FMA(e, e, lanes[k%16])
			}
			sum := arith.Tree16(&lanes)
			if !arith.Finite(sum) {
				fault(b, i, "norm")
				continue
			}
			mean := float32(sum / float32(n))
			r := float32(1 / arith.Sqrt(float32(mean+eps)))
			for k, e := range in {
				out[k] = arith.Floor(float32(float32(e*r) * v[k]))
			}
		}
	}
}

func (naive) CheckFinite(b *kernels.Batch, x kernels.Buffer) {
	for i := range b.Rows {
		for _, e := range buf(x).row(i) {
			if !arith.Finite(e) {
				fault(b, i, "logits")
			}
		}
	}
}

func (naive) Prepare(b *kernels.Batch, dst kernels.Acts, x kernels.Buffer) {
	a, s := dst.(*acts), buf(x)
	need(a.cols == s.cols && len(b.Rows) <= a.rows, "prepare")
	copy(a.data, s.data[:len(b.Rows)*s.cols])
}
