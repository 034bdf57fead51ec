package cpu_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/kernels/quant"
)

func TestTiersEndWithPortableAndStartWithTheDefault(t *testing.T) {
	tiers := cpu.Tiers()
	if tiers[len(tiers)-1] != cpu.Portable {
		t.Errorf("tiers %v; want portable last", tiers)
	}
	d := must(cpu.New(cpu.Options{Threads: 1}))(t)
	defer d.Close()
	if want := "cpu " + tiers[0] + ", 1 thread"; d.Name() != want {
		t.Errorf("name %q, want %q", d.Name(), want)
	}
}

func TestMaskedTiersAreNotOffered(t *testing.T) {
	t.Setenv(cpu.MaskVariable, "amx, avx512vnni, avxvnni, avx2, neondot,neon")
	if got := strings.Join(cpu.Tiers(), " "); got != cpu.Portable {
		t.Errorf("tiers %q with all others hidden", got)
	}
	_, err := cpu.New(cpu.Options{Tier: cpu.AVX512VNNI})
	if err == nil || !strings.Contains(err.Error(), cpu.MaskVariable) || !strings.Contains(err.Error(), cpu.Portable) {
		t.Errorf("error %v; want one that names %s and the tiers there are", err, cpu.MaskVariable)
	}
	t.Setenv(cpu.MaskVariable, cpu.Portable)
	if got := strings.Join(cpu.Tiers(), " "); got != cpu.Portable {
		t.Errorf("tiers %q with assembly hidden", got)
	}
	t.Setenv(cpu.MaskVariable, cpu.AVX512VNNI+","+cpu.NEONDot)
	for _, tier := range cpu.Tiers() {
		if tier == cpu.AVX512VNNI || tier == cpu.AMX || tier == cpu.NEONDot {
			t.Errorf("tiers %v offer the hidden one, or one that needs it", cpu.Tiers())
		}
	}
}

func TestImpossibleOptionsAreRefused(t *testing.T) {
	for _, o := range []cpu.Options{{Tier: "sse9"}, {Threads: -1}, {Threads: 1 << 20}} {
		if d, err := cpu.New(o); err == nil {
			d.Close()
			t.Errorf("%+v made a device", o)
		}
	}
}

func TestSizesThatCannotBeAreRefused(t *testing.T) {
	d := must(cpu.New(cpu.Options{Threads: 1}))(t)
	defer d.Close()
	refuse := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s was made", what)
		}
	}
	for _, s := range [][2]int{{0, 1}, {1, 0}, {-1, 5}, {1 << 40, 1 << 40}} {
		_, err := d.NewBuffer(s[0], s[1])
		refuse("buffer", err)
		_, err = d.NewActs(s[0], s[1], kernels.Act8)
		refuse("acts", err)
	}
	_, err := d.NewActs(1, 32, 12)
	refuse("acts of 12 bits", err)
	_, err = d.NewVector(nil)
	refuse("empty vector", err)
	_, err = d.NewRope(make([]float32, 4), make([]float32, 3), 2, 4)
	refuse("rope of unequal tables", err)
	_, err = d.NewRope(nil, nil, 1, 3)
	refuse("rope of odd dimensions", err)
	_, err = d.NewKV(kernels.KVLayout{Type: 9, Layers: 1, Heads: 1, HeadDim: 64}, 1)
	refuse("KV memory of an unknown type", err)
	_, err = d.NewKV(kernels.KVLayout{Layers: 1, Heads: 1, HeadDim: 64}, 1<<60)
	refuse("KV memory beyond all machines", err)
	p := randomPacked(t, rand.New(rand.NewPCG(1, 1)), quant.Q4_0, 20, 64)
	_, err = d.NewMatrix(&quant.Packed{Type: 99, Rows: 1, Cols: 32})
	refuse("matrix of an unknown type", err)
	_, err = d.NewMatrix(&quant.Packed{Type: quant.Q4_0, Rows: 20, Cols: 64, Quants: p.Quants[64:], Scales: p.Scales})
	refuse("matrix with a short plane", err)
	_, err = d.NewMatrix(&quant.Packed{Type: quant.Q4_0, Rows: 20, Cols: 65, Quants: p.Quants, Scales: p.Scales})
	refuse("matrix of a broken block", err)
}

// layer is what a step of a small model touches.
type layer struct {
	d          kernels.Device
	b          *kernels.Batch
	x, h, y, v kernels.Buffer
	acts       kernels.Acts
	w, f       kernels.Matrix
	norm       kernels.Vector
	kv         kernels.KV
	rope       kernels.Rope
	ids        []int32
}

