package conform

import (
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/quant"
)

func (naive) MatMul(b *kernels.Batch, dst kernels.Buffer, w kernels.Matrix, x kernels.Acts) {
	d, m, a := buf(dst), w.(*matrix), x.(*acts)
	need(d.cols == len(m.rows) && m.cols == a.cols, "product")
	for i := range b.Rows {
		in := a.data[i*a.cols : (i+1)*a.cols]
		if len(m.rows[0].Float) > 0 {
			for o := range m.rows {
				d.row(i)[o] = floatProduct(m.rows[o].Float, in)
			}
			continue
		}
		q, scales, ok := quantise(in, a.bits)
		if !ok {
			fault(b, i, "quantise")
			continue
		}
		for o := range m.rows {
			d.row(i)[o] = integerProduct(&m.rows[o], q, scales)
		}
	}
}

// quantise gives the integers of a row and the factor of each 32; ok is false
// when an element is not finite.
func quantise(x []float32, bits kernels.ActBits) (q []int32, d []float32, ok bool) {
	top := float32(127)
	if bits == kernels.Act16 {
		top = 16319
	}
	q, d = make([]int32, len(x)), make([]float32, len(x)/32)
	for b := range d {
		var amax uint32
		for _, v := range x[32*b : 32*b+32] {
			amax = max(amax, math.Float32bits(v)&0x7fffffff)
		}
		if amax >= 0x7f800000 {
			return nil, nil, false
		}
		m := math.Float32frombits(amax)
		if m < 0x1p-40 {
			continue
		}
		id := float32(top / m)
		d[b] = float32(m / top)
		for i := 32 * b; i < 32*b+32; i++ {
			q[i] = int32(math.RoundToEven(float64(float32(x[i] * id))))
		}
	}
	return q, d, true
}

func integerProduct(r *quant.Row, q []int32, d []float32) float32 {
	var total float32
	for from := 0; from < len(q); from += 256 {
		var acc float32
		for at := from; at < min(len(q), from+256); at += r.SubBlock {
			var isum, sum int32
			for k := at; k < at+r.SubBlock; k++ {
				isum += int32(r.Weights[k]) * q[k]
				sum += q[k]
			}
			t := float32(r.Scale[at/r.SubBlock] * d[at/32])
			acc = arith.FMA(t, float32(isum), acc)
			if len(r.Minimum) > 0 {
				s := float32(d[at/32] * float32(sum))
				acc = arith.FMA(r.Minimum[at/r.SubBlock], s, acc)
			}
		}
		total = float32(total + acc)
	}
	return arith.Floor(total)
}

func floatProduct(w, x []float32) float32 {
	var total float32
	for from := 0; from < len(x); from += 256 {
		var acc float32
		for k := from; k < min(len(x), from+256); k++ {
			acc = arith.FMA(w[k], x[k], acc)
		}
		total = float32(total + acc)
	}
	return arith.Floor(total)
}
