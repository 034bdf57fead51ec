package opencl_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/kernelstest"
	"github.com/weft-mesh/weft/kernels/opencl"
)

// shared is one device for all of a fuzzing worker's inputs.
var shared struct {
	sync.Once
	d *opencl.Device
}

// FuzzShapesOfALayer runs the operations of a layer that read no weights, at shapes made of
// the input, beside the oracle.
func FuzzShapesOfALayer(f *testing.F) {
	openCard(f, opencl.Source()).Close()
	for i := range 48 {
		f.Add(uint64(i), uint16(i*37), uint16(i*101))
	}
	f.Fuzz(func(t *testing.T, seed uint64, length, window uint16) {
		shared.Do(func() { shared.d = newDevice(t) })
		s := newScene(rand.New(rand.NewPCG(seed, 1)), int(length), int(window), seed%16 == 0)
		want, wantFaults, err := s.play(kernelstest.Naive())
		if err != nil {
			t.Fatal(err)
		}
		got, gotFaults, err := s.play(shared.d)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(gotFaults, wantFaults) {
			t.Fatalf("%+v: faults %+v, want %+v", s.shape, gotFaults, wantFaults)
		}
		for i, w := range want {
			if math.Float32bits(w) != math.Float32bits(got[i]) {
				t.Fatalf("%+v: element %d is %g, want %g", s.shape, i, got[i], w)
			}
		}
	})
}

// scene is a batch of some sequences through a layer.
type scene struct {
	shape
	seed uint64
	b    kernels.Batch
}

type shape struct {
	kv, kvHeads, shared, dim, dims, window int
	cap                                    float32
	mode                                   kernels.RopeMode
	lengths, queries                       []int
}

// newScene makes shapes, most of them small: the oracle is slow.
func newScene(r *rand.Rand, length, window int, large bool) *scene {
	s := &scene{seed: r.Uint64()}
	s.kv, s.kvHeads, s.shared, s.dim = r.IntN(2), 1+r.IntN(2), 1+r.IntN(5), 2*(1+r.IntN(20))
	length, window = length%270, window%300
	queries, others := 8, 40
	if large {
		s.kvHeads, s.shared, s.dim, queries, others = 1+r.IntN(3), 1+r.IntN(25), 2*(1+r.IntN(70)), 40, 300
		length, window = length*4, window*4
	}
	s.dims = 2 * (1 + r.IntN(s.dim/2))
	if r.IntN(2) == 0 {
		s.window = 1 + window
	}
	if r.IntN(3) == 0 {
		s.cap = 1 + 40*r.Float32()
	}
	s.mode = kernels.RopeMode(r.IntN(2))
	s.lengths = []int{1 + length}
	for range r.IntN(3) {
		s.lengths = append(s.lengths, 1+r.IntN(others))
	}
	block := int32(0)
	for i, n := range s.lengths {
		q := 1 + r.IntN(min(n, queries))
		s.queries = append(s.queries, q)
		var table []int32
		for range (n + 15) / 16 {
			table = append(table, block)
			block++
		}
		s.b.Seqs = append(s.b.Seqs, table)
		for p := n - q; p < n; p++ {
			s.b.Rows = append(s.b.Rows, kernels.Row{Seq: int32(i), Pos: int32(p)})
		}
	}
	return s
}

func numbers(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
		if r.IntN(50) == 0 {
			x[i] *= 1e-13
		}
	}
	return x
}

func (s *scene) play(d kernels.Device) (out []float32, faults []kernels.Fault, err error) {
	r := rand.New(rand.NewPCG(s.seed, 2))
	n, width, q := len(s.b.Rows), s.kvHeads*s.dim, s.kvHeads*s.shared*s.dim
	b := s.b
	b.Layer = 5
	var handles []any
	defer func() {
		for _, h := range handles {
			d.Free(h)
		}
	}()
	buffer := func(rows, cols int) kernels.Buffer {
		h, e := d.NewBuffer(rows, cols)
		if e != nil {
			panic(e)
		}
		handles = append(handles, h)
		d.Write(h, 0, numbers(r, rows*cols))
		return h
	}
	x, y, k := buffer(n, q), buffer(n, q), buffer(n, width)
	const step = 100
	w, e1 := d.NewVector(numbers(r, s.dim))
	longest := slices.Max(s.lengths)
	table, e2 := d.NewRope(numbers(r, longest*s.dims/2), numbers(r, longest*s.dims/2), longest, s.dims)
	blocks := 0
	for _, t := range s.b.Seqs {
		blocks += len(t)
	}
	kv, e3 := d.NewKV(kernels.KVLayout{Type: kernels.KVType(s.kv), Layers: 1, Heads: s.kvHeads, HeadDim: s.dim}, blocks)
	if e1 != nil || e2 != nil || e3 != nil {
		return nil, nil, fmt.Errorf("%w, %w, %w", e1, e2, e3)
	}
	handles = append(handles, w, table)
	defer kv.Close()
	past := buffer(step, width)
	for i, length := range s.lengths {
		for from := 0; from < length-s.queries[i]; from += step {
			fill := kernels.Batch{Seqs: b.Seqs}
			for p := from; p < min(from+step, length-s.queries[i]); p++ {
				fill.Rows = append(fill.Rows, kernels.Row{Seq: int32(i), Pos: int32(p)})
			}
			d.Write(past, 0, numbers(r, step*width))
			d.StoreKV(&fill, kv, 0, past, past)
		}
	}
	d.Norm(&b, y, x, w, 1e-6)
	d.Rotate(&b, y, s.dim, table, s.mode)
	d.StoreKV(&b, kv, 0, k, k)
	d.Attention(&b, x, y, kv, 0, kernels.AttnParams{Heads: s.kvHeads * s.shared, Scale: 0.3, Window: s.window, Softcap: s.cap})
	d.SiLUMul(&b, y, y, x)
	d.Add(&b, x, y)
	d.CheckFinite(&b, x)
	out = make([]float32, n*q)
	if err := d.Read(out, x, 0); err != nil {
		return nil, nil, err
	}
	err = d.Sync()
	slices.SortFunc(b.Faults, func(a, b kernels.Fault) int { return a.Row - b.Row })
	return out, b.Faults, err
}
