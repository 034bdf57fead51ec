package arith_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weft-mesh/weft/kernels/arith"
)

// ulps is the distance of got from want in units of want's last place.
func ulps(got float32, want float64) float64 {
	_, e := math.Frexp(want)
	return math.Abs(float64(got)-want) / math.Ldexp(1, max(e-24, -149))
}

func worst(t *testing.T, name string, limit float64, lo, hi float64, f func(float32) float32, want func(float64) float64) {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 6))
	var bad float64
	var at float32
	for range 200000 {
		x := float32(lo + r.Float64()*(hi-lo))
		if e := ulps(f(x), want(float64(x))); e > bad {
			bad, at = e, x
		}
	}
	if bad > limit {
		t.Errorf("%s is %.3f ulp off at %g; limit %.2f", name, bad, at, limit)
	}
	t.Logf("%s on [%g, %g]: worst %.3f ulp", name, lo, hi, bad)
}

func TestFunctionsAreAccurate(t *testing.T) {
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	gelu := func(x float64) float64 {
		return x * sigmoid(2*math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))
	}
	worst(t, "Exp", 1, -27, 88, arith.Exp, math.Exp)
	worst(t, "Exp", 1, -1, 1, arith.Exp, math.Exp)
	worst(t, "Tanh", 2, -0.625, 0.625, arith.Tanh, math.Tanh)
	worst(t, "Tanh", 2, -12, 12, arith.Tanh, math.Tanh)
	worst(t, "Tanh", 1.5, -1e-3, 1e-3, arith.Tanh, math.Tanh)
	worst(t, "Sigmoid", 3, -20, 20, arith.Sigmoid, sigmoid)
	worst(t, "SiLU", 3, -20, 20, arith.SiLU, func(x float64) float64 { return x * sigmoid(x) })
	worst(t, "GELU", 4, -1, 6, arith.GELU, gelu)
	worst(t, "GELU", 30, -4, -1, arith.GELU, gelu)
}

func TestExpLimits(t *testing.T) {
	negZero := float32(math.Copysign(0, -1))
	next := math.Nextafter32(-27, -100)
	for _, c := range []struct{ x, want float32 }{
		{0, 1},
		{negZero, 1},
		{next, 0},
		{-1e30, 0},
		{float32(math.Inf(-1)), 0},
		{float32(math.NaN()), 0},
		{89, arith.Exp(88)},
		{float32(math.Inf(1)), arith.Exp(88)},
	} {
		if got := arith.Exp(c.x); math.Float32bits(got) != math.Float32bits(c.want) {
			t.Errorf("Exp(%g) = %g, want %g", c.x, got, c.want)
		}
	}
	if arith.Exp(-27) < arith.Tiny || arith.Exp(88) > 1.7e38 {
		t.Errorf("Exp at its limits: %g, %g", arith.Exp(-27), arith.Exp(88))
	}
}

func TestTanhIsOddBoundedAndKeepsZero(t *testing.T) {
	for _, x := range []float32{0, arith.Tiny, 1e-6, 0.1, 0.62499994, 0.625, 0.7, 3, 20, 1e30, float32(math.Inf(1))} {
		y := arith.Tanh(x)
		if math.Float32bits(arith.Tanh(-x)) != math.Float32bits(y)^0x80000000 {
			t.Errorf("Tanh is not odd at %g", x)
		}
		if y > 1 || y > x {
			t.Errorf("Tanh(%g) = %g", x, y)
		}
	}
	if arith.Tanh(1e30) != 1 {
		t.Error("Tanh does not reach 1")
	}
}

func TestSoftCapBoundsAndFloors(t *testing.T) {
	for _, s := range []float32{0, 1e-13, 0.5, 10, 49, 1000, -3, -1e30} {
		got := arith.SoftCap(s, 50)
		if want := 50 * math.Tanh(float64(s)/50); math.Abs(float64(got)-want) > 1e-5 {
			t.Errorf("SoftCap(%g, 50) = %g, want %g", s, got, want)
		}
	}
	if math.Float32bits(arith.SoftCap(float32(math.Copysign(1e-13, -1)), 50)) != 0 {
		t.Error("a tiny negative score is not +0")
	}
}

func TestFloat64FunctionsAreAccurate(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	check := func(name string, x, got, want, rel, abs float64) {
		t.Helper()
		if math.Abs(got-want) > rel*math.Abs(want)+abs {
			t.Fatalf("%s(%g) = %.17g, want %.17g", name, x, got, want)
		}
	}
	for range 200000 {
		x := (r.Float64() - 0.5) * math.Ldexp(1, r.IntN(28))
		check("Sin64", x, arith.Sin64(x), math.Sin(x), 1e-15, 3e-16)
		check("Cos64", x, arith.Cos64(x), math.Cos(x), 1e-15, 3e-16)
		e := (r.Float64() - 0.5) * 1400
		check("Exp64", e, arith.Exp64(e), math.Exp(e), 5e-16, 0)
		l := math.Ldexp(r.Float64()+0.5, r.IntN(200)-100)
		check("Log64", l, arith.Log64(l), math.Log(l), 5e-16, 0)
		l = 1 + (r.Float64()-0.5)*1e-3
		check("Log64", l, arith.Log64(l), math.Log(l), 5e-16, 0)
		y := -r.Float64()
		check("Pow64", y, arith.Pow64(1e6, y), math.Pow(1e6, y), 1e-14, 0)
	}
}

func TestFloat64FunctionsAtTheirLimits(t *testing.T) {
	inf := math.Inf(1)
	if !math.IsNaN(arith.Sin64(inf)) || !math.IsNaN(arith.Cos64(arith.MaxAngle*2)) || !math.IsNaN(arith.Sin64(math.NaN())) {
		t.Error("angles out of range must give NaN")
	}
	if arith.Exp64(-1e9) != 0 || arith.Exp64(1e9) != inf || !math.IsNaN(arith.Exp64(math.NaN())) || arith.Exp64(0) != 1 {
		t.Error("Exp64 at its limits")
	}
	if arith.Log64(0) != -inf || !math.IsNaN(arith.Log64(-1)) || arith.Log64(inf) != inf || arith.Log64(1) != 0 || !math.IsNaN(arith.Log64(math.NaN())) {
		t.Error("Log64 at its limits")
	}
	for k := range 8 { // quadrants
		x := float64(k)*math.Pi/2 + 0.25
		if math.Abs(arith.Sin64(x)-math.Sin(x)) > 1e-15 || math.Abs(arith.Cos64(x)-math.Cos(x)) > 1e-15 {
			t.Errorf("quadrant %d", k)
		}
	}
}
