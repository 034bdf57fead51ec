package cpu_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/kernels/quant"
)

// productBench is a matrix and the inputs and outputs of its products.
type productBench struct {
	d        kernels.Device
	matrices []kernels.Matrix
	acts     kernels.Acts
	x, y     kernels.Buffer
	batch    *kernels.Batch
	bytes    int64 // of one matrix
}

// newProductBench makes copies of one matrix, so that a benchmark that visits
// them in turn reads memory rather than caches.
func newProductBench(tb testing.TB, tier string, threads int, t quant.Type, rows, cols, tokens, copies int) *productBench {
	p := &productBench{batch: &kernels.Batch{Rows: make([]kernels.Row, tokens)}}
	p.d = must(cpu.New(cpu.Options{Threads: threads, Tier: tier}))(tb)
	tb.Cleanup(func() { p.d.Close() })
	r := rand.New(rand.NewPCG(1, 2))
	for range copies {
		w := randomPacked(tb, r, t, rows, cols)
		p.bytes = w.Bytes()
		p.matrices = append(p.matrices, must(p.d.NewMatrix(w))(tb))
	}
	p.x, p.y = must(p.d.NewBuffer(tokens, cols))(tb), must(p.d.NewBuffer(tokens, rows))(tb)
	p.acts = must(p.d.NewActs(tokens, cols, kernels.Act8))(tb)
	p.d.Write(p.x, 0, normal(r, tokens*cols))
	p.d.Prepare(p.batch, p.acts, p.x)
	return p
}

// BenchmarkDecode multiplies one token with matrices that come from memory.
func BenchmarkDecode(b *testing.B) {
	for _, tier := range cpu.Tiers() {
		for _, t := range quant.Types() {
			for _, threads := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/%s/threads=%d", tier, t, threads), func(b *testing.B) {
					p := newProductBench(b, tier, threads, t, 2048, 2048, 1, 24)
					b.SetBytes(p.bytes)
					for i := 0; b.Loop(); i++ {
						p.d.MatMul(p.batch, p.y, p.matrices[i%len(p.matrices)], p.acts)
					}
				})
			}
		}
	}
}

// BenchmarkNarrow multiplies a few tokens with matrices that come from memory,
// as a batch of sessions or of drafts does: as long as reading the weights
// takes, a token more should cost next to nothing.
func BenchmarkNarrow(b *testing.B) {
	for _, tier := range cpu.Tiers() {
		for _, t := range quant.Types() {
			for _, tokens := range []int{1, 2, 3, 4, 6, 8, 16} {
				b.Run(fmt.Sprintf("%s/%s/tokens=%d", tier, t, tokens), func(b *testing.B) {
					p := newProductBench(b, tier, 1, t, 2048, 2048, tokens, 24)
					b.SetBytes(p.bytes)
					for i := 0; b.Loop(); i++ {
						p.d.MatMul(p.batch, p.y, p.matrices[i%len(p.matrices)], p.acts)
					}
				})
			}
		}
	}
}

// BenchmarkPrefill multiplies 128 tokens with one matrix.
func BenchmarkPrefill(b *testing.B) {
	for _, tier := range cpu.Tiers() {
		for _, t := range quant.Types() {
			for _, threads := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/%s/threads=%d", tier, t, threads), func(b *testing.B) {
					const rows, cols, tokens = 1536, 768, 128
					p := newProductBench(b, tier, threads, t, rows, cols, tokens, 1)
					for b.Loop() {
						p.d.MatMul(p.batch, p.y, p.matrices[0], p.acts)
					}
					b.ReportMetric(2*rows*cols*tokens*float64(b.N)/b.Elapsed().Seconds()/1e9, "GOPS")
				})
			}
		}
	}
}
