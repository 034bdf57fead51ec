package cpu

import (
	"fmt"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// BenchmarkContract times what the contract has of its own, by tier and for
// 4096 elements that the first-level cache holds: the floor, alone and in sums,
// the exponential, and the hyperbolic tangent, which is plain Go in every tier.
func BenchmarkContract(b *testing.B) {
	const n = 4096
	for _, set := range available() {
		d := &Device{set: set}
		x, y, out := make([]float32, n), make([]float32, n), make([]float32, n)
		run := func(name string, op func()) {
			b.Run(fmt.Sprintf("%s/%s", set.tier, name), func(b *testing.B) {
				for i := range x {
					x[i], y[i] = float32(i%61)/10-3, float32(i%53)/10-2.5
				}
				for b.Loop() {
					op()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
			})
		}
		run("floor", func() { d.floorAll(x) })
		run("add", func() { d.addRow(out, x, y) })
		run("silu", func() { d.siluRow(out, x, y) })
		softened := func(limit float32) func() {
			c := attnRun{attnTask: &attnTask{d: d, p: kernels.AttnParams{Scale: 1, Softcap: limit}}, n: n / chunkPositions}
			c.s = new(attnScratch)
			c.s.sized(c.n, 16)
			for i := range c.s.spans {
				c.s.spans[i] = [2]int32{0, chunkPositions}
			}
			return func() {
				for i := range c.n {
					copy(c.s.scores[i*scoreStride:], x[i*chunkPositions:(i+1)*chunkPositions])
				}
				c.soften()
			}
		}
		run("softmax", softened(0))
		run("softmax with a soft cap", softened(30))
	}
	b.Run("copy", func(b *testing.B) {
		x, y := make([]float32, n), make([]float32, n)
		for b.Loop() {
			copy(y, x)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
	})
	b.Run("tanh", func(b *testing.B) {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(i%61)/10 - 3
		}
		var sum float32
		for b.Loop() {
			for _, v := range x {
				sum += arith.Tanh(v)
			}
		}
		if sum == 1 {
			b.Log(sum)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
	})
}
