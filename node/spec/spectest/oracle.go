package spectest

import (
	"math/rand/v2"
	"time"

	"github.com/weft-mesh/weft/node/spec"
)

// Oracle is a source that knows the truth and is wrong now and then: the draft
// of each position is right or wrong for good.
type Oracle struct {
	Truth []int32
	Right []bool // by position
	// Match, when not nil, is the matched length that it claims of a position.
	Match func(at int) int

	at  int
	out []int32
}

// NewOracle makes an oracle whose drafts are right with the likelihood that
// right gives for a position.
func NewOracle(truth []int32, seed uint64, right func(at int) float64) *Oracle {
	rng := rand.New(rand.NewPCG(seed, 1))
	o := &Oracle{Truth: truth, Right: make([]bool, len(truth))}
	for i := range o.Right {
		o.Right[i] = rng.Float64() < right(i)
	}
	return o
}

// Name implements spec.Source.
func (o *Oracle) Name() string { return "oracle" }

// Cost implements spec.Source.
func (o *Oracle) Cost() time.Duration { return 0 }

// Begin implements spec.Source.
func (o *Oracle) Begin(tokens []int32) { o.at = len(tokens) }

// Accept implements spec.Source.
func (o *Oracle) Accept(tokens []int32) { o.at += len(tokens) }

// Draft implements spec.Source.
func (o *Oracle) Draft(ahead []int32, n int) spec.Draft {
	o.out = o.out[:0]
	for at := o.at + len(ahead); at < len(o.Truth) && len(o.out) < n; at++ {
		t := o.Truth[at]
		if !o.Right[at] {
			t++
		}
		o.out = append(o.out, t)
	}
	d := spec.Draft{Tokens: o.out}
	if o.Match != nil {
		d.Match = o.Match(o.at)
	}
	return d
}

// Truth is a reply of n tokens, none of which is 0.
func Truth(n int, seed uint64) []int32 {
	rng := rand.New(rand.NewPCG(seed, 0))
	out := make([]int32, n)
	for i := range out {
		out[i] = rng.Int32N(30000) + 2
	}
	return out
}
