package quant

import (
	"fmt"
	"math"

	"github.com/weft-mesh/weft/kernels/arith"
)

// Decode dequantises GGUF bytes to float32 exactly as the format's definition
// (GGML) does: no floor, denormals, infinities and NaNs as they are. dst must
// be as long as src says, and src whole blocks. Products of scale and quant are
// exact in float32 for every type, so only the sum with a minimum rounds.
//
// It shares no code with Pack: tests hold the two against each other.
func Decode(dst []float32, t Type, src []byte) error {
	info, err := t.Info()
	if err != nil {
		return err
	}
	blocks := len(src) / info.BlockBytes
	if len(src)%info.BlockBytes != 0 || len(dst) != blocks*info.BlockElems {
		return fmt.Errorf("%w: %d bytes of %s into %d elements", ErrShape, len(src), t, len(dst))
	}
	decode := decoders[t]
	for b := range blocks {
		decode(dst[b*info.BlockElems:(b+1)*info.BlockElems], src[b*info.BlockBytes:(b+1)*info.BlockBytes])
	}
	return nil
}

var decoders = map[Type]func(y []float32, b []byte){
	F32:  func(y []float32, b []byte) { y[0] = math.Float32frombits(le.Uint32(b)) },
	F16:  func(y []float32, b []byte) { y[0] = half(b) },
	BF16: func(y []float32, b []byte) { y[0] = arith.BF16ToF32(le.Uint16(b)) },
	Q4_0: func(y []float32, b []byte) {
		d := half(b)
		for i, q := range b[2:18] {
			y[i] = d * float32(int(q&15)-8)
			y[16+i] = d * float32(int(q>>4)-8)
		}
	},
	Q4_1: func(y []float32, b []byte) {
		d, m := half(b), half(b[2:])
		for i, q := range b[4:20] {
			y[i] = float32(d*float32(q&15)) + m
			y[16+i] = float32(d*float32(q>>4)) + m
		}
	},
	Q5_0: func(y []float32, b []byte) {
		d, high := half(b), le.Uint32(b[2:])
		for i, q := range b[6:22] {
			y[i] = d * float32(int(q&15)+int(high>>i&1)*16-16)
			y[16+i] = d * float32(int(q>>4)+int(high>>(16+i)&1)*16-16)
		}
	},
	Q5_1: func(y []float32, b []byte) {
		d, m, high := half(b), half(b[2:]), le.Uint32(b[4:])
		for i, q := range b[8:24] {
			y[i] = float32(d*float32(int(q&15)+int(high>>i&1)*16)) + m
			y[16+i] = float32(d*float32(int(q>>4)+int(high>>(16+i)&1)*16)) + m
		}
	},
	Q8_0: func(y []float32, b []byte) {
		d := half(b)
		for i, q := range b[2:34] {
			y[i] = d * float32(int8(q))
		}
	},
	Q2_K: decodeQ2K,
	Q3_K: decodeQ3K,
	Q4_K: decodeQ4K,
	Q5_K: decodeQ5K,
	Q6_K: decodeQ6K,
	IQ4_NL: func(y []float32, b []byte) {
		d := half(b)
		for i, q := range b[2:18] {
			y[i] = d * float32(NonLinear4[q&15])
			y[16+i] = d * float32(NonLinear4[q>>4])
		}
	},
	IQ4_XS: decodeIQ4XS,
	MXFP4: func(y []float32, b []byte) {
		d := halfExponent(b[0])
		for i, q := range b[1:17] {
			y[i] = d * float32(MicroFloat4[q&15])
			y[16+i] = d * float32(MicroFloat4[q>>4])
		}
	},
}

func half(b []byte) float32 { return arith.F16ToF32(le.Uint16(b)) }

func decodeQ2K(y []float32, b []byte) {
	scales, qs, d, m := b[:16], b[16:80], half(b[80:]), half(b[82:])
	for i := range y {
		part, sub := i/128, i/16
		q := qs[32*part+i%32] >> (2 * (i % 128 / 32)) & 3
		dl, ml := d*float32(scales[sub]&15), m*float32(scales[sub]>>4)
		y[i] = float32(dl*float32(q)) - float32(ml)
	}
}

func decodeQ3K(y []float32, b []byte) {
	mask, qs, p, d := b[:32], b[32:96], b[96:108], half(b[108:])
	for i := range y {
		part, sub := i/128, i/16
		q := int(qs[32*part+i%32] >> (2 * (i % 128 / 32)) & 3)
		if mask[i%32]>>(i/32)&1 == 0 {
			q -= 4
		}
		low := p[sub%8] & 15
		if sub >= 8 {
			low = p[sub%8] >> 4
		}
		scale := int(low|p[8+sub%4]>>(2*(sub/4))&3<<4) - 32
		y[i] = float32(d*float32(scale)) * float32(q)
	}
}

// scaleMin is the 6-bit scale and minimum j of Q4_K and Q5_K.
func scaleMin(p []byte, j int) (scale, minimum byte) {
	if j < 4 {
		return p[j] & 63, p[j+4] & 63
	}
	return p[j+4]&15 | p[j-4]>>6<<4, p[j+4]>>4 | p[j]>>6<<4
}

func decodeQ4K(y []float32, b []byte) {
	d, m, p, qs := half(b), half(b[2:]), b[4:16], b[16:144]
	for i := range y {
		sub := i / 32
		q := qs[32*(sub/2)+i%32] >> (4 * (sub % 2)) & 15
		s, n := scaleMin(p, sub)
		y[i] = float32(float32(d*float32(s))*float32(q)) - float32(m*float32(n))
	}
}

func decodeQ5K(y []float32, b []byte) {
	d, m, p, qh, qs := half(b), half(b[2:]), b[4:16], b[16:48], b[48:176]
	for i := range y {
		sub := i / 32
		q := qs[32*(sub/2)+i%32]>>(4*(sub%2))&15 + qh[i%32]>>sub&1*16
		s, n := scaleMin(p, sub)
		y[i] = float32(float32(d*float32(s))*float32(q)) - float32(m*float32(n))
	}
}

func decodeQ6K(y []float32, b []byte) {
	ql, qh, scales, d := b[:128], b[128:192], b[192:208], half(b[208:])
	for i := range y {
		part, quarter, l := i/128, i%128/32, i%32
		low := ql[64*part+32*(quarter%2)+l] >> (4 * (quarter / 2)) & 15
		high := qh[32*part+l] >> (2 * quarter) & 3
		q := int(low|high<<4) - 32
		y[i] = float32(d*float32(int8(scales[i/16]))) * float32(q)
	}
}

func decodeIQ4XS(y []float32, b []byte) {
	d, high, low, qs := half(b), le.Uint16(b[2:]), b[4:8], b[8:136]
	for i := range y {
		sub := i / 32
		scale := int(low[sub/2]>>(4*(sub%2))&15) | int(high>>(2*sub)&3)<<4
		q := qs[16*sub+i%16] >> (4 * (i % 32 / 16)) & 15
		y[i] = float32(d*float32(scale-32)) * float32(NonLinear4[q])
	}
}
