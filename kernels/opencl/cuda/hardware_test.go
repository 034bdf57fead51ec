package cuda

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/kernelstest"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/quant"
)

// realCard opens the machine's first card with the text for a capability, 0 for its own.
func realCard(tb testing.TB, capability int) *opencl.Device {
	tb.Helper()
	l := loader{system}
	if _, err := l.Devices(); errors.Is(err, driver.ErrAbsent) {
		tb.Skipf("not run: no NVIDIA card: %v", err)
	}
	start := time.Now()
	d, err := l.openAs(0, opencl.Source(), capability)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Logf("opened in %v: %+v", time.Since(start).Round(time.Millisecond), d.Info())
	gpu, err := opencl.New(d)
	if err != nil {
		tb.Fatal(err)
	}
	return gpu
}

func TestTheCardKeepsTheContract(t *testing.T) {
	kernelstest.Run(t, func(int) kernels.Device { return realCard(t, 0) })
}

// TestTheCardKeepsTheContractWithOlderTexts runs those that are made for cards without
// products of small matrices, and without the dot product.
func TestTheCardKeepsTheContractWithOlderTexts(t *testing.T) {
	for _, capability := range []int{61, 50} {
		t.Run(fmt.Sprint(capability), func(t *testing.T) {
			kernelstest.Run(t, func(int) kernels.Device { return realCard(t, capability) })
		})
	}
}

