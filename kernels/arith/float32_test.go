package arith_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/weft-mesh/weft/kernels/arith"
)

func f32(u uint32) float32 { return math.Float32frombits(u) }

// exactFMA rounds the exact a*b+c once, by math/big.
func exactFMA(a, b, c float32) float32 {
	x := new(big.Float).SetPrec(1200).SetFloat64(float64(a))
	x.Mul(x, new(big.Float).SetPrec(1200).SetFloat64(float64(b)))
	x.Add(x, new(big.Float).SetPrec(1200).SetFloat64(float64(c)))
	r, _ := x.Float32()
	return r
}

func randomFinite(r *rand.Rand) float32 {
	for {
		if v := f32(r.Uint32()); arith.Finite(v) {
			return v
		}
	}
}

func TestFMARoundsOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	n := 60000
	for i := range n {
		a, b, c := randomFinite(r), randomFinite(r), randomFinite(r)
		switch i % 4 {
		case 1: // near cancellation
			c = -float32(a * b)
		case 2: // results among the denormals
			a = f32(r.Uint32()&0x807fffff | uint32(40+r.IntN(30))<<23)
			b = f32(r.Uint32()&0x807fffff | uint32(20+r.IntN(60))<<23)
			c = f32(r.Uint32() & 0x81ffffff)
		case 3: // beside rounding midpoints
			a = f32(r.Uint32()&0x807ff000 | 0x3f800000)
			b = f32(r.Uint32()&0x807ff000 | 0x3f800000)
			c = f32(r.Uint32()&0x807fffff | uint32(100+r.IntN(30))<<23)
		}
		if !arith.Finite(c) {
			continue
		}
		got, want := arith.FMA(a, b, c), exactFMA(a, b, c)
		if want == 0 && got == 0 {
			continue // math/big has its own sign of an exact zero sum
		}
		if math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("FMA(%x, %x, %x) = %x, want %x", a, b, c, got, want)
		}
	}
}

// A tiny addend decides between two float32 when the product is their midpoint.
func TestFMAIsNotFooledByMidpoints(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	seen := 0
	for range 200000 {
		a, b := f32(r.Uint32()&0x000fff00|0x3f800000), f32(r.Uint32()&0x000fff00|0x3f800000)
		if p := float64(a) * float64(b); math.Float64bits(p)&0x1fffffff != 0x10000000 {
			continue
		}
		seen++
		for _, c := range []float32{1e-20, -1e-20, 1e-30, -1e-44, 0} {
			if got, want := arith.FMA(a, b, c), exactFMA(a, b, c); got != want {
				t.Fatalf("FMA(%x, %x, %x) = %x, want %x", a, b, c, got, want)
			}
		}
	}
	if seen < 50 {
		t.Fatalf("only %d midpoints were met", seen)
	}
}

func TestFMASpecialValues(t *testing.T) {
	inf := float32(math.Inf(1))
	negZero := float32(math.Copysign(0, -1))
	for _, c := range []struct{ a, b, c, want float32 }{
		{1, inf, 1, inf},
		{-1, inf, 1, -inf},
		{3e38, 3e38, 0, inf},
		{1, 1, inf, inf},
		{0, 5, 0, 0},
		{negZero, 5, negZero, negZero},
		{1, 1, -1, 0},
		{2, 3, negZero, 6},
	} {
		if got := arith.FMA(c.a, c.b, c.c); math.Float32bits(got) != math.Float32bits(c.want) {
			t.Errorf("FMA(%g, %g, %g) = %g, want %g", c.a, c.b, c.c, got, c.want)
		}
	}
	if v := arith.FMA(inf, 1, -inf); v == v {
		t.Errorf("FMA(inf, 1, -inf) = %g, want NaN", v)
	}
}

func TestFloorBorders(t *testing.T) {
	for _, c := range []struct{ in, want uint32 }{
		{0x2b800000, 0x2b800000},
		{0x2b7fffff, 0},
		{0xab800000, 0xab800000},
		{0xab7fffff, 0},
		{0x80000000, 0},
		{1, 0},
		{0x7f800000, 0x7f800000},
		{0x7fc00001, 0x7fc00001},
		{0x3f800000, 0x3f800000},
	} {
		if got := math.Float32bits(arith.Floor(f32(c.in))); got != c.want {
			t.Errorf("Floor(%08x) = %08x, want %08x", c.in, got, c.want)
		}
		x := []float32{f32(c.in)}
		arith.FloorAll(x)
		if got := math.Float32bits(x[0]); got != c.want {
			t.Errorf("FloorAll(%08x) = %08x, want %08x", c.in, got, c.want)
		}
	}
}

func TestRoundEvenTiesToEven(t *testing.T) {
	for _, x := range []float32{0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.49999, 127, -127.5, 16319, 0.49999997, 4194303.5, -4194303.5, 1e-38} {
		if got, want := arith.RoundEven(x), int32(math.RoundToEven(float64(x))); got != want {
			t.Errorf("RoundEven(%g) = %d, want %d", x, got, want)
		}
	}
}

