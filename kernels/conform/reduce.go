package conform

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/weft-mesh/weft/kernels"
)

// reduce notes what a device answers. Values and columns of the highest elements are two
// readings; a sum is three numbers of 24 bits.
func (t *trace) reduce(name string, x kernels.Buffer, r kernels.Reduction) {
	r.Top, r.Values, r.Sums = nil, nil, nil
	if err := t.d.Reduce(x, &r); err != nil {
		panic(failure{err})
	}
	var values, places, sums []float32
	for _, e := range r.Top {
		values, places = append(values, e.Value), append(places, float32(e.Col))
	}
	for _, s := range r.Sums {
		for range 3 {
			sums, s = append(sums, float32(s&(1<<24-1))), s>>24
		}
	}
	if r.Width > 0 {
		t.values = append(t.values, reading{name + ": highest", r.Width, values}, reading{name + ": columns of the highest", r.Width, places})
	}
	// The rest counts as of the first row, which must not be faulted.
	if len(r.At) > 0 {
		t.values = append(t.values, reading{name + ": places", len(r.Values), r.Values})
	}
	if len(r.Weigh) > 0 {
		t.values = append(t.values, reading{name + ": sums of weights", len(sums), sums})
	}
}

// logits are rows as reductions meet them: far apart, close together, equal, all zeros.
func logits(r *rand.Rand, rows, cols int) []float32 {
	x := make([]float32, 0, rows*cols)
	for i := range rows {
		scale := []float64{3, 0.01, 40, 1e30, 2}[i%5]
		for range cols {
			v := float32(r.NormFloat64() * scale)
			switch i % 5 {
			case 4:
				v = float32(int(v)) // many are equal
			case 0:
				if r.IntN(3) == 0 {
					v -= 50
				}
			}
			x = append(x, v)
		}
	}
	return x
}

// vocabularies are row lengths around the tiles of reductions.
var vocabularies = []struct {
	cols, rows int
	quick      bool
}{
	{1, 3, true},
	{2, 2, false},
	{17, 5, false},
	{255, 2, false},
	{256, 5, true},
	{257, 3, false},
	{1023, 3, false},
	{1024, 5, false},
	{1025, 2, true},
	{2048, 5, false},
	{2049, 5, true},
	{5000, 16, false},
	{8192, 2, false},
	{8193, 2, false},
	{17000, 5, true},
	{50257, 2, false},
}

func reductions(s *suite) {
	for i, v := range vocabularies {
		if s.depth == Quick && !v.quick || s.short && v.cols > 20000 {
			continue
		}
		r := random(uint64(9000 + i))
		x := logits(r, v.rows, v.cols)
		s.same(fmt.Sprintf("%d rows of %d", v.rows, v.cols), rows(v.rows), func(t *trace) {
			in := t.buffer(v.rows, v.cols, x)
			for _, width := range []int{1, 2, 40, 255, 256} {
				if width <= v.cols && (width != 255 || v.cols < 3000) {
					t.reduce(fmt.Sprintf("width %d", width), in, kernels.Reduction{Rows: max(1, v.rows-1), Width: width})
				}
			}
			t.reduce("nothing", in, kernels.Reduction{})
			t.reduce("all at once", in, everything(random(7), x, v.rows, v.cols))
			t.read("the buffer", in, v.rows) // is as it was
		})
	}
	faultedReductions(s)
	weights27(s)
}

// everything asks for all kinds of answers.
func everything(r *rand.Rand, x []float32, rows, cols int) kernels.Reduction {
	q := kernels.Reduction{Rows: rows, Width: min(cols, 9)}
	for range 1 + r.IntN(40) {
		q.At = append(q.At, kernels.Place{Row: int32(r.IntN(rows)), Col: int32(r.IntN(cols))})
	}
	for i := range 7 {
		row := r.IntN(rows)
		best := x[row*cols+r.IntN(cols)] // often not the highest
		for _, v := range x[row*cols : (row+1)*cols] {
			if i%3 != 0 && v > best {
				best = v
			}
		}
		if a := float32(math.Abs(float64(best))); a < 0x1p-40 {
			best = 0
		}
		t := []float32{1, 0.7, 0, 100, 1e-30, 0x1p-126, 0.1}[i]
		q.Weigh = append(q.Weigh, kernels.Weighing{Row: int32(row), Best: best, Temperature: t})
	}
	return q
}

// faultedReductions: rows that hold what is not finite leave the others alone.
func faultedReductions(s *suite) {
	const n, cols = 6, 3000
	r := random(9500)
	x := logits(r, n, cols)
	nan := float32(math.NaN())
	x[1*cols+2999], x[2*cols+5], x[4*cols+2500] = nan, float32(math.Inf(1)), float32(math.Inf(-1))
	x[2*cols+6], x[2*cols+7] = -nan, float32(math.Inf(-1))
	s.same("rows that are not finite", rows(n), func(t *trace) {
		in := t.buffer(n, cols, x)
		t.d.CheckFinite(t.b, in)
		q := kernels.Reduction{Rows: n, Width: 20, At: []kernels.Place{{Row: 0, Col: 4}, {Row: 5, Col: 2999}}}
		t.reduce("highest", in, q)
		q.Width, q.At = 1, nil
		q.Weigh = []kernels.Weighing{{Row: 0, Best: 2, Temperature: 1}, {Row: 3, Best: 1e30, Temperature: 2}}
		t.reduce("weights", in, q)
	})
}

// weights27 has elements all over the range in which weights are not 0, and each step of
// their table.
func weights27(s *suite) {
	const cols = 4096
	r := random(9600)
	for _, best := range []float32{0, 1, -3, 1000, 0x1p-40, -0x1p-40, 3e38} {
		x := make([]float32, 2*cols)
		for k := range x {
			d := float64(k%cols) * 28 / cols
			if k >= cols {
				d = math.Exp(-30 * r.Float64())
			}
			x[k] = best - float32(d)
		}
		s.same(fmt.Sprintf("weights beside %g", best), rows(2), func(t *trace) {
			in := t.buffer(2, cols, x)
			var q kernels.Reduction
			for _, temperature := range []float32{1, 0, 0.5, 3, 1.0000001, 0.99999994} {
				for row := range int32(2) {
					q.Weigh = append(q.Weigh, kernels.Weighing{Row: row, Best: best, Temperature: temperature})
				}
			}
			t.reduce("weights", in, q)
			// One element a sum as well, so that no two errors cancel.
			for k := 0; k < cols; k += 409 {
				one := t.buffer(1, 1, x[k:k+1])
				t.reduce("one weight", one, kernels.Reduction{Weigh: []kernels.Weighing{{Best: best, Temperature: 1}, {Best: best}}})
			}
		})
	}
}
