package cpu_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/kernels/quant"
)

// mixture is a layer of experts and rows for it.
type mixture struct {
	d      kernels.Device
	b      *kernels.Batch
	x, l   kernels.Buffer
	acts   kernels.Acts
	room   kernels.Experts
	w      kernels.ExpertWeights
	shared kernels.Buffer // gates of one column
}

func newMixture(tb testing.TB, d kernels.Device, s kernels.ExpertShape, kind quant.Type, rows int) *mixture {
	r := rand.New(rand.NewPCG(9, uint64(rows)))
	m := &mixture{d: d, b: &kernels.Batch{Rows: make([]kernels.Row, rows)}}
	m.x, m.l = must(d.NewBuffer(rows, s.Embd))(tb), must(d.NewBuffer(rows, s.Count))(tb)
	m.shared = must(d.NewBuffer(rows, 1))(tb)
	m.acts = must(d.NewActs(rows, s.Embd, kernels.Act8))(tb)
	m.room = must(d.NewExperts(s, rows, kernels.Act8))(tb)
	gate := must(d.NewMatrix(randomPacked(tb, r, kind, s.Count*s.FFN, s.Embd)))(tb)
	m.w = kernels.ExpertWeights{Gate: gate, Up: gate, Down: must(d.NewMatrix(randomPacked(tb, r, kind, s.Count*s.Embd, s.FFN)))(tb)}
	d.Write(m.x, 0, normal(r, rows*s.Embd))
	d.Write(m.l, 0, normal(r, rows*s.Count))
	d.Prepare(m.b, m.acts, m.x)
	return m
}

func (m *mixture) step() {
	m.b.Faults = m.b.Faults[:0]
	m.d.MixExperts(m.b, m.x, m.room, m.l, m.acts, m.w)
}

func TestExpertsAllocateNothingInSteadyState(t *testing.T) {
	shape := kernels.ExpertShape{Count: 4, Used: 2, Embd: 256, FFN: 96, Renormalise: true, Scale: 1}
	for _, tier := range cpu.Tiers() {
		for _, threads := range []int{1, 2} {
			d := must(cpu.New(cpu.Options{Threads: threads, Tier: tier}))(t)
			for _, rows := range []int{1, 5, 70} { // the last have panels where there are matrix tiles
				for _, kind := range []quant.Type{quant.Q4_1, quant.F16} {
					m := newMixture(t, d, shape, kind, rows)
					y := must(d.NewBuffer(rows, shape.Embd))(t)
					step := func() {
						m.step()
						d.AddGated(m.b, m.x, y, m.shared)
					}
					step()
					if n := testing.AllocsPerRun(10, step); n != 0 {
						t.Errorf("%s with %d threads, %d rows of %s: %g allocations a step", tier, threads, rows, kind, n)
					}
				}
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestRoomForExpertsIsGivenBackOnce(t *testing.T) {
	d := must(cpu.New(cpu.Options{Threads: 1}))(t)
	shape := kernels.ExpertShape{Count: 4, Used: 2, Embd: 64, FFN: 32, Scale: 1}
	for _, rows := range []int{0, -1, 1 << 62} {
		if e, err := d.NewExperts(shape, rows, kernels.Act8); err == nil {
			t.Errorf("room for %d rows: %v", rows, e)
		}
	}
	if _, err := d.NewExperts(shape, 3, 12); err == nil {
		t.Error("room for 12 bits")
	}
	e := must(d.NewExperts(shape, 3, kernels.Act16))(t)
	if e.Shape() != shape {
		t.Errorf("shape %+v", e.Shape())
	}
	d.Free(e)
	d.Free(e)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkExperts measures experts as models of 30 billion weights with 3 billion in use
// have them, 128 in a layer.
func BenchmarkExperts(b *testing.B) {
	shape := kernels.ExpertShape{Count: 128, Used: 8, Embd: 2048, FFN: 768, Renormalise: true, Scale: 1}
	d := must(cpu.New(cpu.Options{}))(b)
	defer d.Close()
	for _, rows := range []int{1, 8, 256} {
		m := newMixture(b, d, shape, quant.Q4_K, rows)
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			for b.Loop() {
				m.step()
			}
			macs := 3 * float64(rows) * float64(shape.Used) * float64(shape.Embd) * float64(shape.FFN)
			b.ReportMetric(2*macs*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gop/s")
		})
	}
}
