package opencl_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/kernelstest"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/quant"
)

// FuzzProducts runs the quantiser, products and the embedding at types and shapes made of
// the input, beside the oracle.
func FuzzProducts(f *testing.F) {
	openCard(f, opencl.Source()).Close()
	for i, typ := range quant.Types() {
		for n := range 2 {
			f.Add(uint64(i), uint8(i), uint16(7*i*int(typ)+n), uint16(29*i), uint8(3*i+16*n), n == 1)
		}
	}
	f.Fuzz(func(t *testing.T, seed uint64, typ uint8, rows, cols uint16, width uint8, wide bool) {
		shared.Do(func() { shared.d = newDevice(t) })
		kind := quant.Types()[int(typ)%len(quant.Types())]
		p := newProducts(t, rand.New(rand.NewPCG(seed, 3)), kind, 1+int(rows)%150, 1+int(cols)%1300, 1+int(width)%80, wide)
		want, wantFaults := p.play(t, kernelstest.Naive())
		got, gotFaults := p.play(t, shared.d)
		if !slices.Equal(gotFaults, wantFaults) {
			t.Fatalf("%v: faults %+v, want %+v", p, gotFaults, wantFaults)
		}
		for i, w := range want {
			faulted := i < p.n*p.w.Rows && slices.ContainsFunc(wantFaults, func(f kernels.Fault) bool { return f.Row == i/p.w.Rows })
			if math.Float32bits(w) != math.Float32bits(got[i]) && !faulted && (w == w || got[i] == got[i]) {
				t.Fatalf("%v: element %d is %g, want %g", p, i, got[i], w)
			}
		}
	})
}

// TestProductsOfManyRowsKeepTheContract: one token, and many groups of rows, whose segments a
// group takes in turns.
func TestProductsOfManyRowsKeepTheContract(t *testing.T) {
	d := newDevice(t)
	defer d.Close()
	rows := 40 * 16 * max(1, d.Info().Units)
	for _, typ := range []quant.Type{quant.Q5_0, quant.Q8_0, quant.Q4_K, quant.Q2_K} {
		for _, wide := range []bool{false, true} {
			p := newProducts(t, rand.New(rand.NewPCG(uint64(typ), 9)), typ, rows, 19*256, 1, wide)
			for i, x := range p.x {
				p.x[i] = min(x, 9) // all are finite
			}
			want, _ := p.play(t, kernelstest.Naive())
			got, faults := p.play(t, d)
			if len(faults) > 0 {
				t.Fatalf("%v: faults %+v", p, faults)
			}
			for i, w := range want {
				if math.Float32bits(w) != math.Float32bits(got[i]) {
					t.Fatalf("%v: element %d is %g, want %g", p, i, got[i], w)
				}
			}
		}
	}
}

// products is a matrix, and rows that it is multiplied with.
type products struct {
	w    *quant.Packed
	bits kernels.ActBits
	n    int
	x    []float32
	ids  []int32
}

func (p *products) String() string {
	return fmt.Sprintf("%s of %d by %d, %d rows, %d bits", p.w.Type, p.w.Rows, p.w.Cols, p.n, p.bits)
}

// newProducts makes weights of random quants, whose scales are finite, and inputs of which a
// few are not. Columns are rounded up to whole blocks.
func newProducts(tb testing.TB, r *rand.Rand, t quant.Type, rows, cols, n int, wide bool) *products {
	info, err := t.Info()
	if err != nil {
		tb.Fatal(err)
	}
	p := &products{n: n, bits: kernels.Act8}
	if wide {
		p.bits = kernels.Act16
	}
	p.w, err = quant.New(t, rows, (cols+info.BlockElems-1)/info.BlockElems*info.BlockElems)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range p.w.Quants {
		p.w.Quants[i] = byte(r.Uint32())
	}
	for i := range p.w.Scales {
		p.w.Scales[i] = byte(r.Uint32())
		if i%2 == 1 || t == quant.MXFP4 { // the upper half of an f16 stays below infinity, and e below 255
			p.w.Scales[i] &= 0xbb
		}
	}
	if t.Float() {
		for i := 1; i < len(p.w.Quants); i += 2 {
			p.w.Quants[i] &= 0xbb
		}
	}
	p.x = make([]float32, p.n*p.w.Cols)
	for i := range p.x {
		p.x[i] = float32(r.NormFloat64())
		switch r.IntN(3000) {
		case 0:
			p.x[i] = float32(math.Inf(1))
		case 1:
			p.x[i] = 0
		}
	}
	for range p.n {
		p.ids = append(p.ids, int32(r.IntN(p.w.Rows)))
	}
	return p
}

// play gives the products and the embedded rows.
func (p *products) play(tb testing.TB, d kernels.Device) ([]float32, []kernels.Fault) {
	in, out, rows := must(d.NewBuffer(p.n, p.w.Cols))(tb), must(d.NewBuffer(p.n, p.w.Rows))(tb), must(d.NewBuffer(p.n, p.w.Cols))(tb)
	a, w := must(d.NewActs(p.n, p.w.Cols, p.bits))(tb), must(d.NewMatrix(p.w))(tb)
	defer func() {
		for _, h := range []any{in, out, rows, a} {
			d.Free(h)
		}
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
	}()
	b := &kernels.Batch{Rows: make([]kernels.Row, p.n), Layer: 3}
	d.Write(in, 0, p.x)
	d.Prepare(b, a, in)
	d.MatMul(b, out, w, a)
	d.Embed(b, rows, w, p.ids)
	y := make([]float32, p.n*(p.w.Rows+p.w.Cols))
	if err := d.Read(y[:p.n*p.w.Rows], out, 0); err != nil {
		tb.Fatal(err)
	}
	if err := d.Read(y[p.n*p.w.Rows:], rows, 0); err != nil {
		tb.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		tb.Fatal(err)
	}
	slices.SortFunc(b.Faults, func(x, y kernels.Fault) int { return x.Row - y.Row })
	return y, b.Faults
}

// must ends a test whose device has no room.
func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}
