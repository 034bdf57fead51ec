package cuda

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// BenchmarkExperts measures experts as models of 30 billion weights with 3 billion in use have
// them, 128 in a layer.
func BenchmarkExperts(b *testing.B) {
	d := realCard(b, 0)
	defer d.Close()
	s := kernels.ExpertShape{Count: 128, Used: 8, Embd: 2048, FFN: 768, Renormalise: true, Scale: 1}
	r := rand.New(rand.NewPCG(3, 4))
	gate, down := randomMatrix(b, quant.Q4_K, s.Count*s.FFN, s.Embd, r), randomMatrix(b, quant.Q4_K, s.Count*s.Embd, s.FFN, r)
	w := kernels.ExpertWeights{Gate: must(d.NewMatrix(gate))(b), Up: must(d.NewMatrix(gate))(b), Down: must(d.NewMatrix(down))(b)}
	for _, n := range []int{1, 8, 256} {
		x, l, y := must(d.NewBuffer(n, s.Embd))(b), must(d.NewBuffer(n, s.Count))(b), must(d.NewBuffer(n, s.Embd))(b)
		a, room := must(d.NewActs(n, s.Embd, kernels.Act8))(b), must(d.NewExperts(s, n, kernels.Act8))(b)
		for _, t := range []struct {
			dst  kernels.Buffer
			cols int
		}{{x, s.Embd}, {l, s.Count}} {
			data := make([]float32, n*t.cols)
			for i := range data {
				data[i] = float32(r.NormFloat64())
			}
			d.Write(t.dst, 0, data)
		}
		batch := &kernels.Batch{Rows: make([]kernels.Row, n)}
		d.Prepare(batch, a, x)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			each := timed(b, d, func(int) { d.MixExperts(batch, y, room, l, a, w) }).Seconds()
			b.ReportMetric(2*3*float64(n*s.Used)*float64(s.Embd*s.FFN)/each/1e9, "Gop/s")
			b.ReportMetric(each*1e6, "us")
		})
		for _, h := range []any{x, l, y, a, room} {
			d.Free(h)
		}
	}
}