// BenchmarkUpload measures writes of weights to a card, and BenchmarkRead what comes back.
func BenchmarkUpload(b *testing.B) {
	d := realCard(b, 0)
	defer d.Close()
	const n = 64 << 20
	x := must(d.NewBuffer(1, n/4))(b)
	src := make([]float32, n/4)
	b.SetBytes(n)
	for b.Loop() {
		d.Write(x, 0, src)
	}
	if err := d.Sync(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkRead(b *testing.B) {
	d := realCard(b, 0)
	defer d.Close()
	for _, n := range []int{4096, 1 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			x := must(d.NewBuffer(1, n/4))(b)
			defer d.Free(x)
			dst := make([]float32, n/4)
			b.SetBytes(int64(n))
			for b.Loop() {
				if err := d.Read(dst, x, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWait measures the ways in which the host may wait for a card.
func BenchmarkWait(b *testing.B) {
	defer func(was uintptr) { schedule = was }(schedule)
	for flag, name := range []string{"auto", "spin", "yield", "", "block"} {
		if name == "" {
			continue
		}
		b.Run(name, func(b *testing.B) {
			schedule = uintptr(flag)
			d := realCard(b, 0)
			defer d.Close()
			x := must(d.NewBuffer(1, 4096))(b)
			batch := &kernels.Batch{Rows: make([]kernels.Row, 1)}
			b.ReportMetric(timed(b, d, func(int) {
				d.Add(batch, x, x)
				if err := d.Sync(); err != nil {
					b.Fatal(err)
				}
			}).Seconds()*1e6, "us")
		})
	}
}

// must ends a benchmark whose device has no room.
func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// timed runs op so often that it takes a while and reports a run's time; what they
// read exceeds the card's cache when the caller takes another matrix each time.
func timed(b *testing.B, d *opencl.Device, op func(i int)) time.Duration {
	b.Helper()
	for i := range 8 {
		op(i)
	}
	if err := d.Sync(); err != nil {
		b.Fatal(err)
	}
	n, start := 0, time.Now()
	for b.Loop() {
		op(n)
		n++
	}
	if err := d.Sync(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start) / time.Duration(n)
}

// BenchmarkProducts measures matrices of a 8B model's feed-forward part.
func BenchmarkProducts(b *testing.B) { products(b, 14336, 4096) }

// BenchmarkLongProducts measures those with few rows for their bytes.
func BenchmarkLongProducts(b *testing.B) { products(b, 4096, 14336) }

func products(b *testing.B, rows, cols int) {
	const copies = 6
	d := realCard(b, 0)
	defer d.Close()
	for _, typ := range quant.Types() {
		b.Run(typ.String(), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, uint64(typ)))
			p := randomMatrix(b, typ, rows, cols, r)
			var w []kernels.Matrix
			for range copies {
				w = append(w, must(d.NewMatrix(p))(b))
			}
			for _, bits := range []kernels.ActBits{kernels.Act8, kernels.Act16} {
				for _, n := range []int{1, 2, 4, 8, 16, 32, 128, 512} {
					if bits == kernels.Act16 && (typ.Float() || n == 2 || n == 16 || n == 32 || n == 128) {
						continue
					}
					b.Run(fmt.Sprintf("act%d/%d", bits, n), func(b *testing.B) { product(b, d, p, w, bits, n, r) })
				}
			}
			for _, m := range w {
				m.Close()
			}
		})
	}
}

// randomMatrix has scales and weights that are finite.
func randomMatrix(b *testing.B, typ quant.Type, rows, cols int, r *rand.Rand) *quant.Packed {
	p := must(quant.New(typ, rows, cols))(b)
	mask := byte(0xff)
	if typ.Float() {
		mask = 0x3f
	}
	for i := range p.Quants {
		p.Quants[i] = byte(r.Uint32()) & mask
	}
	for i := range p.Scales {
		p.Scales[i] = byte(r.Uint32()) & 0x3f
	}
	return p
}

func product(b *testing.B, d *opencl.Device, p *quant.Packed, w []kernels.Matrix, bits kernels.ActBits, n int, r *rand.Rand) {
	in, out, a := must(d.NewBuffer(n, p.Cols))(b), must(d.NewBuffer(n, p.Rows))(b), must(d.NewActs(n, p.Cols, bits))(b)
	defer func() { d.Free(in); d.Free(out); d.Free(a) }()
	x := make([]float32, n*p.Cols)
	for i := range x {
		x[i] = r.Float32()*2 - 1
	}
	d.Write(in, 0, x)
	batch := &kernels.Batch{Rows: make([]kernels.Row, n)}
	d.Prepare(batch, a, in)
	each := timed(b, d, func(i int) { d.MatMul(batch, out, w[i%len(w)], a) }).Seconds()
	b.ReportMetric(float64(p.Bytes())/each/1e9, "weightGB/s")
	b.ReportMetric(2*float64(p.Rows)*float64(p.Cols)*float64(n)/each/1e9, "Gop/s")
	b.ReportMetric(each*1e6, "us")
}

// BenchmarkOperations measures the other operations of a layer of a 8B model.
func BenchmarkOperations(b *testing.B) {
	d := realCard(b, 0)
	defer d.Close()
	const cols, ff, heads, kvHeads, dim, context = 4096, 14336, 32, 8, 128, 4096
	for _, n := range []int{1, 8, 512} {
		x, y, q := must(d.NewBuffer(n, cols))(b), must(d.NewBuffer(n, cols))(b), must(d.NewBuffer(n, cols))(b)
		gate, up := must(d.NewBuffer(n, ff))(b), must(d.NewBuffer(n, ff))(b)
		k, v := must(d.NewBuffer(n, kvHeads*dim))(b), must(d.NewBuffer(n, kvHeads*dim))(b)
		w := must(d.NewVector(make([]float32, cols)))(b)
		a := must(d.NewActs(n, cols, kernels.Act8))(b)
		cos, sin, err := arith.RopeTable(arith.RopeParams{Dims: dim, Base: 10000}, context)
		if err != nil {
			b.Fatal(err)
		}
		rope := must(d.NewRope(cos, sin, context, dim))(b)
		kv := must(d.NewKV(kernels.KVLayout{Type: kernels.KVF16, Layers: 1, Heads: kvHeads, HeadDim: dim}, context/kernels.BlockPositions))(b)
		blocks := make([]int32, context/kernels.BlockPositions)
		for i := range blocks {
			blocks[i] = int32(i)
		}
		batch := &kernels.Batch{Rows: make([]kernels.Row, n), Seqs: [][]int32{blocks}}
		at := func(last int) {
			for i := range batch.Rows {
				batch.Rows[i].Pos = int32(last - n + 1 + i)
			}
		}
		for end := n; end <= context; end += n {
			at(end - 1)
			d.StoreKV(batch, kv, 0, k, v)
			if err := d.Sync(); err != nil {
				b.Fatal(err)
			}
		}
		for _, op := range []struct {
			name string
			run  func(int)
		}{
			{"add", func(int) { d.Add(batch, x, y) }},
			{"norm", func(int) { d.Norm(batch, y, x, w, 1e-5) }},
			{"prepare", func(int) { d.Prepare(batch, a, x) }},
			{"rotate", func(int) { d.Rotate(batch, q, dim, rope, kernels.RopePairs) }},
			{"silumul", func(int) { d.SiLUMul(batch, gate, gate, up) }},
			{"storekv", func(int) { d.StoreKV(batch, kv, 0, k, v) }},
			{"attention", func(int) { d.Attention(batch, y, q, kv, 0, kernels.AttnParams{Heads: heads, Scale: 0.088}) }},
		} {
			b.Run(fmt.Sprintf("%s/%d", op.name, n), func(b *testing.B) {
				b.ReportMetric(timed(b, d, op.run).Seconds()*1e6, "us")
			})
		}
		b.Run(fmt.Sprintf("attention512/%d", n), func(b *testing.B) {
			at(511)
			b.ReportMetric(timed(b, d, func(int) {
				d.Attention(batch, y, q, kv, 0, kernels.AttnParams{Heads: heads, Scale: 0.088})
			}).Seconds()*1e6, "us")
		})
		b.Run(fmt.Sprintf("addsync/%d", n), func(b *testing.B) {
			b.ReportMetric(timed(b, d, func(int) {
				d.Add(batch, x, y)
				if err := d.Sync(); err != nil {
					b.Fatal(err)
				}
			}).Seconds()*1e6, "us")
		})
		for _, h := range []any{x, y, q, gate, up, k, v, w, a, rope} {
			d.Free(h)
		}
		kv.Close()
	}
}
