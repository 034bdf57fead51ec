package cpu_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
)

// BenchmarkAttention attends from the last rows of one sequence, as prefill by
// chunks of 256 rows and as decode do, over contexts that caches hold and that
// they do not. The heads are SmolLM2's: three query heads share a KV head of 64.
func BenchmarkAttention(b *testing.B) {
	for _, tier := range cpu.Tiers() {
		for _, c := range []struct{ rows, context int }{{1, 256}, {1, 4096}, {1, 32768}, {256, 256}, {256, 2048}} {
			for _, threads := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/rows=%d/context=%d/threads=%d", tier, c.rows, c.context, threads), func(b *testing.B) {
					attentionBench(b, tier, threads, c.rows, c.context)
				})
			}
		}
	}
}

// attentionBench reports the bytes of keys and values that a pass over the
// context reads, and the multiply-adds.
func attentionBench(b *testing.B, tier string, threads, rows, context int) {
	const heads, shared, dim, layers = 3, 3, 64, 4
	d := must(cpu.New(cpu.Options{Threads: threads, Tier: tier}))(b)
	defer d.Close()
	layout := kernels.KVLayout{Layers: layers, Heads: heads, HeadDim: dim}
	blocks := context / kernels.BlockPositions
	kv := must(d.NewKV(layout, blocks))(b)
	batch := &kernels.Batch{Seqs: [][]int32{make([]int32, blocks)}}
	for i := range blocks {
		batch.Seqs[0][i] = int32(i)
	}
	r := rand.New(rand.NewPCG(5, 6))
	k := must(d.NewBuffer(256, heads*dim))(b)
	d.Write(k, 0, normal(r, 256*heads*dim))
	for at := 0; at < context; at += 256 {
		batch.Rows = batch.Rows[:0]
		for i := range min(256, context-at) {
			batch.Rows = append(batch.Rows, kernels.Row{Pos: int32(at + i)})
		}
		for layer := range layers {
			d.StoreKV(batch, kv, layer, k, k)
		}
	}
	batch.Rows = batch.Rows[len(batch.Rows)-rows:]
	q, out := must(d.NewBuffer(rows, heads*shared*dim))(b), must(d.NewBuffer(rows, heads*shared*dim))(b)
	d.Write(q, 0, normal(r, rows*heads*shared*dim))
	p := kernels.AttnParams{Heads: heads * shared, Scale: 0.125}
	b.SetBytes(int64(context * heads * dim * 2 * 2))
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		d.Attention(batch, out, q, kv, i%layers, p)
	}
	pairs := 0
	for _, row := range batch.Rows {
		pairs += int(row.Pos) + 1
	}
	b.ReportMetric(4*float64(pairs*heads*shared*dim)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOPS")
}