func newLayer(tb testing.TB, tier string, threads int) *layer {
	const n, dim = 5, 128
	r := rand.New(rand.NewPCG(7, 8))
	l := &layer{d: must(cpu.New(cpu.Options{Threads: threads, Tier: tier}))(tb), ids: []int32{1, 2, 3, 4, 5}}
	tb.Cleanup(func() { l.d.Close() })
	for _, b := range []*kernels.Buffer{&l.x, &l.h, &l.y, &l.v} {
		*b = must(l.d.NewBuffer(n, dim))(tb)
	}
	l.acts = must(l.d.NewActs(n, dim, kernels.Act8))(tb)
	l.w = must(l.d.NewMatrix(randomPacked(tb, r, quant.Q4_1, dim, dim)))(tb)
	l.f = must(l.d.NewMatrix(randomPacked(tb, r, quant.F16, dim, dim)))(tb)
	l.norm = must(l.d.NewVector(normal(r, dim)))(tb)
	l.kv = must(l.d.NewKV(kernels.KVLayout{Layers: 1, Heads: 2, HeadDim: 32}, 4))(tb)
	l.rope = must(l.d.NewRope(normal(r, 64*16), normal(r, 64*16), 64, 32))(tb)
	l.b = &kernels.Batch{Seqs: [][]int32{{2, 0}, {1, 3}}}
	for i := range n {
		l.b.Rows = append(l.b.Rows, kernels.Row{Seq: int32(i / 3), Pos: int32(15 + i)})
	}
	return l
}

// step runs every operation once.
func (l *layer) step(tb testing.TB, k, v kernels.Buffer) {
	d, b := l.d, l.b
	b.Faults = b.Faults[:0]
	d.Embed(b, l.x, l.w, l.ids)
	d.Norm(b, l.h, l.x, l.norm, 1e-5)
	d.Prepare(b, l.acts, l.h)
	d.MatMul(b, l.y, l.w, l.acts)
	d.MatMul(b, l.v, l.f, l.acts)
	d.AddVector(b, l.y, l.norm)
	d.Rotate(b, l.y, 32, l.rope, kernels.RopePairs)
	d.Rotate(b, l.y, 32, l.rope, kernels.RopeHalves)
	d.StoreKV(b, l.kv, 0, k, v)
	d.Attention(b, l.h, l.y, l.kv, 0, kernels.AttnParams{Heads: 4, Scale: 0.2})
	d.SiLUMul(b, l.v, l.h, l.y)
	d.Add(b, l.x, l.v)
	d.Gather(l.h, l.x, l.ids[:2])
	d.CheckFinite(b, l.x)
	if err := d.Sync(); err != nil {
		tb.Fatal(err)
	}
}

func TestOperationsAllocateNothingInSteadyState(t *testing.T) {
	for _, tier := range cpu.Tiers() {
		for _, threads := range []int{1, 2} {
			l := newLayer(t, tier, threads)
			k, v := must(l.d.NewBuffer(5, 64))(t), must(l.d.NewBuffer(5, 64))(t)
			l.ids = []int32{1, 2, 3, 4, 0}
			l.step(t, k, v)
			if n := testing.AllocsPerRun(20, func() { l.step(t, k, v) }); n != 0 {
				t.Errorf("%s with %d threads: %g allocations a step", tier, threads, n)
			}
		}
	}
}

func TestFreedHandlesAndForeignOnesAreToldApart(t *testing.T) {
	d, other := must(cpu.New(cpu.Options{Threads: 1}))(t), must(cpu.New(cpu.Options{Threads: 1}))(t)
	defer other.Close()
	x := must(d.NewBuffer(2, 3))(t)
	d.Free(x)
	d.Free(x) // twice is once
	d.Free(nil)
	kv := must(other.NewKV(kernels.KVLayout{Layers: 1, Heads: 1, HeadDim: 16}, 1))(t)
	y := must(d.NewBuffer(1, 16))(t)
	panics(t, "KV memory of another device", func() {
		d.StoreKV(&kernels.Batch{Rows: make([]kernels.Row, 1), Seqs: [][]int32{{0}}}, kv, 0, y, y)
	})
	panics(t, "a handle of no device", func() { d.Free(3) })
	w := must(d.NewMatrix(randomPacked(t, rand.New(rand.NewPCG(1, 1)), quant.Q8_0, 16, 32)))(t)
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := kv.Close(); err != nil {
			t.Fatal(err)
		}
	}
	panics(t, "a closed matrix", func() { d.Embed(&kernels.Batch{}, y, w, nil) })
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func panics(t *testing.T, what string, run func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s was accepted", what)
		}
	}()
	run()
}

func TestActsKeepTheirInputWhenItsBufferIsWritten(t *testing.T) {
	for _, kind := range []quant.Type{quant.Q4_0, quant.F16} {
		l := newLayer(t, "", 1)
		w := must(l.d.NewMatrix(randomPacked(t, rand.New(rand.NewPCG(5, 6)), kind, 128, 128)))(t)
		want, got := make([]float32, 5*128), make([]float32, 5*128)
		l.d.Write(l.x, 0, normal(rand.New(rand.NewPCG(9, 9)), 5*128))
		l.d.Prepare(l.b, l.acts, l.x)
		l.d.MatMul(l.b, l.y, w, l.acts)
		l.d.Read(want, l.y, 0)
		l.d.Write(l.x, 0, make([]float32, 5*128))
		l.d.MatMul(l.b, l.y, w, l.acts)
		l.d.Read(got, l.y, 0)
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%s: element %d is %g after the source was written, %g before", kind, i, got[i], want[i])
			}
		}
	}
}
