package conform

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/weft-mesh/weft/kernels"
)

// scene is one attention scenario: sequences of some lengths whose last rows
// are queried together.
type scene struct {
	kv      kernels.KVType
	heads   int // query heads
	kvHeads int
	dim     int
	lengths []int // of the sequences
	queries int   // last positions of each that are queried
	params  kernels.AttnParams
	hidden  bool // positions after each query hold NaN
	data    func(*rand.Rand, int) []float32
}

// tables gives each sequence blocks of the memory in scrambled order, with one
// spare block that belongs to nobody.
func tables(r *rand.Rand, lengths []int) (seqs [][]int32, blocks int) {
	for _, n := range lengths {
		blocks += (n + 15) / 16
	}
	blocks++
	order := r.Perm(blocks)
	for _, n := range lengths {
		t := make([]int32, (n+15)/16)
		for i := range t {
			t[i], order = int32(order[0]), order[1:]
		}
		seqs = append(seqs, t)
	}
	return seqs, blocks
}

// play stores each sequence's keys and values layer by layer in batches, then
// attends from the last positions of all.
func (c scene) play(s *suite, name string, seed uint64) {
	r := random(seed)
	seqs, blocks := tables(r, c.lengths)
	if c.data == nil {
		c.data = ordinary
	}
	const layers = 2
	width := c.kvHeads * c.dim
	keys, values := make([][]float32, len(seqs)), make([][]float32, len(seqs))
	for i, n := range c.lengths {
		keys[i], values[i] = c.data(r, n*width), c.data(r, n*width)
		for k := range keys[i] { // keep scores within exp's reach, now and then not
			keys[i][k] /= 4
		}
	}
	batch := kernels.Batch{Seqs: seqs, Layer: 3}
	for i, n := range c.lengths {
		for q := max(0, n-c.queries); q < n; q++ {
			batch.Rows = append(batch.Rows, kernels.Row{Seq: int32(i), Pos: int32(q)})
		}
	}
	q := ordinary(r, len(batch.Rows)*c.heads*c.dim)
	c.params.Heads = c.heads
	if c.params.Scale == 0 {
		c.params.Scale = float32(1 / math.Sqrt(float64(c.dim)))
	}
	layout := kernels.KVLayout{Type: c.kv, Layers: layers, Heads: c.kvHeads, HeadDim: c.dim}
	s.same(name, batch, func(t *trace) {
		kv := must(t.d.NewKV(layout, blocks))
		if kv.Blocks() != blocks || kv.Layout() != layout {
			panic(failure{fmt.Errorf("memory says %d blocks of %+v", kv.Blocks(), kv.Layout())})
		}
		for i := range seqs {
			c.fill(t, kv, i, keys[i], values[i])
		}
		in := t.buffer(len(batch.Rows), c.heads*c.dim, q)
		out := t.buffer(len(batch.Rows), c.heads*c.dim, nil)
		for layer := range layers {
			t.d.Attention(t.b, out, in, kv, layer, c.params)
			t.read(fmt.Sprintf("layer %d", layer), out, len(batch.Rows))
		}
		if err := kv.Close(); err != nil {
			panic(failure{err})
		}
	})
}

// fill stores a sequence in batches of up to 48 rows. Layer 1 gets the values
// as keys and the keys as values.
func (c scene) fill(t *trace, kv kernels.KV, seq int, keys, values []float32) {
	width := c.kvHeads * c.dim
	const step = 48
	kb, vb := t.buffer(step, width, nil), t.buffer(step, width, nil)
	n := len(keys) / width
	for from := 0; from < n; from += step {
		to := min(n, from+step)
		b := kernels.Batch{Seqs: t.b.Seqs}
		for p := from; p < to; p++ {
			b.Rows = append(b.Rows, kernels.Row{Seq: int32(seq), Pos: int32(p)})
		}
		t.d.Write(kb, 0, keys[from*width:to*width])
		t.d.Write(vb, 0, values[from*width:to*width])
		t.d.StoreKV(&b, kv, 0, kb, vb)
		t.d.StoreKV(&b, kv, 1, vb, kb)
	}
	if !c.hidden {
		return
	}
	// What lies behind the queried positions must not matter, even a NaN.
	bad := make([]float32, width)
	for i := range bad {
		bad[i] = float32(math.NaN())
	}
	last := len(t.b.Seqs[seq])*kernels.BlockPositions - 1
	for p := n - c.queries + 1; p <= last; p++ {
		b := kernels.Batch{Seqs: t.b.Seqs, Rows: []kernels.Row{{Seq: int32(seq), Pos: int32(p)}}}
		t.d.Write(kb, 0, bad)
		t.d.Write(vb, 0, bad)
		for layer := range 2 {
			t.d.StoreKV(&b, kv, layer, kb, vb)
		}
	}
}

var kvTypes = []kernels.KVType{kernels.KVF16, kernels.KVF32}

func attentionShapes(s *suite) {
	seed := uint64(6000)
	for _, kv := range kvTypes {
		for _, dim := range []int{16, 32, 40, 64, 80, 96, 128} {
			for _, ratio := range []int{1, 3, 4, 7} {
				seed++
				if s.depth == Quick && (ratio != 4 || dim == 32 || dim == 96) {
					continue
				}
				c := scene{kv: kv, heads: 2 * ratio, kvHeads: 2, dim: dim, lengths: []int{21}, queries: 3}
				c.play(s, fmt.Sprintf("kv type %d, %d query heads a head of %d", kv, ratio, dim), seed)
				if s.depth == Short {
					break
				}
			}
		}
		seed++
		edge := scene{kv: kv, heads: 4, kvHeads: 2, dim: 32, lengths: []int{70}, queries: 9, data: smallEdges}
		edge.play(s, fmt.Sprintf("kv type %d, edge data", kv), seed)
		edge.params.Softcap, edge.params.Scale = 30, 0.7
		edge.play(s, fmt.Sprintf("kv type %d, edge data, soft cap", kv), seed)
	}
}

