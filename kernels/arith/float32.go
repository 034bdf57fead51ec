package arith

import "math"

// Tiny is the contract's floor: elements smaller in magnitude count as +0.
const Tiny = 0x1p-40

// tinyBits is the bit pattern of Tiny.
const tinyBits = 0x2b800000

// Floor is the contract's F: +0 where |x| < 2^-40 (so -0 as well), else x.
// NaN and infinities pass unchanged.
func Floor(x float32) float32 {
	if math.Float32bits(x)&0x7fffffff < tinyBits {
		return 0
	}
	return x
}

// FloorAll applies Floor to each element of x in place.
func FloorAll(x []float32) {
	for i, v := range x {
		if math.Float32bits(v)&0x7fffffff < tinyBits {
			x[i] = 0
		}
	}
}

// FMA is a*b+c with one rounding to float32, denormal results included.
//
// The product of two float32 is exact in float64. Rounding its sum with c to
// float64 and then to float32 can differ from rounding once only where the
// first rounding gives a midpoint of two float32, or a denormal.
func FMA(a, b, c float32) float32 {
	p, z := float64(float64(a)*float64(b)), float64(c)
	s := float64(p + z)
	if u := math.Float64bits(s); u&0x1fffffff != 0x10000000 && u<<1 >= 897<<53 {
		return float32(s)
	}
	return roundOdd(p, z, s)
}

// roundOdd gives p+z rounded once to float32; s is the sum in float64. The
// error of the addition, found exactly by TwoSum, moves an even mantissa of s
// towards it. Rounding that to float32 equals rounding once, since float64 has
// more than two bits beyond float32 (Boldo and Melquiond, 2008).
//
//go:noinline
func roundOdd(p, z, s float64) float32 {
	t := float64(s - p)
	e := float64(float64(p-float64(s-t)) + float64(z-t))
	if e == 0 || e != e {
		return float32(s)
	}
	u := math.Float64bits(s)
	if u&1 == 0 {
		if (e > 0) == (s > 0) {
			u++
		} else {
			u--
		}
	}
	return float32(math.Float64frombits(u))
}

// Sqrt is the correctly rounded square root. Computing it in float64 and
// rounding once more changes nothing: float64 carries over 2*24+2 bits.
func Sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// RoundEven is the integer nearest to x, ties to even. |x| must be at most
// 2^22.
func RoundEven(x float32) int32 {
	const magic = 0x1.8p23
	return int32(float32(float32(x+magic) - magic))
}

// Finite reports whether x is neither NaN nor an infinity.
func Finite(x float32) bool { return math.Float32bits(x)&0x7fffffff < 0x7f800000 }

// MaxAbsBits is the largest bit pattern of |x[i]|, compared as an unsigned
// integer, so that infinities and NaNs win: 0x7f800000 or more means that x
// holds a value that is not finite. It is 0 for an empty slice.
func MaxAbsBits(x []float32) uint32 {
	var m uint32
	for _, v := range x {
		m = max(m, math.Float32bits(v)&0x7fffffff)
	}
	return m
}

// Tree16 sums sixteen lanes in the contract's order: l[j]+l[j+8] for j < 8,
// then +4, +2 and +1, each addition rounded.
func Tree16(l *[16]float32) float32 {
	a := *l
	for s := 8; s > 0; s >>= 1 {
		for j := range s {
			a[j] = float32(a[j] + a[j+s])
		}
	}
	return a[0]
}
