package exact

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/quant"
)

// experts is the shape alone: the work needs no memory of its own.
type experts struct{ shape kernels.ExpertShape }

// Shape gives the experts' shape.
func (e *experts) Shape() kernels.ExpertShape { return e.shape }

// NewExperts makes room for MixExperts. rows and bits are ignored.
func (d *Device) NewExperts(s kernels.ExpertShape, _ int, _ kernels.ActBits) (kernels.Experts, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("make experts: %w", err)
	}
	return &experts{s}, nil
}

// choose gives the experts that a row takes, by ascending index, and their
// weights.
func choose(l []float32, s kernels.ExpertShape) (taken []int, weight []float64) {
	for e := range l {
		taken = append(taken, e)
	}
	slices.SortStableFunc(taken, func(a, b int) int { return cmp.Compare(l[b], l[a]) })
	largest, sum := float64(l[taken[0]]), 0.0
	p := func(e int) float64 { return math.Exp(float64(l[e]) - largest) }
	counted := taken
	if s.Renormalise {
		counted = taken[:s.Used]
	}
	for _, e := range counted {
		sum += p(e)
	}
	taken = taken[:s.Used]
	slices.Sort(taken)
	for _, e := range taken {
		weight = append(weight, p(e)/sum*float64(s.Scale))
	}
	return taken, weight
}

// MixExperts stores the weighted sum of what each row's experts make of it.
func (d *Device) MixExperts(b *kernels.Batch, dst kernels.Buffer, e kernels.Experts, logits kernels.Buffer, x kernels.Acts, w kernels.ExpertWeights) {
	s, in := as[*experts](e).shape, as[*acts](x)
	n := len(b.Rows)
	out, l := table(dst, n, s.Embd, "experts"), table(logits, n, s.Count, "experts")
	need(in.cols == s.Embd && n <= in.rows && w.Check(s) == nil, "experts")
	bad := make([]bool, n)
	sums := make([]float64, n*s.Embd)
	var rows [kernels.MaxExperts][]int // of each expert, those that take it
	var factors [kernels.MaxExperts][]float64
	for i := range n {
		if arith.MaxAbsBits(l.row(i)) >= 0x7f800000 {
			bad[i] = true
			continue
		}
		taken, weight := choose(l.row(i), s)
		for j, e := range taken {
			rows[e], factors[e] = append(rows[e], i), append(factors[e], weight[j])
		}
	}
	noteAll(b, bad, "router")
	for e := range s.Count {
		if len(rows[e]) > 0 {
			d.expert(e, s, w, in, rows[e], factors[e], sums)
		}
	}
	for i := range n {
		for k, v := range sums[i*s.Embd : (i+1)*s.Embd] {
			out.row(i)[k] = store(v)
		}
	}
}

// expert adds what expert e makes of some rows, times their factors, to sums.
func (d *Device) expert(e int, s kernels.ExpertShape, w kernels.ExpertWeights, in *acts, rows []int, factors, sums []float64) {
	gate, up, down := as[*matrix](w.Gate), as[*matrix](w.Up), as[*matrix](w.Down)
	mid := make([]float64, len(rows)*s.FFN)
	d.eachRow(s.FFN, s.Embd, func(o int, scratch []float32, r *quant.Row) {
		g := gate.row(e*s.FFN+o, scratch, r)
		for j, i := range rows {
			mid[j*s.FFN+o] = dot(g, in.data[i*s.Embd:])
		}
		u := up.row(e*s.FFN+o, scratch, r)
		for j, i := range rows {
			v := &mid[j*s.FFN+o]
			*v = *v / (1 + math.Exp(-*v)) * dot(u, in.data[i*s.Embd:])
		}
	})
	d.eachRow(s.Embd, s.FFN, func(o int, scratch []float32, r *quant.Row) {
		v := down.row(e*s.Embd+o, scratch, r)
		for j, i := range rows {
			sums[i*s.Embd+o] += factors[j] * dot(v, mid[j*s.FFN:])
		}
	})
}

// eachRow calls f for each of n rows of matrices of cols columns, in parallel,
// with memory to decode one in.
func (d *Device) eachRow(n, cols int, f func(o int, scratch []float32, r *quant.Row)) {
	d.parallel(n, func(from, to int) {
		var r quant.Row
		scratch := make([]float32, cols)
		for o := from; o < to; o++ {
			f(o, scratch, &r)
		}
	})
}

// AddGated adds y times the sigmoid of gate to x.
func (d *Device) AddGated(b *kernels.Batch, x, y, gate kernels.Buffer) {
	to := table(x, len(b.Rows), 0, "gated addition")
	from, g := table(y, len(b.Rows), to.cols, "gated addition"), table(gate, len(b.Rows), 1, "gated addition")
	for i := range b.Rows {
		s := 1 / (1 + math.Exp(-float64(g.row(i)[0])))
		for k, v := range from.row(i) {
			to.row(i)[k] = store(float64(to.row(i)[k]) + s*float64(v))
		}
	}
}
