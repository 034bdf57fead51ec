package exact_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/exact"
	"github.com/weft-mesh/weft/kernels/kernelstest"
	"github.com/weft-mesh/weft/kernels/quant"
)

func device(t testing.TB, o exact.Options) *exact.Device {
	t.Helper()
	d, err := exact.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 77)) }

func normal(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func batch(n int) *kernels.Batch {
	b := &kernels.Batch{Rows: make([]kernels.Row, n), Layer: 5}
	for i := range b.Rows {
		b.Rows[i].Pos = int32(i)
	}
	return b
}

// write makes a buffer that holds x.
func write(d kernels.Device, rows int, x []float32) kernels.Buffer {
	b := must(d.NewBuffer(rows, len(x)/rows))
	d.Write(b, 0, x)
	return b
}

func read(d kernels.Device, b kernels.Buffer) []float32 {
	rows, cols := b.Shape()
	x := make([]float32, rows*cols)
	if err := d.Read(x, b, 0); err != nil {
		panic(err)
	}
	return x
}

// weights gives random GGUF bytes whose scales are finite and below 1.
func weights(r *rand.Rand, t quant.Type, rows, cols int) []byte {
	info := must(t.Info())
	b := make([]byte, must(t.Bytes(rows, cols)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	top := map[quant.Type][]int{
		quant.Q4_1: {1, 3}, quant.Q5_1: {1, 3}, quant.Q4_K: {1, 3}, quant.Q5_K: {1, 3}, quant.Q2_K: {81, 83},
		quant.Q3_K: {109}, quant.Q6_K: {209}, quant.BF16: {1}, quant.F32: {3},
	}
	for at := 0; at < len(b); at += info.BlockBytes {
		places := top[t]
		if places == nil {
			places = []int{1}
		}
		for _, p := range places {
			b[at+p] = b[at+p]&0x83 | 0x2c // 2^-4 to 2^-5 in half precision
			if t == quant.BF16 || t == quant.F32 {
				b[at+p] |= 0x3c
			}
		}
		if t == quant.MXFP4 {
			b[at] = byte(120 + r.IntN(8))
		}
	}
	return b
}

func TestProductsEqualFloat64SumsOfDecodedWeights(t *testing.T) {
	for _, typ := range quant.Types() {
		for _, cache := range []int64{0, 1 << 30} {
			for _, n := range []int{1, 3, 4, 5, 8, 11} {
				r := random(uint64(typ)*100 + uint64(n))
				const rows = 37
				cols := 3 * max(must(typ.Info()).BlockElems, 11)
				src := weights(r, typ, rows, cols)
				p := must(quant.New(typ, rows, cols))
				if err := p.Pack(src, 0, p.Groups()); err != nil {
					t.Fatal(err)
				}
				w := make([]float32, rows*cols)
				if err := quant.Decode(w, typ, src); err != nil {
					t.Fatal(err)
				}
				x := normal(r, n*cols)
				d := device(t, exact.Options{Threads: 2, CacheBytes: cache})
				m, a, out := must(d.NewMatrix(p)), must(d.NewActs(n, cols, kernels.Act8)), must(d.NewBuffer(n, rows))
				b := batch(n)
				d.Prepare(b, a, write(d, n, x))
				d.MatMul(b, out, m, a)
				got := read(d, out)
				for i := range n {
					for o := range rows {
						var want, size float64
						for k := range cols {
							v := float64(w[o*cols+k]) * float64(x[i*cols+k])
							want += v
							size += math.Abs(v)
						}
						if e := math.Abs(float64(got[i*rows+o]) - want); e > 1e-7*math.Abs(want)+1e-9*size {
							t.Fatalf("%s, cache %d, %d rows: %g, want %g", typ, cache, n, got[i*rows+o], want)
						}
					}
				}
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// play runs every operation once and gives all results.
func play(d kernels.Device, n int, threadsSeen func(string)) []float32 {
	r := random(42)
	const dim, heads, kvHeads, hidden = 32, 6, 2, 192
	threadsSeen(d.Name())
	b := batch(n)
	b.Seqs = [][]int32{{3, 0, 2, 1}}
	x, y := write(d, n, normal(r, 64*hidden)[:n*hidden]), write(d, n, normal(r, 64*hidden)[:n*hidden])
	k, v := write(d, n, normal(r, 64*dim*kvHeads)[:n*dim*kvHeads]), write(d, n, normal(r, 64*dim*kvHeads)[:n*dim*kvHeads])
	w := must(quant.New(quant.F32, hidden, hidden))
	src := make([]byte, 0, 4*hidden*hidden)
	for _, f := range normal(r, hidden*hidden) {
		u := math.Float32bits(f / 14)
		src = append(src, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
	}
	if err := w.Pack(src, 0, w.Groups()); err != nil {
		panic(err)
	}
	m, a := must(d.NewMatrix(w)), must(d.NewActs(n, hidden, kernels.Act16))
	out := must(d.NewBuffer(n, hidden))
	cos, sin, err := arith.RopeTable(arith.RopeParams{Dims: 20, Base: 10000}, 64)
	if err != nil {
		panic(err)
	}
	rope := must(d.NewRope(cos, sin, 64, 20))
	kv := must(d.NewKV(kernels.KVLayout{Type: kernels.KVF32, Layers: 2, Heads: kvHeads, HeadDim: dim}, 4))
	var all []float32
	keep := func(b kernels.Buffer) { all = append(all, read(d, b)...) }

	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(7 * i % hidden)
	}
	d.Embed(b, out, m, ids)
	keep(out)
	d.Norm(b, x, x, must(d.NewVector(normal(r, hidden/4))), 1e-5)
	keep(x)
	d.Prepare(b, a, x)
	d.MatMul(b, out, m, a)
	d.AddVector(b, out, must(d.NewVector(normal(r, hidden))))
	keep(out)
	d.Rotate(b, out, dim, rope, kernels.RopePairs)
	keep(out)
	d.Rotate(b, k, dim, rope, kernels.RopeHalves)
	keep(k)
	d.StoreKV(b, kv, 1, k, v)
	for _, p := range []kernels.AttnParams{{Heads: heads, Scale: 0.17}, {Heads: heads, Scale: 0.4, Window: 9, Softcap: 3}} {
		d.Attention(b, y, out, kv, 1, p)
		keep(y)
	}
	d.SiLUMul(b, out, out, x)
	d.Add(b, out, y)
	keep(out)
	d.Gather(y, out, []int32{int32(n - 1), 0})
	keep(y)
	d.CheckFinite(b, out)
	if len(b.Faults) > 0 {
		panic(fmt.Sprint(b.Faults))
	}
	if err := d.Sync(); err != nil {
		panic(err)
	}
	if err := kv.Close(); err != nil {
		panic(err)
	}
	d.Free(out)
	return all
}

// With float weights and float32 keys and values, the contract's device and
// this one differ by float32's rounding alone.
func TestOperationsAgreeWithTheContractToRounding(t *testing.T) {
	const n = 50
	got := play(device(t, exact.Options{}), n, func(string) {})
	want := play(kernelstest.Naive(), n, func(string) {})
	if len(got) != len(want) {
		t.Fatal(len(got), len(want))
	}
	for i := range got {
		if e := math.Abs(float64(got[i]) - float64(want[i])); e > 2e-5*(1+math.Abs(float64(want[i]))) {
			t.Fatalf("element %d: %g, the contract gives %g", i, got[i], want[i])
		}
	}
}

func TestResultsDoNotDependOnThreadsOrCache(t *testing.T) {
	names := map[string]bool{}
	see := func(n string) { names[n] = true }
	want := play(device(t, exact.Options{Threads: 1}), 23, see)
	for _, o := range []exact.Options{{Threads: 2}, {Threads: 7}, {Threads: 3, CacheBytes: 1 << 30}, {Threads: 3, CacheBytes: 1000}} {
		if !slices.Equal(play(device(t, o), 23, see), want) {
			t.Errorf("%+v gives other results", o)
		}
	}
	if len(names) != 4 {
		t.Errorf("names %v", names)
	}
}

func TestARowDoesNotDependOnItsNeighbours(t *testing.T) {
	r := random(9)
	const n, cols, rows = 9, 70, 21
	p := must(quant.New(quant.F16, rows, cols))
	if err := p.Pack(weights(r, quant.F16, rows, cols), 0, p.Groups()); err != nil {
		t.Fatal(err)
	}
	d := device(t, exact.Options{})
	m := must(d.NewMatrix(p))
	x := normal(r, n*cols)
	product := func(rows int, x []float32) []float32 {
		a, out := must(d.NewActs(rows, cols, kernels.Act8)), must(d.NewBuffer(rows, p.Rows))
		d.Prepare(batch(rows), a, write(d, rows, x))
		d.MatMul(batch(rows), out, m, a)
		return read(d, out)
	}
	all := product(n, x)
	for i := range n {
		if one := product(1, x[i*cols:(i+1)*cols]); !slices.Equal(one, all[i*rows:(i+1)*rows]) {
			t.Fatalf("row %d alone differs", i)
		}
	}
}

func TestRefusedValuesAreFaults(t *testing.T) {
	d := device(t, exact.Options{})
	nan := float32(math.NaN())
	x := normal(random(1), 4*32)
	x[2*32+5] = nan
	b := batch(4)
	b.Seqs = [][]int32{{0}}
	expect := func(op string) {
		t.Helper()
		if len(b.Faults) != 1 || b.Faults[0] != (kernels.Fault{Row: 2, Layer: 5, Op: op}) {
			t.Errorf("%s: faults %+v", op, b.Faults)
		}
		b.Faults = nil
	}
	in, out := write(d, 4, x), must(d.NewBuffer(4, 32))
	d.Prepare(b, must(d.NewActs(4, 32, kernels.Act8)), in)
	expect("quantise")
	d.Norm(b, out, in, must(d.NewVector(normal(random(2), 8))), 1e-5)
	d.CheckFinite(b, in) // a row keeps its first fault
	expect("norm")
	d.CheckFinite(b, in)
	expect("logits")
	kv := must(d.NewKV(kernels.KVLayout{Layers: 1, Heads: 1, HeadDim: 32}, 1))
	good := write(d, 4, normal(random(3), 4*32))
	d.StoreKV(b, kv, 0, good, in)
	expect("kv")
	d.StoreKV(b, kv, 0, good, good)
	d.Attention(b, out, in, kv, 0, kernels.AttnParams{Heads: 1, Scale: 1})
	expect("attention")
}

func TestWrongShapesPanicAndWrongSizesAreErrors(t *testing.T) {
	d := device(t, exact.Options{})
	b := batch(2)
	x, narrow := must(d.NewBuffer(2, 64)), must(d.NewBuffer(2, 32))
	a := must(d.NewActs(2, 64, kernels.Act8))
	p := must(quant.New(quant.Q8_0, 16, 32))
	m := must(d.NewMatrix(p))
	for name, f := range map[string]func(){
		"foreign": func() { d.Add(b, x, struct{ kernels.Buffer }{x}) },
		"add":     func() { d.Add(b, x, narrow) },
		"bias":    func() { d.AddVector(b, x, must(d.NewVector(make([]float32, 3)))) },
		"product": func() { d.MatMul(b, narrow, m, a) },
		"prepare": func() { d.Prepare(b, a, narrow) },
		"write":   func() { d.Write(x, 1, make([]float32, 128)) },
		"rows":    func() { d.Add(batch(3), x, x) },
		"embed":   func() { d.Embed(b, narrow, m, []int32{1}) },
		"gather":  func() { d.Gather(narrow, x, []int32{0}) },
		"silu":    func() { d.SiLUMul(b, x, x, narrow) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s does not panic", name)
				}
			}()
			f()
		}()
	}
	fails := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s is no error", what)
		}
	}
	_, err := d.NewBuffer(0, 4)
	fails("empty buffer", err)
	_, err = d.NewActs(1, -1, kernels.Act8)
	fails("negative acts", err)
	_, err = d.NewVector(nil)
	fails("empty vector", err)
	_, err = d.NewRope(make([]float32, 3), make([]float32, 4), 2, 4)
	fails("rope of wrong length", err)
	_, err = d.NewKV(kernels.KVLayout{}, 3)
	fails("kv without layers", err)
	_, err = d.NewMatrix(&quant.Packed{Type: quant.Q4_K, Rows: 1, Cols: 32})
	fails("matrix of half a block", err)
	_, err = d.NewMatrix(&quant.Packed{Type: quant.Q4_K, Rows: 1, Cols: 256})
	fails("matrix without planes", err)
	_, err = exact.New(exact.Options{Threads: -1})
	fails("negative threads", err)
	kv := must(d.NewKV(kernels.KVLayout{Layers: 1, Heads: 1, HeadDim: 8}, 3))
	rope := must(d.NewRope(make([]float32, 8), make([]float32, 8), 4, 4))
	if kv.Blocks() != 3 || kv.Layout().HeadDim != 8 || rope.Positions() != 4 || rope.Dims() != 4 {
		t.Error("handles misreport their shape")
	}
	if r, c := m.Shape(); r != 16 || c != 32 {
		t.Error("matrix misreports its shape")
	}
	if r, c := a.Shape(); r != 2 || c != 64 {
		t.Error("acts misreport their shape")
	}
}

func BenchmarkMatMul(b *testing.B) {
	const rows, cols = 1536, 576
	p := must(quant.New(quant.Q4_1, rows, cols))
	if err := p.Pack(weights(random(1), quant.Q4_1, rows, cols), 0, p.Groups()); err != nil {
		b.Fatal(err)
	}
	for _, cache := range []int64{0, 1 << 30} {
		for _, n := range []int{1, 32} {
			b.Run(fmt.Sprintf("cache=%v/rows=%d", cache > 0, n), func(b *testing.B) {
				d := device(b, exact.Options{CacheBytes: cache})
				m, a, out := must(d.NewMatrix(p)), must(d.NewActs(n, cols, kernels.Act8)), must(d.NewBuffer(n, rows))
				d.Prepare(batch(n), a, write(d, n, normal(random(2), n*cols)))
				b.SetBytes(2 * rows * cols * int64(n)) // operations
				for b.Loop() {
					d.MatMul(batch(n), out, m, a)
				}
			})
		}
	}
}
