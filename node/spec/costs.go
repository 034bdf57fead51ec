package spec

import (
	"math"
	"sync"
	"time"
)

// MaxWidth is how many positions a run that carries drafts has at most.
const MaxWidth = 64

// Answer is what an answered run tells about a plan.
type Answer struct {
	Width   int           // positions of the run
	Rows    int           // positions of the steps in which the stages computed it, those of other replies included
	Latency time.Duration // from sending until the answer, for a run that nothing was in flight before; else 0
	Late    bool          // it followed runs that were dropped: the stages may have been busy, and Latency is a bound
	Compute time.Duration // of all stages together; 0: not known
	Slowest time.Duration // of the slowest stage; 0: not known
}

// Costs is what runs cost over one plan, by width, as measured: moving averages
// of the stages' times, and of the time that a run spends on the way between
// them. It serves all replies of the plan, from any goroutine.
//
// Widths that were not tried lie on the line through those that were; beyond
// them the line rises half as steeply, so that a doubt is tried rather than
// kept. Before anything is known a wide run costs what a narrow one does.
type Costs struct {
	// mu guards everything below.
	mu      sync.Mutex
	compute table
	slowest table
	hops    average
}

// NewCosts makes costs that know a plan's predictions: a run of one position
// takes compute on all stages and slowest on the slowest, and hops between. Zero
// values are unknown.
func NewCosts(compute, slowest, hops time.Duration) *Costs {
	c := &Costs{}
	if compute > 0 {
		c.compute.add(1, compute.Seconds(), 0)
		c.slowest.add(1, slowest.Seconds(), 0)
		c.hops.add(hops.Seconds(), 0)
	}
	return c
}

// Answered takes in a measurement.
func (c *Costs) Answered(a Answer) {
	if a.Compute <= 0 || a.Rows < 1 || a.Rows > MaxWidth {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.compute.add(a.Rows, a.Compute.Seconds(), 1)
	c.slowest.add(a.Rows, a.Slowest.Seconds(), 1)
	hops := max(0, (a.Latency - a.Compute).Seconds())
	if a.Latency > 0 && (!a.Late || hops < c.hops.v) {
		c.hops.add(hops, 1)
	}
}

// view is a plan's costs at one moment, in seconds.
type view struct {
	hops             float64
	compute, slowest table
}

func (c *Costs) view() (view, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return view{c.hops.v, c.compute.sane(), c.slowest.sane()}, c.compute.known > 0
}

// latency is how long a run takes through an empty pipe.
func (v *view) latency(width int) float64 { return v.hops + v.compute.at(width) }

// Latency is how long a run of the width takes when nothing is in its way; 0
// while nothing is known.
func (c *Costs) Latency(width int) time.Duration {
	v, ok := c.view()
	if !ok {
		return 0
	}
	return time.Duration(v.latency(width) * float64(time.Second))
}

// boundWidth is the widest run whose rate counts for the bound.
const boundWidth = 16

// PerPosition is the least time of the slowest stage for a position, over widths
// up to boundWidth. 0 while nothing is known.
func (c *Costs) PerPosition() time.Duration {
	v, ok := c.view()
	if !ok {
		return 0
	}
	least := math.Inf(1)
	for w := 1; w <= boundWidth; w++ {
		least = min(least, v.slowest.at(w)/float64(w))
	}
	return time.Duration(least * float64(time.Second))
}

// Row is how much longer the stages take for a position more, as measured over
// the widths that few replies make together; 0 while it is not known.
func (c *Costs) Row() time.Duration {
	v, ok := c.view()
	if !ok || v.compute.cells[0].n == 0 {
		return 0
	}
	for w := min(8, MaxWidth); w > 1; w-- {
		if cell := v.compute.cells[cellOf(w)]; cell.n > 0 {
			return time.Duration((cell.v - v.compute.cells[0].v) / float64(w-1) * float64(time.Second))
		}
	}
	return 0
}

// average is a moving average: the mean of the first few values, then one that
// forgets.
type average struct {
	v float64
	n int
}

const forgetful = 12

// add takes a value in. One that stands far above the average, a pause of the
// machine, counts as what is three times it.
func (a *average) add(v float64, weight int) {
	if a.n > 2 {
		v = min(v, 3*a.v)
	}
	a.v += (v - a.v) / float64(min(a.n, forgetful)+1)
	a.n = min(a.n+weight, forgetful)
}

// table holds times by width.
type table struct {
	cells [MaxWidth]average
	known int // cells that have a value
}

// cellOf is the cell of a width; wider ones than MaxWidth count as that.
func cellOf(width int) int { return min(max(width, 1), MaxWidth) - 1 }

// widthOf is the width of a cell.
func widthOf(cell int) float64 { return float64(cell + 1) }

func (t *table) add(width int, v float64, weight int) {
	c := &t.cells[cellOf(width)]
	if c.v == 0 {
		t.known++
	}
	c.add(v, weight)
}

// sane is the table without what cannot be: a run takes no longer than a wider
// one, and a row of it no longer than a row of a narrower one. A time that was
// measured in a bad moment and never since is caught so by its neighbours.
// Predictions prove nothing.
func (t table) sane() table {
	least := math.Inf(1)
	for i := len(t.cells) - 1; i >= 0; i-- {
		if c := &t.cells[i]; c.n > 0 {
			least = min(least, c.v)
			c.v = least
		}
	}
	row := math.Inf(1)
	for i := range t.cells {
		if c := &t.cells[i]; c.n > 0 {
			c.v = min(c.v, row*widthOf(i))
			row = c.v / widthOf(i)
		}
	}
	return t
}

// widest is the widest width that has a time, 0 if none.
func (t *table) widest() int {
	for i := len(t.cells) - 1; i >= 0; i-- {
		if t.cells[i].v > 0 {
			return int(widthOf(i))
		}
	}
	return 0
}

// at is the time of a width.
func (t *table) at(width int) float64 {
	i := cellOf(width)
	if t.cells[i].v > 0 {
		return t.cells[i].v
	}
	below, above := i-1, i+1
	for below >= 0 && t.cells[below].v == 0 {
		below--
	}
	for above < len(t.cells) && t.cells[above].v == 0 {
		above++
	}
	x := widthOf(i)
	switch {
	case below < 0 && above == len(t.cells):
		return 0
	case below < 0:
		return t.cells[above].v
	case above == len(t.cells):
		return t.cells[below].v + (x-widthOf(below))*t.slope(below)/2
	}
	share := (x - widthOf(below)) / (widthOf(above) - widthOf(below))
	return t.cells[below].v + share*(t.cells[above].v-t.cells[below].v)
}

// slope is how steeply the known times rise up to a cell.
func (t *table) slope(last int) float64 {
	for first := range last {
		if t.cells[first].v > 0 {
			return max(0, (t.cells[last].v-t.cells[first].v)/(widthOf(last)-widthOf(first)))
		}
	}
	return 0
}
