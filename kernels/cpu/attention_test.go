package cpu_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
)

// How a context's chunks are shared out depends on the number of workers and on
// what else is in the batch: by chunks, by groups of them, or not at all. The
// results must not.
func TestAttentionIsTheSameHoweverItIsSharedOut(t *testing.T) {
	const heads, shared, dim = 8, 2, 16
	type batch struct {
		lengths []int // of sequences
		rows    int   // last ones of each
		window  int
	}
	for _, c := range []batch{
		{[]int{300}, 1, 0},
		{[]int{2100}, 1, 0},
		{[]int{4200}, 3, 0},
		{[]int{9000}, 1, 0},
		{[]int{9000}, 2, 6000},
		{[]int{9000, 40, 700}, 1, 0},
		{[]int{12500}, 20, 0},
		{[]int{12500}, 1, 4100},
	} {
		t.Run(fmt.Sprintf("%v", c), func(t *testing.T) {
			want := []float32(nil)
			for _, threads := range []int{1, 2, 3, 7} {
				got := attentionOf(t, threads, c.lengths, c.rows, kernels.AttnParams{Heads: heads * shared, Scale: 0.3, Window: c.window}, heads, dim)
				if want == nil {
					want = got
				}
				for i := range want {
					if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
						t.Fatalf("%d threads: element %d is %g, with one thread %g", threads, i, got[i], want[i])
					}
				}
			}
		})
	}
}

// attentionOf fills KV memory with random numbers and attends from the last rows
// of each sequence.
func attentionOf(t *testing.T, threads int, lengths []int, rows int, p kernels.AttnParams, heads, dim int) []float32 {
	t.Helper()
	d := must(cpu.New(cpu.Options{Threads: threads}))(t)
	defer d.Close()
	r := rand.New(rand.NewPCG(3, 9))
	b := &kernels.Batch{}
	blocks := int32(0)
	for _, n := range lengths {
		var table []int32
		for range (n + kernels.BlockPositions - 1) / kernels.BlockPositions {
			table = append(table, blocks)
			blocks++
		}
		b.Seqs = append(b.Seqs, table)
	}
	kv := must(d.NewKV(kernels.KVLayout{Layers: 1, Heads: heads, HeadDim: dim}, int(blocks)))(t)
	const step = 512
	k, v := must(d.NewBuffer(step, heads*dim))(t), must(d.NewBuffer(step, heads*dim))(t)
	for seq, n := range lengths {
		for at := 0; at < n; at += step {
			store := &kernels.Batch{Seqs: b.Seqs}
			for i := range min(step, n-at) {
				store.Rows = append(store.Rows, kernels.Row{Seq: int32(seq), Pos: int32(at + i)})
			}
			d.Write(k, 0, normal(r, len(store.Rows)*heads*dim))
			d.Write(v, 0, normal(r, len(store.Rows)*heads*dim))
			d.StoreKV(store, kv, 0, k, v)
		}
		for i := range rows {
			b.Rows = append(b.Rows, kernels.Row{Seq: int32(seq), Pos: int32(n - rows + i)})
		}
	}
	width := p.Heads * dim
	q, out := must(d.NewBuffer(len(b.Rows), width))(t), must(d.NewBuffer(len(b.Rows), width))(t)
	d.Write(q, 0, normal(r, len(b.Rows)*width))
	d.Attention(b, out, q, kv, 0, p)
	if len(b.Faults) > 0 {
		t.Fatalf("fault %+v", b.Faults[0])
	}
	got := make([]float32, len(b.Rows)*width)
	if err := d.Read(got, out, 0); err != nil {
		t.Fatal(err)
	}
	return got
}
