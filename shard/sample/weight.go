package sample

import (
	"math"

	"github.com/weft-mesh/weft/kernels/arith"
)

// one is probability 1 as an integer. Probabilities become integers before any sum, so sums are free of order.
const one = arith.WeightOne

// least is the exponent below which a weight is 0, as everywhere in the arithmetic contract.
const least = -27

// weight is RN(e^x * 2^40) for x <= 0, and 0 for x below least.
func weight(x float64) uint64 { return arith.Weight(x) }

// fixed is RN(p * 2^40) for p in 0..1.
func fixed(p float32) uint64 { return uint64(math.RoundToEven(float64(p) * one)) }
