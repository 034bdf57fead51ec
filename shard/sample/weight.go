package sample

import (
	"math"

	"github.com/weft-mesh/weft/kernels/arith"
)

// one is probability 1 as an integer. Probabilities become integers before any sum, so sums are free of order.
const one = 1 << 40

// least is the exponent below which a weight is 0, as everywhere in the arithmetic contract.
const least = -27

// steps is how many powers of two between 1 and 2 are tabulated.
const steps = 64

// powers is 2^(j/steps).
var powers = func() (t [steps]float64) {
	for j := range t {
		t[j] = arith.Exp64(float64(float64(j) * (math.Ln2 / steps)))
	}
	return t
}()

// weight is RN(e^x * 2^40) for x <= 0, and 0 for x below least. A draw weighs a whole vocabulary, so this is a table and a
// short series in float64, each operation rounded by itself: the same on every machine, and within 2^-44 of e^x.
func weight(x float64) uint64 {
	if !(x >= least) {
		return 0
	}
	n := int(float64(x*(steps/math.Ln2)) - 0.5)
	r := x - float64(float64(n)*(math.Ln2/steps))
	p := float64(r*(1.0/24)) + 1.0/6
	p = float64(r*p) + 0.5
	p = float64(r*p) + 1
	p = float64(r*p) + 1
	scale := math.Float64frombits(uint64(1023+40+n>>6) << 52)
	return uint64(math.RoundToEven(float64(float64(powers[n&(steps-1)]*p) * scale)))
}

// fixed is RN(p * 2^40) for p in 0..1.
func fixed(p float32) uint64 { return uint64(math.RoundToEven(float64(p) * one)) }
