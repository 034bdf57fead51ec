package arith

import "math"

// F16ToF32 widens an IEEE half precision number. It is exact; NaN payloads
// keep their bits and are not quieted.
func F16ToF32(h uint16) float32 {
	s, e, m := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h&1023)
	switch e {
	case 0:
		return math.Float32frombits(math.Float32bits(float32(m)*0x1p-24) | s)
	case 31:
		return math.Float32frombits(s | 0xff<<23 | m<<13)
	}
	return math.Float32frombits(s | (e+112)<<23 | m<<13)
}

// F32ToF16 rounds to the nearest half precision number, ties to even, with
// integers only. What rounds to 65536 or more becomes an infinity; every NaN
// becomes the quiet NaN 0x7e00 with its sign.
func F32ToF16(f float32) uint16 {
	u := math.Float32bits(f)
	s := uint16(u>>16) & 0x8000
	a := u & 0x7fffffff
	switch {
	case a > 0x7f800000:
		return s | 0x7e00
	case a >= 0x477ff000: // rounds to 65536 or more
		return s | 0x7c00
	case a >= 0x38800000: // a normal half
		a += 0xfff + (a>>13)&1
		return s | uint16((a-0x38000000)>>13)
	case a < 0x33000000: // below half of the least subnormal
		return s
	}
	shift := 126 - a>>23
	m := a&0x7fffff | 0x800000
	q, rest := m>>shift, m&(1<<shift-1)
	if half := uint32(1) << (shift - 1); rest > half || rest == half && q&1 == 1 {
		q++
	}
	return s | uint16(q)
}

// BF16ToF32 widens a bfloat16 number: its bits are the upper half. Denormals
// stay denormal; the contract reads BF16 weights through Floor.
func BF16ToF32(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// F32ToBF16 rounds to the nearest bfloat16 number, ties to even. A NaN keeps
// its sign and becomes quiet.
func F32ToBF16(f float32) uint16 {
	u := math.Float32bits(f)
	if u&0x7fffffff > 0x7f800000 {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}
