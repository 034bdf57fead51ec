package conform

import (
	"slices"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

type experts struct {
	shape kernels.ExpertShape
	bits  kernels.ActBits
}

func (e *experts) Shape() kernels.ExpertShape { return e.shape }

func (naive) NewExperts(s kernels.ExpertShape, _ int, bits kernels.ActBits) (kernels.Experts, error) {
	return &experts{s, bits}, s.Validate()
}

// choose gives the experts that a row takes, by ascending index, and their
// weights.
func choose(l []float32, s kernels.ExpertShape) (taken []int, weight []float32) {
	order := make([]int, s.Count)
	for e := range order {
		order[e] = e
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case l[a] > l[b]:
			return -1
		case l[a] < l[b]:
			return 1
		}
		return 0
	})
	largest := l[order[0]]
	taken = slices.Clone(order[:s.Used])
	slices.Sort(taken)
	var t float32
	if s.Renormalise {
		for _, e := range taken {
			t = float32(t + arith.Exp(float32(l[e]-largest)))
		}
	} else {
		var lanes [16]float32
		for e, v := range l {
			lanes[e%16] = float32(lanes[e%16] + arith.Exp(float32(v-largest)))
		}
		t = arith.Tree16(&lanes)
	}
	for _, e := range taken {
		p := arith.Exp(float32(l[e] - largest))
		weight = append(weight, arith.Floor(float32(float32(p/t)*s.Scale)))
	}
	return taken, weight
}

// part gives rows first to first+n-1 of m.
func (m *matrix) part(first, n int) *matrix {
	return &matrix{cols: m.cols, rows: m.rows[first : first+n]}
}

func (d naive) MixExperts(b *kernels.Batch, dst kernels.Buffer, e kernels.Experts, logits kernels.Buffer, x kernels.Acts, w kernels.ExpertWeights) {
	room, to, l, in := e.(*experts), buf(dst), buf(logits), x.(*acts)
	s := room.shape
	need(to.cols == s.Embd && l.cols == s.Count && in.cols == s.Embd && w.Check(s) == nil, "experts")
	all := make([][]float32, len(b.Rows))
	for i := range b.Rows {
		z := make([]float32, s.Embd)
		all[i] = z
		if !finite(l.row(i)) {
			fault(b, i, "router")
			continue
		}
		taken, weight := choose(l.row(i), s)
		one := &kernels.Batch{Rows: []kernels.Row{b.Rows[i]}, Layer: b.Layer}
		row := &acts{1, s.Embd, in.bits, in.data[i*s.Embd : (i+1)*s.Embd]}
		for j, e := range taken {
			y := d.expert(one, s, row, room.bits, w, e)
			for k := range z {
				z[k] = arith.Floor(arith.FMA(y[k], weight[j], z[k]))
			}
		}
		for _, f := range one.Faults {
			fault(b, i, f.Op)
		}
	}
	for i, z := range all { // only now: dst may be what x was made of
		copy(to.row(i), z)
	}
}

// expert is what expert e makes of one row.
func (d naive) expert(one *kernels.Batch, s kernels.ExpertShape, x *acts, bits kernels.ActBits, w kernels.ExpertWeights, e int) []float32 {
	table := func(cols int) *buffer { return &buffer{1, cols, make([]float32, cols)} }
	gate, up, out := table(s.FFN), table(s.FFN), table(s.Embd)
	d.MatMul(one, gate, w.Gate.(*matrix).part(e*s.FFN, s.FFN), x)
	d.MatMul(one, up, w.Up.(*matrix).part(e*s.FFN, s.FFN), x)
	d.SiLUMul(one, gate, gate, up)
	d.MatMul(one, out, w.Down.(*matrix).part(e*s.Embd, s.Embd), &acts{1, s.FFN, bits, gate.data})
	return out.data
}

func finite(x []float32) bool {
	for _, v := range x {
		if !arith.Finite(v) {
			return false
		}
	}
	return true
}

func (naive) AddGated(b *kernels.Batch, x, y, gate kernels.Buffer) {
	to, from, g := buf(x), buf(y), buf(gate)
	need(to.cols == from.cols && g.cols == 1, "gated addition")
	for i := range b.Rows {
		s := arith.Floor(float32(1 / float32(1+arith.Exp(-g.row(i)[0]))))
		for k, v := range from.row(i) {
			to.row(i)[k] = arith.Floor(arith.FMA(v, s, to.row(i)[k]))
		}
	}
}
