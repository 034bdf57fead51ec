package arith

import "math"

// Limits of Exp's argument: below ExpLow the result is +0, above ExpHigh the
// argument counts as ExpHigh.
const (
	ExpLow  = -27
	ExpHigh = 88
)

// Bit patterns of Exp's constants, for devices that need them as such.
// ExpCoeffs is a minimax polynomial of (e^r - 1 - r)/r^2 for |r| <= ln2/2,
// highest power first; ln2 is split in two so that k*Ln2Hi is nearly exact.
const (
	Log2E  = 0x3fb8aa3b
	Ln2Hi  = 0x3f317200
	Ln2Lo  = 0x35bfbe8e
	expDeg = 5
)

// ExpCoeffs are described beside Log2E.
var ExpCoeffs = [expDeg]uint32{0x3ab511e8, 0x3c091d10, 0x3d2aac79, 0x3e2aaa49, 0x3efffffe}

// Bit patterns of the constants of Tanh and GELU. TanhCoeffs interpolates
// (tanh(x)/x - 1)/x^2 in x^2 up to 0.625^2, highest power first. GELUA is
// 2*sqrt(2/pi), GELUB is GELUA*0.044715.
const (
	TanhSplit = 0x3f200000 // 0.625
	GELUA     = 0x3fcc422a
	GELUB     = 0x3d922279
)

// TanhCoeffs are described beside TanhSplit.
var TanhCoeffs = [5]uint32{0xbbc7b4d5, 0x3cabff2a, 0xbd5c9271, 0x3e08870d, 0xbeaaaaa9}

func fb(u uint32) float32 { return math.Float32frombits(u) }

// Exp is the contract's e^x. x < -27 (and NaN, which the contract never
// passes) gives +0; x > 88 counts as 88. Otherwise k is the integer nearest to
// RN(x*log2 e), r = FMA(-k, Ln2Lo, FMA(-k, Ln2Hi, x)), p is Horner by FMA over
// ExpCoeffs, 1, 1, and k is added to p's exponent as an integer. Exp(0) is 1.
func Exp(x float32) float32 {
	if !(x >= ExpLow) {
		return 0
	}
	if x > ExpHigh {
		x = ExpHigh
	}
	n := RoundEven(float32(x * fb(Log2E)))
	k := float32(n)
	r := FMA(-k, fb(Ln2Hi), x)
	r = FMA(-k, fb(Ln2Lo), r)
	p := fb(ExpCoeffs[0])
	for _, c := range ExpCoeffs[1:] {
		p = FMA(p, r, fb(c))
	}
	p = FMA(p, r, 1)
	p = FMA(p, r, 1)
	return fb(math.Float32bits(p) + uint32(n)<<23)
}

// Sigmoid is RN(1 / RN(1 + Exp(-x))).
func Sigmoid(x float32) float32 { return float32(1 / float32(1+Exp(-x))) }

// SiLU is RN(x / RN(1 + Exp(-x))), without the floor that a stored element
// gets.
func SiLU(x float32) float32 { return float32(x / float32(1+Exp(-x))) }

// GELU is the tanh form, x/2*(1+tanh(sqrt(2/pi)*(x+0.044715x^3))), written as
// x over 1+e^-u: z = RN(x*x), u = RN(x * FMA(z, GELUB, GELUA)), and the result
// RN(x / RN(1 + Exp(-u))). x must have passed the floor.
func GELU(x float32) float32 {
	z := float32(x * x)
	u := float32(x * FMA(z, fb(GELUB), fb(GELUA)))
	return float32(x / float32(1+Exp(-u)))
}

// Tanh is the hyperbolic tangent of x, which must have passed the floor. With
// a = |x|: below 0.625, z = RN(a*a), p is Horner in z by FMA over TanhCoeffs
// and the result is FMA(RN(a*z), p, a); from there on it is
// RN(1 - RN(2 / RN(Exp(RN(2a)) + 1))). The sign of x is put back as a bit.
func Tanh(x float32) float32 {
	a := fb(math.Float32bits(x) & 0x7fffffff)
	var y float32
	if a < fb(TanhSplit) {
		z := float32(a * a)
		p := fb(TanhCoeffs[0])
		for _, c := range TanhCoeffs[1:] {
			p = FMA(p, z, fb(c))
		}
		y = FMA(float32(a*z), p, a)
	} else {
		y = float32(1 - float32(2/float32(Exp(float32(2*a))+1)))
	}
	return fb(math.Float32bits(y) | math.Float32bits(x)&0x80000000)
}

// SoftCap bounds a score: Floor(RN(limit*Tanh(Floor(RN(s/limit))))). limit
// must be at least 2^-40.
func SoftCap(s, limit float32) float32 {
	return Floor(float32(limit * Tanh(Floor(float32(s/limit)))))
}
