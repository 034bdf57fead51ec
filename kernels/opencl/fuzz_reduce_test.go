package opencl_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/kernelstest"
	"github.com/weft-mesh/weft/kernels/opencl"
)

// FuzzReductions reduces rows of lengths made of the input, beside the oracle.
func FuzzReductions(f *testing.F) {
	openCard(f, opencl.Source()).Close()
	for i := range 24 {
		f.Add(uint64(i), uint16(i*i*19), uint16(i*11))
	}
	f.Fuzz(func(t *testing.T, seed uint64, length, width uint16) {
		shared.Do(func() { shared.d = newDevice(t) })
		r := rand.New(rand.NewPCG(seed, 3))
		rows, cols := 1+r.IntN(6), 1+int(length)%20000
		x := numbers(r, rows*cols)
		spread := []float32{1, 0.01, 9, 1e19}[r.IntN(4)]
		for i := range x {
			if x[i] *= spread; r.IntN(3) == 0 {
				x[i] = float32(int(x[i])) // equals
			}
		}
		q := kernels.Reduction{Rows: r.IntN(rows + 1), Width: int(width) % (min(cols, kernels.MaxTop) + 1)}
		for range r.IntN(50) {
			q.At = append(q.At, kernels.Place{Row: int32(r.IntN(rows)), Col: int32(r.IntN(cols))})
		}
		for range r.IntN(5) {
			best := x[r.IntN(len(x))]
			if math.Abs(float64(best)) < 0x1p-40 {
				best = 0
			}
			q.Weigh = append(q.Weigh, kernels.Weighing{
				Row: int32(r.IntN(rows)), Best: best, Temperature: []float32{0, 1, 0.5, float32(math.Exp(8 * r.NormFloat64()))}[r.IntN(4)],
			})
		}
		answer := func(d kernels.Device) kernels.Reduction {
			b, err := d.NewBuffer(rows, cols)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Free(b)
			d.Write(b, 0, x)
			a := q
			if err := d.Reduce(b, &a); err != nil {
				t.Fatal(err)
			}
			return a
		}
		want, got := answer(kernelstest.Naive()), answer(shared.d)
		if !slices.Equal(want.Top, got.Top) || !slices.Equal(want.Values, got.Values) || !slices.Equal(want.Sums, got.Sums) {
			t.Fatalf("%d rows of %d, %+v:\n%v\nwant\n%v", rows, cols, q, got, want)
		}
	})
}
