package conform

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// mixture is a case of experts: their shape, types and inputs.
type mixture struct {
	shape          kernels.ExpertShape
	gate, up, down *quant.Packed
	n              int
	bits           kernels.ActBits
	x, logits      []float32
}

// newMixture makes experts of that shape. Logits are steps of a quarter, so that
// there are equal ones; the more lean they have, the more rows take the first
// experts.
func newMixture(r *rand.Rand, s kernels.ExpertShape, gate, down quant.Type, n int, bits kernels.ActBits, lean float64) *mixture {
	pack := func(t quant.Type, rows, cols int) *quant.Packed {
		return packed(t, rows, cols, weights(r, t, rows, cols, false))
	}
	m := &mixture{
		shape: s, n: n, bits: bits,
		gate: pack(gate, s.Count*s.FFN, s.Embd), up: pack(gate, s.Count*s.FFN, s.Embd), down: pack(down, s.Count*s.Embd, s.FFN),
		x: make([]float32, n*s.Embd), logits: make([]float32, n*s.Count),
	}
	for i := range m.x {
		m.x[i] = float32(r.NormFloat64())
	}
	for i := range m.logits {
		m.logits[i] = float32(int(8*r.NormFloat64()))/4 - float32(lean*float64(i%s.Count))
	}
	return m
}

// load makes the experts on the device of t; close ends its matrices.
func (m *mixture) load(t *trace) (room kernels.Experts, w kernels.ExpertWeights, end func()) {
	w = kernels.ExpertWeights{Gate: must(t.d.NewMatrix(m.gate)), Up: must(t.d.NewMatrix(m.up)), Down: must(t.d.NewMatrix(m.down))}
	room = must(t.d.NewExperts(m.shape, m.n, m.bits))
	t.handles = append(t.handles, room)
	return room, w, func() {
		for _, x := range []kernels.Matrix{w.Gate, w.Up, w.Down} {
			if err := x.Close(); err != nil {
				panic(failure{err})
			}
		}
	}
}

// whole is the scenario of one mixture.
func (m *mixture) whole(t *trace) {
	room, w, end := m.load(t)
	x, l, a := t.buffer(m.n, m.shape.Embd, m.x), t.buffer(m.n, m.shape.Count, m.logits), t.acts(m.n, m.shape.Embd, m.bits)
	t.d.Prepare(t.b, a, x)
	t.d.MixExperts(t.b, x, room, l, a, w)
	t.read("mixture", x, m.n)
	end()
}

// expertWidths gives columns that blocks of a type allow: several segments of some.
func expertWidths(t quant.Type) (embd, ffn int) {
	switch info := must(t.Info()); {
	case t.Float():
		return 48, 80
	case info.BlockElems == 256:
		return 512, 256
	}
	return 288, 96
}

// sharedWidths gives columns that two types allow: of types of large blocks one
// segment is enough.
func sharedWidths(gate, down quant.Type) (embd, ffn int) {
	embd, ffn = expertWidths(gate)
	if e, f := expertWidths(down); e > embd {
		embd, ffn = e, f
	}
	if embd > 288 {
		embd = ffn
	}
	return embd, ffn
}

func mixtures(s *suite) {
	for _, typ := range quant.Types() {
		embd, ffn := expertWidths(typ)
		if s.depth == Quick {
			embd = min(embd, max(ffn, 96))
		}
		for _, bits := range []kernels.ActBits{kernels.Act8, kernels.Act16} {
			r := random(uint64(typ)<<8 | uint64(bits) | 15000<<16)
			shape := kernels.ExpertShape{Count: 5, Used: 2, Embd: embd, FFN: ffn, Renormalise: bits == kernels.Act8, Scale: 1}
			m := newMixture(r, shape, typ, typ, 11, bits, 0.5)
			s.same(fmt.Sprintf("%s, %d bits", typ, bits), rows(m.n), m.whole)
		}
	}
	mixtureShapes(s)
	mixtureFaults(s)
	gatedAdditions(s)
	if s.depth > Quick {
		mixturesCutAnywhere(s)
	}
}

// mixtureShapes: one row and many, one expert and many, experts that nobody
// takes and ones that all do, matrices of several types.
func mixtureShapes(s *suite) {
	for i, c := range []struct {
		count, used, n int
		gate, down     quant.Type
		lean           float64
		scale          float32
	}{
		{8, 2, 1, quant.Q4_K, quant.Q6_K, 0, 1},
		{1, 1, 3, quant.Q8_0, quant.F16, 0, 2.5},
		{4, 4, 7, quant.F32, quant.Q8_0, 0, 1},
		{40, 6, 9, quant.Q5_0, quant.Q4_0, 0.1, 1},
		{4, 2, 66, quant.Q4_K, quant.Q4_K, 3, 0.5},
		{6, 3, 45, quant.Q8_0, quant.Q5_1, 0, 1},
		{130, 9, 5, quant.Q4_0, quant.Q8_0, 0, 1},
	} {
		if s.depth == Quick && i > 4 {
			return
		}
		embd, ffn := sharedWidths(c.gate, c.down)
		for _, even := range []bool{true, false} {
			shape := kernels.ExpertShape{Count: c.count, Used: c.used, Embd: embd, FFN: ffn, Renormalise: even, Scale: c.scale}
			m := newMixture(random(uint64(16000+i)), shape, c.gate, c.down, c.n, kernels.Act8, c.lean)
			s.same(fmt.Sprintf("%d of %d experts, %s and %s, %d rows, renormalised %v", c.used, c.count, c.gate, c.down, c.n, even), rows(c.n), m.whole)
		}
	}
}

