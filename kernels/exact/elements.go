package exact

import (
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

func store(x float64) float32 { return arith.Floor(float32(x)) }

// Norm is RMSNorm over each run of w.Len() elements.
func (d *Device) Norm(b *kernels.Batch, dst, x kernels.Buffer, w kernels.Vector, eps float32) {
	v := as[vector](w)
	in := table(x, len(b.Rows), 0, "norm")
	out := table(dst, len(b.Rows), in.cols, "norm")
	need(in.cols%len(v) == 0, "norm")
	bad := make([]bool, len(b.Rows))
	d.parallel(len(b.Rows), func(from, to int) {
		for i := from; i < to; i++ {
			for at := 0; at < in.cols; at += len(v) {
				if !normRun(out.row(i)[at:at+len(v)], in.row(i)[at:at+len(v)], v, float64(eps)) {
					bad[i] = true
				}
			}
		}
	})
	noteAll(b, bad, "norm")
}

func normRun(dst, x []float32, w vector, eps float64) bool {
	var sum float64
	for _, e := range x {
		sum += float64(float64(e) * float64(e))
	}
	if !(sum <= math.MaxFloat32) { // what the contract's float32 sum refuses
		return false
	}
	r := 1 / math.Sqrt(sum/float64(len(x))+eps)
	for k, e := range x {
		dst[k] = store(float64(e) * r * float64(w[k]))
	}
	return true
}

// AddVector adds v to each row of x.
func (d *Device) AddVector(b *kernels.Batch, x kernels.Buffer, v kernels.Vector) {
	w := as[vector](v)
	t := table(x, len(b.Rows), len(w), "bias")
	for i := range b.Rows {
		row := t.row(i)
		for k := range row {
			row[k] = arith.Floor(row[k] + w[k])
		}
	}
}

// Add adds y to x.
func (d *Device) Add(b *kernels.Batch, x, y kernels.Buffer) {
	p := table(x, len(b.Rows), 0, "add")
	q := table(y, len(b.Rows), p.cols, "add")
	n := len(b.Rows) * p.cols
	for i, v := range q.data[:n] {
		p.data[i] = arith.Floor(p.data[i] + v)
	}
}

// SiLUMul stores SiLU(gate) times up.
func (d *Device) SiLUMul(b *kernels.Batch, dst, gate, up kernels.Buffer) {
	out := table(dst, len(b.Rows), 0, "silu")
	g, u := table(gate, len(b.Rows), out.cols, "silu"), table(up, len(b.Rows), out.cols, "silu")
	d.parallel(len(b.Rows)*out.cols, func(from, to int) {
		for i := from; i < to; i++ {
			x := float64(g.data[i])
			out.data[i] = store(x / (1 + math.Exp(-x)) * float64(u.data[i]))
		}
	})
}

// Rotate applies rotary embedding to each head of headDim elements.
func (d *Device) Rotate(b *kernels.Batch, x kernels.Buffer, headDim int, t kernels.Rope, mode kernels.RopeMode) {
	in, r := table(x, len(b.Rows), 0, "rotate"), as[*rope](t)
	half := r.dims / 2
	need(headDim > 0 && in.cols%headDim == 0 && r.dims <= headDim, "rotate")
	first, second, step := 0, 1, 2 // offsets of a pair's elements, and of the next pair
	if mode == kernels.RopeHalves {
		second, step = half, 1
	}
	for i, row := range b.Rows {
		cos, sin := r.cos[int(row.Pos)*half:][:half], r.sin[int(row.Pos)*half:][:half]
		for h := 0; h < in.cols; h += headDim {
			head := in.row(i)[h : h+headDim]
			for j := range half {
				p, q := &head[first+j*step], &head[second+j*step]
				x0, x1, c, s := float64(*p), float64(*q), float64(cos[j]), float64(sin[j])
				*p = store(float64(x0*c) - float64(x1*s))
				*q = store(float64(x0*s) + float64(x1*c))
			}
		}
	}
}

// CheckFinite reports rows that hold a value that is not finite.
func (d *Device) CheckFinite(b *kernels.Batch, x kernels.Buffer) {
	in := table(x, len(b.Rows), 0, "check")
	for i := range b.Rows {
		if arith.MaxAbsBits(in.row(i)) >= 0x7f800000 {
			note(b, i, "logits")
		}
	}
}