// smallEdges are edges that half precision holds.
func smallEdges(r *rand.Rand, n int) []float32 {
	x := edges(r, n)
	for i, v := range x {
		if v > 60000 || v < -60000 {
			x[i] = float32(r.NormFloat64())
		}
	}
	return x
}

func attentionLengths(s *suite) {
	lengths := []int{1, 2, 15, 16, 17, 31, 33, 100, 255, 256, 257, 272, 511, 512, 513, 530, 1025}
	if !s.short {
		lengths = append(lengths, 4095, 4096, 4097, 4353, 8200)
	}
	for i, n := range lengths {
		if s.depth == Quick && !slices.Contains([]int{1, 17, 256, 257, 530, 1025}, n) {
			continue
		}
		c := scene{kv: kvTypes[i%2], heads: 2, kvHeads: 1, dim: 16, lengths: []int{n}, queries: min(n, 2)}
		c.play(s, fmt.Sprintf("%d positions", n), uint64(7000+i))
		c.params.Softcap = 5
		c.play(s, fmt.Sprintf("%d positions, soft cap", n), uint64(7000+i))
		for _, w := range []int{1, 16, 100, 256, 300, 4100} {
			if w >= n || n > 4200 && w < 256 || s.depth == Quick && w != 100 && w != 300 {
				continue
			}
			c.params = kernels.AttnParams{Window: w}
			c.play(s, fmt.Sprintf("%d positions, window %d", n, w), uint64(7100+i))
		}
	}
}

// attentionBatches mixes sequences of different lengths; each row must see its
// own sequence alone. A wide batch of one sequence is prefill.
func attentionBatches(s *suite) {
	for i, kv := range kvTypes {
		c := scene{kv: kv, heads: 6, kvHeads: 2, dim: 32, lengths: []int{1, 300, 17, 64, 257, 5}, queries: 1}
		c.play(s, fmt.Sprintf("kv type %d, six sequences decode", kv), uint64(8000+i))
		c.queries = 5
		c.play(s, fmt.Sprintf("kv type %d, six sequences of five rows", kv), uint64(8010+i))
		c.params.Window = 20
		c.play(s, fmt.Sprintf("kv type %d, six sequences, window", kv), uint64(8020+i))
		c = scene{kv: kv, heads: 3, kvHeads: 1, dim: 64, lengths: []int{37, 280}, queries: 33}
		c.play(s, fmt.Sprintf("kv type %d, prefill of 33 rows", kv), uint64(8030+i))
		if !s.short {
			c.lengths, c.queries, c.params.Window = []int{300}, 300, 70
			c.play(s, fmt.Sprintf("kv type %d, prefill of 300 rows in a window", kv), uint64(8040+i))
			c.lengths, c.queries, c.params.Window = []int{530}, 40, 0
			c.play(s, fmt.Sprintf("kv type %d, 40 rows across a chunk's border", kv), uint64(8050+i))
		}
	}
}

func attentionHidden(s *suite) {
	for i, kv := range kvTypes {
		for _, n := range []int{3, 20, 250, 258} {
			for _, dim := range []int{16, 40, 64} {
				c := scene{kv: kv, heads: 3, kvHeads: 1, dim: dim, lengths: []int{n, n + 9}, queries: 1, hidden: true}
				c.play(s, fmt.Sprintf("kv type %d, NaN after position %d, head of %d", kv, n-1, dim), uint64(9000+10*n+i))
			}
		}
		s.same(fmt.Sprintf("kv type %d, NaN before the window", kv), windowBatch(), func(t *trace) { hiddenWindow(t, kv) })
	}
}

func windowBatch() kernels.Batch {
	return kernels.Batch{Rows: []kernels.Row{{Pos: 300}}, Seqs: [][]int32{tableOf(19)}}
}

func tableOf(blocks int) []int32 {
	t := make([]int32, blocks)
	for i := range t {
		t[i] = int32(blocks - 1 - i)
	}
	return t
}

func hiddenWindow(t *trace, kv kernels.KVType) {
	const dim, window = 16, 50
	r := random(9900)
	m := must(t.d.NewKV(kernels.KVLayout{Type: kv, Layers: 1, Heads: 1, HeadDim: dim}, 19))
	x := t.buffer(1, dim, nil)
	for p := range 301 {
		v := ordinary(r, dim)
		if p <= 300-window {
			for i := range v {
				v[i] = float32(math.Inf(1 - i%2*2))
			}
		}
		t.d.Write(x, 0, v)
		b := kernels.Batch{Rows: []kernels.Row{{Pos: int32(p)}}, Seqs: t.b.Seqs}
		t.d.StoreKV(&b, m, 0, x, x)
	}
	out := t.buffer(1, dim, nil)
	t.d.Attention(t.b, out, x, m, 0, kernels.AttnParams{Heads: 1, Scale: 0.25, Window: window})
	t.read("window", out, 1)
	if err := m.Close(); err != nil {
		panic(failure{err})
	}
}