// mixtureFaults: a logit that is not finite, an input, and what the gate makes of
// one.
func mixtureFaults(s *suite) {
	shape := kernels.ExpertShape{Count: 4, Used: 2, Embd: 96, FFN: 64, Renormalise: true, Scale: 1}
	for i, bad := range []float32{nan, inf, -inf} {
		m := newMixture(random(uint64(17000+i)), shape, quant.Q4_0, quant.Q8_0, 6, kernels.Act8, 0)
		poison(m.logits, 1, shape.Count, 3, bad)
		poison(m.x, 3, shape.Embd, 40, bad)
		poison(m.logits, 4, shape.Count, 0, bad)
		poison(m.x, 4, shape.Embd, 0, bad) // its first fault is the router's
		s.same(fmt.Sprintf("logits and inputs of %g", bad), rows(m.n), m.whole)
	}
	m := newMixture(random(17010), shape, quant.Q4_0, quant.Q8_0, 30, kernels.Act16, 0)
	for k := range shape.Embd {
		m.x[7*shape.Embd+k] *= 1e25
	}
	s.same("gates beyond single precision", rows(m.n), m.whole)
}

// gatedAdditions: gates of every size.
func gatedAdditions(s *suite) {
	gates := []float32{0, 1, -1, 5.5, -20, 26.9, -27.2, 88, -88, 120, -3e38, 3e38, 1e-11, inf, -inf}
	const cols = 70
	r := random(18000)
	n := len(gates)
	x, y := ordinary(r, n*cols), ordinary(r, n*cols)
	copy(x[3*cols:4*cols], edges(r, cols))
	s.same("gated additions", rows(n), func(t *trace) {
		a, b, g := t.buffer(n, cols, x), t.buffer(n, cols, y), t.buffer(n, 1, gates)
		t.d.AddGated(t.b, a, b, g)
		t.read("sum", a, n)
	})
}

// mixturesCutAnywhere: what a row's experts make of it does not depend on the
// rows beside it, and a room is used again by narrower and wider batches.
func mixturesCutAnywhere(s *suite) {
	for _, typ := range []quant.Type{quant.Q4_1, quant.Q8_0, quant.F16} {
		shape := kernels.ExpertShape{Count: 4, Used: 2, Renormalise: true, Scale: 1}
		shape.Embd, shape.FFN = expertWidths(typ)
		m := newMixture(random(uint64(typ)+19000), shape, typ, typ, 61, kernels.Act8, 0.5)
		s.same(fmt.Sprintf("%s, in parts", typ), rows(m.n), func(t *trace) {
			room, w, end := m.load(t)
			x, l := t.buffer(m.n, shape.Embd, m.x), t.buffer(m.n, shape.Count, m.logits)
			px, pl, out := t.buffer(m.n, shape.Embd, nil), t.buffer(m.n, shape.Count, nil), t.buffer(m.n, shape.Embd, nil)
			a := t.acts(m.n, shape.Embd, m.bits)
			t.d.Prepare(t.b, a, x)
			t.d.MixExperts(t.b, out, room, l, a, w)
			t.read("together", out, m.n)
			together := t.values[0].data
			for _, order := range [][]int32{{60}, {3, 59, 2}, descending(m.n), {0, 0, 17, 17}, descending(25)} {
				b := rows(len(order))
				t.d.Gather(px, x, order)
				t.d.Gather(pl, l, order)
				t.d.Prepare(&b, a, px)
				t.d.MixExperts(&b, out, room, pl, a, w)
				t.read("a part", out, len(order))
				part := t.values[len(t.values)-1].data
				for i, row := range order {
					if !slices.Equal(part[i*shape.Embd:(i+1)*shape.Embd], together[int(row)*shape.Embd:(int(row)+1)*shape.Embd]) {
						panic(failure{fmt.Errorf("row %d among %d gives other values than among all", row, len(order))})
					}
				}
			}
			end()
		})
	}
}

func descending(n int) []int32 {
	var order []int32
	for i := n - 1; i >= 0; i-- {
		order = append(order, int32(i))
	}
	return order
}

// CompareExperts holds devices to the oracle with experts of shapes, types and
// inputs that are made of the numbers, whatever they are: for fuzzing. The error
// says what differs first.
func CompareExperts(devices []kernels.Device, seed uint64, count, used, n, gate, down uint8) error {
	types := quant.Types()
	g, w := types[int(gate)%len(types)], types[int(down)%len(types)]
	embd, ffn := sharedWidths(g, w)
	shape := kernels.ExpertShape{Count: 1 + int(count)%60, Embd: embd, FFN: ffn, Renormalise: seed&1 == 0, Scale: 1}
	shape.Used = 1 + int(used)%min(8, shape.Count)
	bits := kernels.Act8
	if seed&2 != 0 {
		bits = kernels.Act16
	}
	r := random(seed)
	m := newMixture(r, shape, g, w, 1+int(n)%80, bits, r.Float64())
	for range r.IntN(3) {
		m.x[r.IntN(len(m.x))] = []float32{nan, inf, -inf, 3e38, 1e-30}[r.IntN(5)]
		m.logits[r.IntN(len(m.logits))] = []float32{nan, inf, 88, -3e38, 0}[r.IntN(5)]
	}
	var first *Difference
	s := &suite{
		name: "Experts", devices: devices, report: func(x Difference) { first = &x },
		goOn: func() bool { return true },
	}
	s.same(fmt.Sprintf("%d of %d experts of %s and %s, %d rows, %d bits", shape.Used, shape.Count, g, w, m.n, bits), rows(m.n), m.whole)
	if first == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", first.Device, first)
}
