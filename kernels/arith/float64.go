package arith

import "math"

// The float64 functions below exist because package math may use assembly or
// fused operations that differ between processors. They use only addition,
// multiplication, division and exact operations, every product converted
// before it is added, so their bits are the same everywhere. Polynomials are
// Taylor's with exact constant coefficients: they are computed a few times
// when a table is built, so a term more costs nothing.

// ln2 and pi/2 in parts whose products with the integers used here are exact.
// The later parts are differences of untyped constants, hence exact too.
const (
	ln2Hi = 0x1.62e42feep-1 // 31 bits
	ln2Lo = math.Ln2 - ln2Hi

	halfPi1 = 0x1.921fb5p+0  // 25 bits
	halfPi2 = 0x1.110b46p-26 // 24 bits
	halfPi3 = math.Pi/2 - halfPi1 - halfPi2
)

// MaxAngle is the largest argument of Sin64 and Cos64.
const MaxAngle = 0x1p27

// reduce gives the multiple of pi/2 nearest to x, modulo 4, and the rest.
func reduce(x float64) (quadrant int, r float64) {
	k := math.RoundToEven(float64(x * (2 / math.Pi)))
	r = x - float64(k*halfPi1)
	r -= float64(k * halfPi2)
	r -= float64(k * halfPi3)
	return int(int64(k) & 3), r
}

var (
	sinTerms = [...]float64{1. / 355687428096000, -1. / 1307674368000, 1. / 6227020800, -1. / 39916800, 1. / 362880, -1. / 5040, 1. / 120, -1. / 6}
	cosTerms = [...]float64{-1. / 6402373705728000, 1. / 20922789888000, -1. / 87178291200, 1. / 479001600, -1. / 3628800, 1. / 40320, -1. / 720, 1. / 24}
	expTerms = [...]float64{1. / 6227020800, 1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320, 1. / 5040, 1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2}
)

func horner(z float64, c []float64) float64 {
	p := c[0]
	for _, a := range c[1:] {
		p = float64(p*z) + a
	}
	return p
}

// SinCos64 is the sine and cosine of x, |x| <= MaxAngle; NaN beyond.
func SinCos64(x float64) (sin, cos float64) {
	if !(x >= -MaxAngle && x <= MaxAngle) {
		return math.NaN(), math.NaN()
	}
	quadrant, r := reduce(x)
	z := float64(r * r)
	s := r + float64(float64(r*z)*horner(z, sinTerms[:]))
	c := 1 - (float64(0.5*z) - float64(float64(z*z)*horner(z, cosTerms[:])))
	switch quadrant {
	case 1:
		return c, -s
	case 2:
		return -s, -c
	case 3:
		return -c, s
	}
	return s, c
}

// Sin64 is the sine of x, |x| <= MaxAngle; NaN beyond.
func Sin64(x float64) float64 { s, _ := SinCos64(x); return s }

// Cos64 is the cosine of x, |x| <= MaxAngle; NaN beyond.
func Cos64(x float64) float64 { _, c := SinCos64(x); return c }

// Exp64 is e^x: 0 below -708, +Inf above 709.
func Exp64(x float64) float64 {
	switch {
	case x != x:
		return x
	case x < -708:
		return 0
	case x > 709:
		return math.Inf(1)
	}
	k := math.RoundToEven(float64(x * (1 / math.Ln2)))
	r := x - float64(k*ln2Hi)
	r -= float64(k * ln2Lo)
	p := 1 + (r + float64(float64(r*r)*horner(r, expTerms[:])))
	return math.Float64frombits(math.Float64bits(p) + uint64(int64(k))<<52)
}

// Log64 is the natural logarithm of a normal positive x. 0 gives -Inf, a
// negative number NaN, infinities and NaN themselves.
func Log64(x float64) float64 {
	switch {
	case x != x || math.IsInf(x, 1):
		return x
	case x < 0:
		return math.NaN()
	case x < 0x1p-1022:
		return math.Inf(-1)
	}
	u := math.Float64bits(x)
	k := int64(u>>52) - 1023
	m := math.Float64frombits(u&(1<<52-1) | 1023<<52)
	if m > math.Sqrt2 {
		m *= 0.5
		k++
	}
	// log m = 2 atanh(f): with |f| < 0.172 eleven terms leave less than 2^-56.
	f := (m - 1) / (m + 1)
	z := float64(f * f)
	s := 0.0
	for i := 23; i >= 3; i -= 2 {
		s = float64(z * (s + 1/float64(i)))
	}
	// 2f = (m-1) - f*(m-1): the large part stays exact.
	d := m - 1
	tail := float64(f*float64(2*s)) - float64(f*d)
	return float64(float64(k)*ln2Hi) + (d + (float64(float64(k)*ln2Lo) + tail))
}

// Pow64 is x^y for positive x, as Exp64(y*Log64(x)): its relative error grows
// with |y*log x|, to about 2^-46 at 64.
func Pow64(x, y float64) float64 { return Exp64(float64(y * Log64(x))) }