func TestSqrtIsCorrectlyRounded(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		x := f32(r.Uint32() & 0x7fffffff)
		if !arith.Finite(x) {
			continue
		}
		want, _ := new(big.Float).SetPrec(300).Sqrt(new(big.Float).SetPrec(300).SetFloat64(float64(x))).Float32()
		if got := arith.Sqrt(x); got != want {
			t.Fatalf("Sqrt(%x) = %x, want %x", x, got, want)
		}
	}
}

func TestMaxAbsBitsLetsNaNAndInfWin(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	if m := arith.MaxAbsBits([]float32{1, -3, 2}); m != math.Float32bits(3) {
		t.Errorf("got %08x", m)
	}
	if m := arith.MaxAbsBits([]float32{1, inf}); m != 0x7f800000 {
		t.Errorf("infinity: %08x", m)
	}
	if m := arith.MaxAbsBits([]float32{nan, inf}); m <= 0x7f800000 {
		t.Errorf("NaN: %08x", m)
	}
	if arith.MaxAbsBits(nil) != 0 {
		t.Error("an empty slice has no maximum")
	}
}

func TestTree16AddsInTheContractsOrder(t *testing.T) {
	l := [16]float32{1e8, 1, -1e8, 3, 5e-8, 7, 1e8, 0, -1e8, 1, 1e8, 1, 2, 3, 4, 1e-3}
	want := (((l[0] + l[8]) + (l[4] + l[12])) + ((l[2] + l[10]) + (l[6] + l[14]))) + (((l[1] + l[9]) + (l[5] + l[13])) + ((l[3] + l[11]) + (l[7] + l[15])))
	before := l
	if got := arith.Tree16(&l); got != want {
		t.Errorf("Tree16 = %g, want %g", got, want)
	}
	if l != before {
		t.Error("Tree16 changed its argument")
	}
}

func TestHalfConversionsAreExactAndRoundToEven(t *testing.T) {
	value := func(h uint16) float64 { // by the format's definition
		e, m := int(h>>10&31), float64(h&1023)
		v := math.Ldexp(1+m/1024, e-15)
		if e == 0 {
			v = math.Ldexp(m, -24)
		}
		return math.Copysign(v, float64(1-2*int(h>>15)))
	}
	for i := range 1 << 16 {
		h := uint16(i)
		if h&0x7c00 == 0x7c00 {
			continue
		}
		f := arith.F16ToF32(h)
		if float64(f) != value(h) || math.Signbit(float64(f)) != (h>>15 == 1) {
			t.Fatalf("F16ToF32(%04x) = %g, want %g", h, f, value(h))
		}
		if back := arith.F32ToF16(f); back != h {
			t.Fatalf("F32ToF16(%g) = %04x, want %04x", f, back, h)
		}
		if h&0x7fff >= 0x7bff {
			continue
		}
		// The midpoint to the next half goes to the even one, its neighbours to the nearer.
		mid := float32((value(h) + value(h+1)) / 2)
		even := h + h&1
		if got := arith.F32ToF16(mid); got != even {
			t.Fatalf("midpoint above %04x goes to %04x, want %04x", h, got, even)
		}
		if got := arith.F32ToF16(f32(math.Float32bits(mid) - 1)); got != h {
			t.Fatalf("below the midpoint above %04x: %04x", h, got)
		}
		if got := arith.F32ToF16(f32(math.Float32bits(mid) + 1)); got != h+1 {
			t.Fatalf("above the midpoint above %04x: %04x", h, got)
		}
	}
	for _, c := range []struct {
		f    float32
		want uint16
	}{{65519.996, 0x7bff}, {65520, 0x7c00}, {-1e9, 0xfc00}, {f32(0x7fc00000), 0x7e00}, {f32(0xff800001), 0xfe00}, {f32(0x7f800000), 0x7c00}} {
		if got := arith.F32ToF16(c.f); got != c.want {
			t.Errorf("F32ToF16(%g) = %04x, want %04x", c.f, got, c.want)
		}
	}
	if arith.F16ToF32(0xfc00) != float32(math.Inf(-1)) || arith.F16ToF32(0x7e00) == arith.F16ToF32(0x7e00) {
		t.Error("infinity or NaN lost")
	}
}

func TestBF16Conversions(t *testing.T) {
	for i := range 1 << 16 {
		b := uint16(i)
		f := arith.BF16ToF32(b)
		if math.Float32bits(f) != uint32(b)<<16 {
			t.Fatalf("BF16ToF32(%04x)", b)
		}
		if f != f {
			continue
		}
		if back := arith.F32ToBF16(f); back != b {
			t.Fatalf("F32ToBF16(%g) = %04x, want %04x", f, back, b)
		}
		if b&0x7f80 == 0x7f80 {
			continue
		}
		if got, want := arith.F32ToBF16(f32(uint32(b)<<16|0x8000)), b+b&1; got != want {
			t.Fatalf("midpoint above %04x goes to %04x, want %04x", b, got, want)
		}
	}
	if b := arith.F32ToBF16(f32(0x7f800001)); b != 0x7fc0 {
		t.Errorf("NaN became %04x", b)
	}
}
