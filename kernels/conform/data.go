package conform

import (
	"math"
	"math/rand/v2"

	"github.com/weft-mesh/weft/kernels/quant"
)

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x77656674)) }

// ordinary gives numbers as activations are: around 1, a few outliers.
func ordinary(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
		if r.IntN(97) == 0 {
			x[i] *= 300
		}
	}
	return x
}

// edges gives numbers where rules change: zeros, the floor, denormals, ties of
// the quantiser, wide ranges, whole blocks of one kind.
func edges(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for at := 0; at < n; at += 32 {
		edgeBlock(r, x[at:min(n, at+32)])
	}
	return x
}

// floorBits is the pattern of 2^-40.
const floorBits = 0x2b800000

func edgeBlock(r *rand.Rand, x []float32) {
	kind := r.IntN(12)
	for i := range x {
		v := float32(r.NormFloat64())
		switch kind {
		case 0: // zeros of both signs
			v = float32(math.Copysign(0, float64(v)))
		case 1: // beside the floor
			v = float32(math.Copysign(float64(math.Float32frombits(uint32(floorBits-1+r.IntN(3)))), float64(v)))
		case 2: // denormals
			v = math.Float32frombits(r.Uint32() & 0x807fffff)
		case 3: // ties: the largest is 127, the others halves
			v = float32(r.IntN(253)-126) + 0.5
			if i == 0 {
				v = 127
			}
		case 4: // ties at 16 bits
			v = float32(r.IntN(32637)-16318) + 0.5
			if i == 0 {
				v = -16319
			}
		case 5: // tiny beside live
			v *= 1e-12
			if i == len(x)/2 {
				v = 3
			}
		case 6: // large
			v *= 1e17
		case 7: // all bits
			v = math.Float32frombits(r.Uint32()&0x807fffff | uint32(70+r.IntN(90))<<23)
		case 8: // one outlier
			if i == 5 {
				v *= 3000
			}
		case 9: // equal magnitudes
			v = float32(math.Copysign(0.7, float64(v)))
		}
		x[i] = v
	}
}

// halves lists the f16 scales of a block.
var halves = map[quant.Type][]int{
	quant.Q4_0: {0}, quant.Q5_0: {0}, quant.Q8_0: {0}, quant.IQ4_NL: {0}, quant.IQ4_XS: {0},
	quant.Q4_1: {0, 2}, quant.Q5_1: {0, 2}, quant.Q4_K: {0, 2}, quant.Q5_K: {0, 2},
	quant.Q2_K: {80, 82}, quant.Q3_K: {108}, quant.Q6_K: {208},
}

// weights gives random GGUF bytes of a matrix with scales as models have them;
// wild adds zeros, denormals and the largest finite ones.
func weights(r *rand.Rand, t quant.Type, rows, cols int, wild bool) []byte {
	b := make([]byte, must(t.Bytes(rows, cols)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	info := must(t.Info())
	for at := 0; at < len(b); at += info.BlockBytes {
		setScales(r, t, b[at:at+info.BlockBytes], wild)
	}
	return b
}

func setScales(r *rand.Rand, t quant.Type, block []byte, wild bool) {
	put := func(at int, h uint16) { block[at], block[at+1] = byte(h), byte(h>>8) }
	for _, at := range halves[t] {
		put(at, scale16(r, wild))
	}
	switch t {
	case quant.MXFP4:
		block[0] = byte(118 + r.IntN(8))
		if wild {
			block[0] = byte(r.IntN(150))
		}
	case quant.F16:
		put(0, scale16(r, wild))
	case quant.BF16:
		put(0, uint16(float16ish(r, wild)>>16))
	case quant.F32:
		u := float16ish(r, wild)
		put(0, uint16(u))
		put(2, uint16(u>>16))
	}
}

func scale16(r *rand.Rand, wild bool) uint16 {
	h := uint16(r.IntN(2))<<15 | uint16(7+r.IntN(4))<<10 | uint16(r.IntN(1024))
	if !wild {
		return h
	}
	switch r.IntN(4) {
	case 0:
		return h & 0x8000 // zero
	case 1:
		return h & 0x83ff // denormal
	case 2:
		return h&0x83ff | 0x7800 // large
	}
	return h
}

// float16ish gives the bits of a float32 weight.
func float16ish(r *rand.Rand, wild bool) uint32 {
	u := math.Float32bits(float32(r.NormFloat64() / 16))
	if wild {
		switch r.IntN(4) {
		case 0:
			return u & 0x80000000
		case 1:
			return u & 0x807fffff // denormal
		case 2:
			return u&0x807fffff | uint32(floorBits-0x800000*r.IntN(2)) // beside the floor
		}
	}
	return u
}
