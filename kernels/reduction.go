package kernels

import (
	"fmt"
	"slices"
)

// Bounds of a Reduction.
const (
	// MaxTop is how many elements of a row a reduction gives at most.
	MaxTop = 256
	// WeighBlock is how many columns share one sum of weights.
	WeighBlock = 1024
)

// Element is one element of a row.
type Element struct {
	Col   int32
	Value float32
}

// Place is where an element is.
type Place struct{ Row, Col int32 }

// Weighing asks for the weights of a row's elements beside the best one.
// Elements above Best weigh nothing. Best is 0 or at least 2^-40 in magnitude, the
// temperature a normal positive number, or 0 for the distribution as it is, whose
// distances are not rounded to float32.
type Weighing struct {
	Row               int32
	Best, Temperature float32
}

// Distance is how far a logit lies below the best, in units of the temperature.
func (w Weighing) Distance(l float32) float64 {
	if w.Temperature == 0 {
		return float64(l) - float64(w.Best)
	}
	return float64(float32(l-w.Best)) / float64(w.Temperature)
}

// Reduction is what is asked about rows of logits, and the answer: what a sampler
// needs of a row is a few hundred bytes as a rule, the row itself half a megabyte.
// The caller owns the slices; what is asked and what is answered may be empty.
type Reduction struct {
	Rows, Width int        // the Width highest elements of each of the first Rows rows; at most MaxTop and the columns
	At          []Place    // elements by their place
	Weigh       []Weighing // sums of weights

	Top    []Element // Width a row: the highest first, of equals the lower column. A row with a NaN has any elements of the row
	Values []float32 // of At
	Sums   []uint64  // of each weighing one for each WeighBlock columns, ascending
}

// Blocks is how many sums a weighing of rows of that many columns has.
func Blocks(cols int) int { return (cols + WeighBlock - 1) / WeighBlock }

// Fit makes room for the answers, in the slices that are there if they are long
// enough, and panics if what is asked for does not lie in a buffer of that shape.
func (r *Reduction) Fit(rows, cols int) {
	if r.Rows < 0 || r.Rows > rows || r.Width < 0 || r.Width > min(cols, MaxTop) {
		panic(fmt.Sprintf("kernels: reduction to %d elements of %d rows of a buffer of %d by %d", r.Width, r.Rows, rows, cols))
	}
	for _, p := range r.At {
		if p.Row < 0 || int(p.Row) >= rows || p.Col < 0 || int(p.Col) >= cols {
			panic(fmt.Sprintf("kernels: reduction to row %d, column %d of a buffer of %d by %d", p.Row, p.Col, rows, cols))
		}
	}
	for _, w := range r.Weigh {
		if w.Row < 0 || int(w.Row) >= rows || !(w.Temperature == 0 || w.Temperature >= 0x1p-126 && w.Temperature <= 0x1p127) || w.Best != w.Best {
			panic(fmt.Sprintf("kernels: weights of row %d at temperature %g beside %g in a buffer of %d by %d", w.Row, w.Temperature, w.Best, rows, cols))
		}
	}
	r.Top = slices.Grow(r.Top[:0], r.Rows*r.Width)[:r.Rows*r.Width]
	r.Values = slices.Grow(r.Values[:0], len(r.At))[:len(r.At)]
	sums := len(r.Weigh) * Blocks(cols)
	r.Sums = slices.Grow(r.Sums[:0], sums)[:sums]
}
