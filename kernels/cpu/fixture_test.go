package cpu_test

import (
	"math/rand/v2"
	"testing"

	"github.com/weft-mesh/weft/kernels/quant"
)

// must gives the value or ends the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func normal(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// randomPacked gives a matrix of random quants with scales of moderate size.
func randomPacked(tb testing.TB, r *rand.Rand, t quant.Type, rows, cols int) *quant.Packed {
	tb.Helper()
	p := must(quant.New(t, rows, cols))(tb)
	for i := range p.Quants {
		p.Quants[i] = byte(r.Uint32())
		if t.Float() && i%2 == 1 { // exponents of moderate size
			p.Quants[i] = p.Quants[i]&0x81 | 0x30
		}
	}
	for i := range p.Scales {
		p.Scales[i] = byte(r.Uint32())
		if i%2 == 1 {
			p.Scales[i] = p.Scales[i]&0x81 | 0x20
		}
		if t == quant.MXFP4 {
			p.Scales[i] = 110 + p.Scales[i]%16
		}
	}
	return p
}
