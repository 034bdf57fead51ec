package arith

import "math"

// WeightOne is what Weight makes of probability 1. Probabilities become
// integers before any sum, so that sums are free of order.
const WeightOne = 1 << 40

// weightLow is the exponent below which a weight is 0, as everywhere in the
// contract.
const weightLow = -27

// weightSteps is how many powers of two between 1 and 2 are tabulated.
const weightSteps = 64

// WeightPowers is 2^(j/64), for devices that need the table.
var WeightPowers = func() (t [weightSteps]float64) {
	for j := range t {
		t[j] = Exp64(float64(float64(j) * (math.Ln2 / weightSteps)))
	}
	return t
}()

// Weight is RN(e^x * 2^40) for x <= 0, and 0 for x below -27. A draw weighs a
// whole vocabulary, so this is a table and a short series in float64, each
// operation rounded by itself: the same on every machine, and within 2^-44 of
// e^x.
func Weight(x float64) uint64 {
	if !(x >= weightLow) {
		return 0
	}
	n := int(float64(x*(weightSteps/math.Ln2)) - 0.5)
	r := x - float64(float64(n)*(math.Ln2/weightSteps))
	p := float64(r*(1.0/24)) + 1.0/6
	p = float64(r*p) + 0.5
	p = float64(r*p) + 1
	p = float64(r*p) + 1
	scale := math.Float64frombits(uint64(1023+40+n>>6) << 52)
	return uint64(math.RoundToEven(float64(float64(WeightPowers[n&(weightSteps-1)]*p) * scale)))
}

// Distance is how far a logit lies below the best, in units of the temperature.
// The difference comes first, so that no temperature, however small, can give
// infinity minus infinity.
func Distance(l, best, temperature float32) float64 {
	return float64(float32(l-best)) / float64(temperature)
}
