package arith_test

import (
	"math"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels/arith"
)

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if math.Abs(got-want) > tol {
		t.Errorf("%s = %.9g, want %.9g", what, got, want)
	}
}

func TestPlainTableIsCosAndSinOfScaledPositions(t *testing.T) {
	const dims, n = 64, 300
	cos, sin, err := arith.RopeTable(arith.RopeParams{Dims: dims, Base: 10000}, n)
	if err != nil || len(cos) != n*dims/2 || len(sin) != n*dims/2 {
		t.Fatal(len(cos), len(sin), err)
	}
	for pos := range n {
		for i := range dims / 2 {
			a := float64(pos) * math.Pow(10000, -float64(2*i)/dims)
			near(t, "cos", float64(cos[pos*dims/2+i]), math.Cos(a), 4e-8)
			near(t, "sin", float64(sin[pos*dims/2+i]), math.Sin(a), 4e-8)
		}
	}
}

func TestTableElementsPassTheFloor(t *testing.T) {
	_, sin, err := arith.RopeTable(arith.RopeParams{Dims: 256, Base: 1e30}, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sin {
		if s != 0 && math.Abs(float64(s)) < arith.Tiny {
			t.Fatalf("%g is below the floor", s)
		}
	}
}

func TestLinearScalingDividesPositionsAndFactorsDivideFrequencies(t *testing.T) {
	plain, _, _ := arith.RopeTable(arith.RopeParams{Dims: 8, Base: 10000}, 10)
	linear, _, _ := arith.RopeTable(arith.RopeParams{Dims: 8, Base: 10000, Scaling: arith.ScalingLinear, Factor: 4}, 37)
	factors, _, _ := arith.RopeTable(arith.RopeParams{Dims: 8, Base: 10000, Factors: []float32{4, 4, 4, 4}, AttnFactor: 0.5}, 37)
	for pos := range 10 {
		for i := range 4 {
			near(t, "linear", float64(linear[pos*4*4+i]), float64(plain[pos*4+i]), 1e-7)
			near(t, "factors", float64(factors[pos*4*4+i]), float64(plain[pos*4+i])/2, 1e-7)
		}
	}
}

// The expected values were worked out from the paper's formulas with package
// math, for the settings of a model with 4x YaRN over 32768 positions.
func TestYarnKeepsFastDimensionsAndScalesSlowOnes(t *testing.T) {
	p := arith.RopeParams{Dims: 128, Base: 1e6, Scaling: arith.ScalingYarn, Factor: 4, OriginalContext: 32768}
	freqs, magnitude := p.Frequencies()
	near(t, "magnitude", magnitude, 1+0.1*math.Log(4), 1e-12)
	bound := func(turns float64) float64 {
		return 128 * math.Log(32768/(turns*2*math.Pi)) / (2 * math.Log(1e6))
	}
	low, high := math.Floor(bound(32)), math.Ceil(bound(1))
	if low != 23 || high != 40 {
		t.Fatalf("ramp from %g to %g", low, high)
	}
	for i, f := range freqs {
		plain := math.Pow(1e6, -float64(2*i)/128)
		keep := 1 - math.Min(1, math.Max(0, (float64(i)-low)/(high-low)))
		near(t, "frequency ratio", f/plain, keep+(1-keep)/4, 1e-12)
	}
	if r := freqs[0]; r != 1 {
		t.Errorf("the fastest dimension turns by %g", r)
	}
}

func TestRopeParamsFromForeignFilesAreRefused(t *testing.T) {
	good := arith.RopeParams{Dims: 8, Base: 10000}
	cases := map[string]func(p *arith.RopeParams){
		"rotated dimensions":    func(p *arith.RopeParams) { p.Dims = 7 },
		"frequency base":        func(p *arith.RopeParams) { p.Base = math.NaN() },
		"unknown scaling":       func(p *arith.RopeParams) { p.Scaling = 9 },
		"scaling factor":        func(p *arith.RopeParams) { p.Factor = math.Inf(1) },
		"4, one a pair":         func(p *arith.RopeParams) { p.Factors = make([]float32, 3) },
		"frequency factor 2 is": func(p *arith.RopeParams) { p.Factors = []float32{1, 1, 0, 1} },
		"attention factor":      func(p *arith.RopeParams) { p.AttnFactor = -1 },
		"original context":      func(p *arith.RopeParams) { p.Scaling = arith.ScalingYarn },
		"yarn betas":            func(p *arith.RopeParams) { p.Scaling, p.OriginalContext, p.BetaFast = 2, 10, -3 },
		"yarn extrapolation":    func(p *arith.RopeParams) { p.Scaling, p.OriginalContext, p.ExtFactor = 2, 10, 3 },
		"too much for 1000000":  func(p *arith.RopeParams) { p.Factors = []float32{1e-3, 1, 1, 1} },
	}
	for want, change := range cases {
		p := good
		change(&p)
		n := 10
		if strings.Contains(want, "1000000") {
			n = 1000000
		}
		if _, _, err := arith.RopeTable(p, n); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	for _, n := range []int{0, -1, arith.MaxRopePositions + 1} {
		if _, _, err := arith.RopeTable(good, n); err == nil {
			t.Errorf("a table of %d positions was made", n)
		}
	}
}
