package cpu

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// queued is a device of two threads with what its operations need: 64 columns
// and rows wherever there are any.
type queued struct {
	*testing.T
	d       *Device
	b       *kernels.Batch
	x, y, z kernels.Buffer
	acts    kernels.Acts
	w, f    kernels.Matrix
	v       kernels.Vector
	rope    kernels.Rope
	kv      kernels.KV
	room    kernels.Experts
}

func need[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newQueued(t *testing.T, threads int) *queued {
	const n, cols = 3, 64
	q := &queued{T: t, d: need(New(Options{Threads: threads}))(t).(*Device), b: &kernels.Batch{Rows: make([]kernels.Row, n), Seqs: [][]int32{{0}}}}
	t.Cleanup(func() { q.d.Close() })
	for i := range q.b.Rows {
		q.b.Rows[i].Pos = int32(i)
	}
	for _, b := range []*kernels.Buffer{&q.x, &q.y, &q.z} {
		*b = need(q.d.NewBuffer(n, cols))(t)
	}
	r := rand.New(rand.NewPCG(1, 2))
	matrix := func(kind quant.Type) kernels.Matrix {
		p := need(quant.New(kind, cols, cols))(t)
		for i := range p.Quants {
			p.Quants[i] = byte(r.Uint32()) & 0x3f
		}
		for i := range p.Scales {
			p.Scales[i] = byte(r.Uint32()) & 0x2f
		}
		return need(q.d.NewMatrix(p))(t)
	}
	q.w, q.f = matrix(quant.Q4_1), matrix(quant.F16)
	q.acts = need(q.d.NewActs(n, cols, kernels.Act8))(t)
	data := make([]float32, n*cols)
	for i := range data {
		data[i] = float32(r.NormFloat64())
	}
	q.v = need(q.d.NewVector(data[:cols]))(t)
	q.rope = need(q.d.NewRope(data[:16*n], data[:16*n], n, 32))(t)
	q.kv = need(q.d.NewKV(kernels.KVLayout{Layers: 1, Heads: 2, HeadDim: 32}, 1))(t)
	q.room = need(q.d.NewExperts(kernels.ExpertShape{Count: 1, Used: 1, Embd: cols, FFN: cols, Scale: 1}, n, kernels.Act8))(t)
	q.d.Write(q.x, 0, data)
	q.d.Prepare(q.b, q.acts, q.x)
	return q
}

func (q *queued) read(x kernels.Buffer) []float32 {
	data := make([]float32, 3*64)
	if err := q.d.Read(data, x, 0); err != nil {
		q.Fatal(err)
	}
	return data
}

func TestProductsEndBeforeAnyOtherOperation(t *testing.T) {
	for name, op := range map[string]func(q *queued){
		"Write":     func(q *queued) { q.d.Write(q.z, 0, make([]float32, 64)) },
		"Read":      func(q *queued) { q.read(q.z) },
		"Embed":     func(q *queued) { q.d.Embed(q.b, q.z, q.w, []int32{1, 2, 3}) },
		"Norm":      func(q *queued) { q.d.Norm(q.b, q.z, q.z, q.v, 1e-5) },
		"Prepare":   func(q *queued) { q.d.Prepare(q.b, q.acts, q.z) },
		"AddVector": func(q *queued) { q.d.AddVector(q.b, q.z, q.v) },
		"Rotate":    func(q *queued) { q.d.Rotate(q.b, q.z, 32, q.rope, kernels.RopeHalves) },
		"StoreKV":   func(q *queued) { q.d.StoreKV(q.b, q.kv, 0, q.z, q.z) },
		"Attention": func(q *queued) { q.d.Attention(q.b, q.z, q.y, q.kv, 0, kernels.AttnParams{Heads: 2, Scale: 1}) },
		"SiLUMul":   func(q *queued) { q.d.SiLUMul(q.b, q.z, q.z, q.z) },
		"Add":       func(q *queued) { q.d.Add(q.b, q.z, q.z) },
		"AddGated":  func(q *queued) { q.d.AddGated(q.b, q.z, q.x, need(q.d.NewBuffer(3, 1))(q.T)) },
		"MixExperts": func(q *queued) {
			q.d.MixExperts(q.b, q.z, q.room, need(q.d.NewBuffer(3, 1))(q.T), q.acts, kernels.ExpertWeights{Gate: q.w, Up: q.w, Down: q.w})
		},
		"Gather":      func(q *queued) { q.d.Gather(q.z, q.x, []int32{2, 1}) },
		"CheckFinite": func(q *queued) { q.d.CheckFinite(q.b, q.z) },
		"Free":        func(q *queued) { q.d.Free(q.acts) },
		"close of a matrix": func(q *queued) {
			if err := q.w.Close(); err != nil {
				q.Error(err)
			}
		},
		"Sync": func(q *queued) {
			if err := q.d.Sync(); err != nil {
				q.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueued(t, 2)
			q.d.StoreKV(q.b, q.kv, 0, q.x, q.x)
			q.d.MatMul(q.b, q.y, q.w, q.acts)
			if q.d.products.n != 1 {
				t.Fatalf("%d products wait; want 1", q.d.products.n)
			}
			op(q)
			if q.d.products.n != 0 {
				t.Error("a product still waits")
			}
		})
	}
}

func TestProductsThatWaitGiveWhatTheyGiveAtOnce(t *testing.T) {
	run := func(threads int) (all []float32) {
		q := newQueued(t, threads)
		q.d.MatMul(q.b, q.y, q.w, q.acts)
		q.d.MatMul(q.b, q.z, q.f, q.acts)
		all = append(all, q.read(q.y)...)
		all = append(all, q.read(q.z)...)
		// A product that writes what one before has written, or has read, or that reads
		// what one before writes.
		q.d.MatMul(q.b, q.y, q.f, q.acts)
		q.d.MatMul(q.b, q.y, q.w, q.acts)
		all = append(all, q.read(q.y)...)
		q.d.MatMul(q.b, q.y, q.w, q.acts)
		q.d.MatMul(q.b, q.x, q.f, q.acts)
		q.d.MatMul(q.b, q.z, q.f, q.acts)
		all = append(all, q.read(q.y)...)
		all = append(all, q.read(q.z)...)
		return append(all, q.read(q.x)...)
	}
	if want, got := run(1), run(3); !slices.Equal(got, want) {
		t.Errorf("three threads give %v, one %v", got, want)
	}
}

func TestNoMoreProductsWaitThanThereIsRoomFor(t *testing.T) {
	q := newQueued(t, 2)
	for range 3 * queuedProducts {
		y := need(q.d.NewBuffer(3, 64))(t)
		q.d.MatMul(q.b, y, q.w, q.acts)
		if n := q.d.products.n; n < 1 || n > queuedProducts {
			t.Fatalf("%d products wait", n)
		}
	}
}
