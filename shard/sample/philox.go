package sample

import "math/bits"

// Constants of Philox4x32: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
const (
	philoxM0 = 0xD2511F53
	philoxM1 = 0xCD9E8D57
	philoxW0 = 0x9E3779B9
	philoxW1 = 0xBB67AE85
)

// philox4x32 is Philox4x32-10: a counter and a key give 128 random bits.
func philox4x32(ctr [4]uint32, key [2]uint32) [4]uint32 {
	for range 10 {
		hi0, lo0 := bits.Mul32(philoxM0, ctr[0])
		hi1, lo1 := bits.Mul32(philoxM1, ctr[2])
		ctr = [4]uint32{hi1 ^ ctr[1] ^ key[0], lo1, hi0 ^ ctr[3] ^ key[1], lo0}
		key[0] += philoxW0
		key[1] += philoxW1
	}
	return ctr
}

// random gives the 64 bits of one draw.
func random(seed uint64, choice uint32, position uint64) uint64 {
	r := philox4x32(
		[4]uint32{uint32(position), uint32(position >> 32), choice, 0},
		[2]uint32{uint32(seed), uint32(seed >> 32)})
	return uint64(r[1])<<32 | uint64(r[0])
}
