//go:build amd64 && !noasm

package cpu

import (
	"slices"

	"github.com/weft-mesh/weft/kernels/quant"
)

// rising lists kernels of one group of rows for 1, 2, 3 and so on tokens, the
// widest first.
func rising(kernels ...matmulKernel) (t tiles) {
	for i := len(kernels) - 1; i >= 0; i-- {
		t = append(t, tile{groups: 1, tokens: i + 1, run: kernels[i]})
	}
	return t
}

// doubling lists kernels of one group of rows for 1, 2, 4 and so on tokens, the
// widest first.
func doubling(kernels ...matmulKernel) (t tiles) {
	for i := len(kernels) - 1; i >= 0; i-- {
		t = append(t, tile{groups: 1, tokens: 1 << i, run: kernels[i]})
	}
	return t
}

// oneOrFour lists kernels of one group of rows, the wider first.
func oneOrFour(one, four matmulKernel) tiles {
	return tiles{{groups: 1, tokens: 4, run: four}, {groups: 1, tokens: 1, run: one}}
}

// float lists kernels of float weights, whose chains are long: two groups at
// once keep the processor busy.
func float(g1t1, g2t1, g1t4, g2t4 matmulKernel) tiles {
	return tiles{{groups: 2, tokens: 4, run: g2t4}, {groups: 1, tokens: 4, run: g1t4}, {groups: 2, tokens: 1, run: g2t1}, {groups: 1, tokens: 1, run: g1t1}}
}

// streamBytes is how long the quants of a group must be for several groups to be
// read at once: each stream costs a start. The shortest measured were 4.6 KB.
const streamBytes = 4 << 10

// avx512Streams are kernels of up to four tokens that read several groups at
// once: two, or of one token four where they fit in the registers.
func avx512Streams() map[quant.Type]tiles {
	streams := func(groups int, one, two, three, four matmulKernel) tiles {
		return tiles{
			{groups: 2, tokens: 4, bytes: streamBytes, run: four},
			{groups: 2, tokens: 3, bytes: streamBytes, run: three},
			{groups: 2, tokens: 2, bytes: streamBytes, run: two},
			{groups: groups, tokens: 1, bytes: streamBytes, run: one},
		}
	}
	return map[quant.Type]tiles{
		quant.Q4_0:   streams(4, mul_q4_0_g4t1_a8_avx512vnni, mul_q4_0_g2t2_a8_avx512vnni, mul_q4_0_g2t3_a8_avx512vnni, mul_q4_0_g2t4_a8_avx512vnni),
		quant.Q4_1:   streams(4, mul_q4_1_g4t1_a8_avx512vnni, mul_q4_1_g2t2_a8_avx512vnni, mul_q4_1_g2t3_a8_avx512vnni, mul_q4_1_g2t4_a8_avx512vnni),
		quant.Q5_0:   streams(2, mul_q5_0_g2t1_a8_avx512vnni, mul_q5_0_g2t2_a8_avx512vnni, mul_q5_0_g2t3_a8_avx512vnni, mul_q5_0_g2t4_a8_avx512vnni),
		quant.Q5_1:   streams(2, mul_q5_1_g2t1_a8_avx512vnni, mul_q5_1_g2t2_a8_avx512vnni, mul_q5_1_g2t3_a8_avx512vnni, mul_q5_1_g2t4_a8_avx512vnni),
		quant.Q8_0:   streams(4, mul_q8_0_g4t1_a8_avx512vnni, mul_q8_0_g2t2_a8_avx512vnni, mul_q8_0_g2t3_a8_avx512vnni, mul_q8_0_g2t4_a8_avx512vnni),
		quant.Q3_K:   streams(2, mul_q3_k_g2t1_a8_avx512vnni, mul_q3_k_g2t2_a8_avx512vnni, mul_q3_k_g2t3_a8_avx512vnni, mul_q3_k_g2t4_a8_avx512vnni),
		quant.Q4_K:   streams(4, mul_q4_k_g4t1_a8_avx512vnni, mul_q4_k_g2t2_a8_avx512vnni, mul_q4_k_g2t3_a8_avx512vnni, mul_q4_k_g2t4_a8_avx512vnni),
		quant.Q5_K:   streams(2, mul_q5_k_g2t1_a8_avx512vnni, mul_q5_k_g2t2_a8_avx512vnni, mul_q5_k_g2t3_a8_avx512vnni, mul_q5_k_g2t4_a8_avx512vnni),
		quant.Q6_K:   streams(2, mul_q6_k_g2t1_a8_avx512vnni, mul_q6_k_g2t2_a8_avx512vnni, mul_q6_k_g2t3_a8_avx512vnni, mul_q6_k_g2t4_a8_avx512vnni),
		quant.IQ4_NL: streams(4, mul_iq4_nl_g4t1_a8_avx512vnni, mul_iq4_nl_g2t2_a8_avx512vnni, mul_iq4_nl_g2t3_a8_avx512vnni, mul_iq4_nl_g2t4_a8_avx512vnni),
		quant.IQ4_XS: streams(4, mul_iq4_xs_g4t1_a8_avx512vnni, mul_iq4_xs_g2t2_a8_avx512vnni, mul_iq4_xs_g2t3_a8_avx512vnni, mul_iq4_xs_g2t4_a8_avx512vnni),
		quant.MXFP4:  streams(4, mul_mxfp4_g4t1_a8_avx512vnni, mul_mxfp4_g2t2_a8_avx512vnni, mul_mxfp4_g2t3_a8_avx512vnni, mul_mxfp4_g2t4_a8_avx512vnni),
	}
}

// avx512WideStreams are kernels of one token and 16-bit activations that read
// several groups at once.
func avx512WideStreams() map[quant.Type]tile {
	stream := func(groups int, run matmulKernel) tile {
		return tile{groups: groups, tokens: 1, bytes: streamBytes, run: run}
	}
	return map[quant.Type]tile{
		quant.Q4_0:   stream(4, mul_q4_0_g4t1_a16_avx512vnni),
		quant.Q4_1:   stream(4, mul_q4_1_g4t1_a16_avx512vnni),
		quant.Q5_0:   stream(2, mul_q5_0_g2t1_a16_avx512vnni),
		quant.Q5_1:   stream(2, mul_q5_1_g2t1_a16_avx512vnni),
		quant.Q8_0:   stream(4, mul_q8_0_g4t1_a16_avx512vnni),
		quant.Q3_K:   stream(2, mul_q3_k_g2t1_a16_avx512vnni),
		quant.Q4_K:   stream(4, mul_q4_k_g4t1_a16_avx512vnni),
		quant.Q5_K:   stream(2, mul_q5_k_g2t1_a16_avx512vnni),
		quant.Q6_K:   stream(2, mul_q6_k_g2t1_a16_avx512vnni),
		quant.IQ4_NL: stream(4, mul_iq4_nl_g4t1_a16_avx512vnni),
		quant.IQ4_XS: stream(4, mul_iq4_xs_g4t1_a16_avx512vnni),
		quant.MXFP4:  stream(4, mul_mxfp4_g4t1_a16_avx512vnni),
	}
}

// avx512Tiles are the kernels for 8-bit activations, and for float weights.
func avx512Tiles() map[quant.Type]tiles {
	t := map[quant.Type]tiles{
		quant.Q4_0: rising(mul_q4_0_g1t1_a8_avx512vnni, mul_q4_0_g1t2_a8_avx512vnni, mul_q4_0_g1t3_a8_avx512vnni, mul_q4_0_g1t4_a8_avx512vnni,
			mul_q4_0_g1t5_a8_avx512vnni, mul_q4_0_g1t6_a8_avx512vnni, mul_q4_0_g1t7_a8_avx512vnni, mul_q4_0_g1t8_a8_avx512vnni),
		quant.Q4_1: rising(mul_q4_1_g1t1_a8_avx512vnni, mul_q4_1_g1t2_a8_avx512vnni, mul_q4_1_g1t3_a8_avx512vnni, mul_q4_1_g1t4_a8_avx512vnni,
			mul_q4_1_g1t5_a8_avx512vnni, mul_q4_1_g1t6_a8_avx512vnni, mul_q4_1_g1t7_a8_avx512vnni, mul_q4_1_g1t8_a8_avx512vnni),
		quant.Q5_0: rising(mul_q5_0_g1t1_a8_avx512vnni, mul_q5_0_g1t2_a8_avx512vnni, mul_q5_0_g1t3_a8_avx512vnni, mul_q5_0_g1t4_a8_avx512vnni,
			mul_q5_0_g1t5_a8_avx512vnni, mul_q5_0_g1t6_a8_avx512vnni, mul_q5_0_g1t7_a8_avx512vnni, mul_q5_0_g1t8_a8_avx512vnni),
		quant.Q5_1: rising(mul_q5_1_g1t1_a8_avx512vnni, mul_q5_1_g1t2_a8_avx512vnni, mul_q5_1_g1t3_a8_avx512vnni, mul_q5_1_g1t4_a8_avx512vnni,
			mul_q5_1_g1t5_a8_avx512vnni, mul_q5_1_g1t6_a8_avx512vnni, mul_q5_1_g1t7_a8_avx512vnni, mul_q5_1_g1t8_a8_avx512vnni),
		quant.Q8_0: rising(mul_q8_0_g1t1_a8_avx512vnni, mul_q8_0_g1t2_a8_avx512vnni, mul_q8_0_g1t3_a8_avx512vnni, mul_q8_0_g1t4_a8_avx512vnni,
			mul_q8_0_g1t5_a8_avx512vnni, mul_q8_0_g1t6_a8_avx512vnni, mul_q8_0_g1t7_a8_avx512vnni, mul_q8_0_g1t8_a8_avx512vnni),
		quant.Q2_K: rising(mul_q2_k_g1t1_a8_avx512vnni, mul_q2_k_g1t2_a8_avx512vnni, mul_q2_k_g1t3_a8_avx512vnni, mul_q2_k_g1t4_a8_avx512vnni,
			mul_q2_k_g1t5_a8_avx512vnni, mul_q2_k_g1t6_a8_avx512vnni, mul_q2_k_g1t7_a8_avx512vnni, mul_q2_k_g1t8_a8_avx512vnni),
		quant.Q3_K: rising(mul_q3_k_g1t1_a8_avx512vnni, mul_q3_k_g1t2_a8_avx512vnni, mul_q3_k_g1t3_a8_avx512vnni, mul_q3_k_g1t4_a8_avx512vnni,
			mul_q3_k_g1t5_a8_avx512vnni, mul_q3_k_g1t6_a8_avx512vnni, mul_q3_k_g1t7_a8_avx512vnni, mul_q3_k_g1t8_a8_avx512vnni),
		quant.Q4_K: rising(mul_q4_k_g1t1_a8_avx512vnni, mul_q4_k_g1t2_a8_avx512vnni, mul_q4_k_g1t3_a8_avx512vnni, mul_q4_k_g1t4_a8_avx512vnni,
			mul_q4_k_g1t5_a8_avx512vnni, mul_q4_k_g1t6_a8_avx512vnni, mul_q4_k_g1t7_a8_avx512vnni, mul_q4_k_g1t8_a8_avx512vnni),
		quant.Q5_K: rising(mul_q5_k_g1t1_a8_avx512vnni, mul_q5_k_g1t2_a8_avx512vnni, mul_q5_k_g1t3_a8_avx512vnni, mul_q5_k_g1t4_a8_avx512vnni,
			mul_q5_k_g1t5_a8_avx512vnni, mul_q5_k_g1t6_a8_avx512vnni, mul_q5_k_g1t7_a8_avx512vnni, mul_q5_k_g1t8_a8_avx512vnni),
		quant.Q6_K: rising(mul_q6_k_g1t1_a8_avx512vnni, mul_q6_k_g1t2_a8_avx512vnni, mul_q6_k_g1t3_a8_avx512vnni, mul_q6_k_g1t4_a8_avx512vnni,
			mul_q6_k_g1t5_a8_avx512vnni, mul_q6_k_g1t6_a8_avx512vnni, mul_q6_k_g1t7_a8_avx512vnni, mul_q6_k_g1t8_a8_avx512vnni),
		quant.IQ4_NL: rising(mul_iq4_nl_g1t1_a8_avx512vnni, mul_iq4_nl_g1t2_a8_avx512vnni, mul_iq4_nl_g1t3_a8_avx512vnni, mul_iq4_nl_g1t4_a8_avx512vnni,
			mul_iq4_nl_g1t5_a8_avx512vnni, mul_iq4_nl_g1t6_a8_avx512vnni, mul_iq4_nl_g1t7_a8_avx512vnni, mul_iq4_nl_g1t8_a8_avx512vnni),
		quant.IQ4_XS: rising(mul_iq4_xs_g1t1_a8_avx512vnni, mul_iq4_xs_g1t2_a8_avx512vnni, mul_iq4_xs_g1t3_a8_avx512vnni, mul_iq4_xs_g1t4_a8_avx512vnni,
			mul_iq4_xs_g1t5_a8_avx512vnni, mul_iq4_xs_g1t6_a8_avx512vnni, mul_iq4_xs_g1t7_a8_avx512vnni, mul_iq4_xs_g1t8_a8_avx512vnni),
		quant.MXFP4: rising(mul_mxfp4_g1t1_a8_avx512vnni, mul_mxfp4_g1t2_a8_avx512vnni, mul_mxfp4_g1t3_a8_avx512vnni, mul_mxfp4_g1t4_a8_avx512vnni,
			mul_mxfp4_g1t5_a8_avx512vnni, mul_mxfp4_g1t6_a8_avx512vnni, mul_mxfp4_g1t7_a8_avx512vnni, mul_mxfp4_g1t8_a8_avx512vnni),
		quant.F32:  float(mul_f32_g1t1_avx512vnni, mul_f32_g2t1_avx512vnni, mul_f32_g1t4_avx512vnni, mul_f32_g2t4_avx512vnni),
		quant.F16:  float(mul_f16_g1t1_avx512vnni, mul_f16_g2t1_avx512vnni, mul_f16_g1t4_avx512vnni, mul_f16_g2t4_avx512vnni),
		quant.BF16: float(mul_bf16_g1t1_avx512vnni, mul_bf16_g2t1_avx512vnni, mul_bf16_g1t4_avx512vnni, mul_bf16_g2t4_avx512vnni),
	}
	// Weights of a few tokens come from memory faster as several streams than as
	// one.
	for kind, streams := range avx512Streams() {
		t[kind] = append(streams, t[kind]...)
		slices.SortStableFunc(t[kind], func(a, b tile) int { return b.tokens - a.tokens })
	}
	// Of 8-bit quants, which need no unpacking, two groups that share
	// activations are faster once the weights come from a cache.
	t[quant.Q8_0] = append(tiles{{groups: 2, tokens: 4, least: 17, run: mul_q8_0_g2t4_a8_avx512vnni}}, t[quant.Q8_0]...)
	return t
}

// avx512WideTiles are the kernels for 16-bit activations.
func avx512WideTiles() map[quant.Type]tiles {
	t := map[quant.Type]tiles{
		quant.Q4_0:   doubling(mul_q4_0_g1t1_a16_avx512vnni, mul_q4_0_g1t2_a16_avx512vnni, mul_q4_0_g1t4_a16_avx512vnni, mul_q4_0_g1t8_a16_avx512vnni),
		quant.Q4_1:   doubling(mul_q4_1_g1t1_a16_avx512vnni, mul_q4_1_g1t2_a16_avx512vnni, mul_q4_1_g1t4_a16_avx512vnni, mul_q4_1_g1t8_a16_avx512vnni),
		quant.Q5_0:   doubling(mul_q5_0_g1t1_a16_avx512vnni, mul_q5_0_g1t2_a16_avx512vnni, mul_q5_0_g1t4_a16_avx512vnni, mul_q5_0_g1t8_a16_avx512vnni),
		quant.Q5_1:   doubling(mul_q5_1_g1t1_a16_avx512vnni, mul_q5_1_g1t2_a16_avx512vnni, mul_q5_1_g1t4_a16_avx512vnni, mul_q5_1_g1t8_a16_avx512vnni),
		quant.Q8_0:   doubling(mul_q8_0_g1t1_a16_avx512vnni, mul_q8_0_g1t2_a16_avx512vnni, mul_q8_0_g1t4_a16_avx512vnni, mul_q8_0_g1t8_a16_avx512vnni),
		quant.Q2_K:   doubling(mul_q2_k_g1t1_a16_avx512vnni, mul_q2_k_g1t2_a16_avx512vnni, mul_q2_k_g1t4_a16_avx512vnni, mul_q2_k_g1t8_a16_avx512vnni),
		quant.Q3_K:   doubling(mul_q3_k_g1t1_a16_avx512vnni, mul_q3_k_g1t2_a16_avx512vnni, mul_q3_k_g1t4_a16_avx512vnni, mul_q3_k_g1t8_a16_avx512vnni),
		quant.Q4_K:   doubling(mul_q4_k_g1t1_a16_avx512vnni, mul_q4_k_g1t2_a16_avx512vnni, mul_q4_k_g1t4_a16_avx512vnni, mul_q4_k_g1t8_a16_avx512vnni),
		quant.Q5_K:   doubling(mul_q5_k_g1t1_a16_avx512vnni, mul_q5_k_g1t2_a16_avx512vnni, mul_q5_k_g1t4_a16_avx512vnni, mul_q5_k_g1t8_a16_avx512vnni),
		quant.Q6_K:   doubling(mul_q6_k_g1t1_a16_avx512vnni, mul_q6_k_g1t2_a16_avx512vnni, mul_q6_k_g1t4_a16_avx512vnni, mul_q6_k_g1t8_a16_avx512vnni),
		quant.IQ4_NL: doubling(mul_iq4_nl_g1t1_a16_avx512vnni, mul_iq4_nl_g1t2_a16_avx512vnni, mul_iq4_nl_g1t4_a16_avx512vnni, mul_iq4_nl_g1t8_a16_avx512vnni),
		quant.IQ4_XS: doubling(mul_iq4_xs_g1t1_a16_avx512vnni, mul_iq4_xs_g1t2_a16_avx512vnni, mul_iq4_xs_g1t4_a16_avx512vnni, mul_iq4_xs_g1t8_a16_avx512vnni),
		quant.MXFP4:  doubling(mul_mxfp4_g1t1_a16_avx512vnni, mul_mxfp4_g1t2_a16_avx512vnni, mul_mxfp4_g1t4_a16_avx512vnni, mul_mxfp4_g1t8_a16_avx512vnni),
	}
	for kind, k := range avx512WideStreams() {
		t[kind] = slices.Insert(t[kind], len(t[kind])-1, k)
	}
	return t
}

// avx2Tiles are the kernels for 8-bit activations, and for float weights.
func avx2Tiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   doubling(mul_q4_0_g1t1_a8_avx2, mul_q4_0_g1t2_a8_avx2, mul_q4_0_g1t4_a8_avx2),
		quant.Q4_1:   doubling(mul_q4_1_g1t1_a8_avx2, mul_q4_1_g1t2_a8_avx2, mul_q4_1_g1t4_a8_avx2),
		quant.Q5_0:   doubling(mul_q5_0_g1t1_a8_avx2, mul_q5_0_g1t2_a8_avx2, mul_q5_0_g1t4_a8_avx2),
		quant.Q5_1:   doubling(mul_q5_1_g1t1_a8_avx2, mul_q5_1_g1t2_a8_avx2, mul_q5_1_g1t4_a8_avx2),
		quant.Q8_0:   doubling(mul_q8_0_g1t1_a8_avx2, mul_q8_0_g1t2_a8_avx2, mul_q8_0_g1t4_a8_avx2),
		quant.Q2_K:   doubling(mul_q2_k_g1t1_a8_avx2, mul_q2_k_g1t2_a8_avx2, mul_q2_k_g1t4_a8_avx2),
		quant.Q3_K:   doubling(mul_q3_k_g1t1_a8_avx2, mul_q3_k_g1t2_a8_avx2, mul_q3_k_g1t4_a8_avx2),
		quant.Q4_K:   doubling(mul_q4_k_g1t1_a8_avx2, mul_q4_k_g1t2_a8_avx2, mul_q4_k_g1t4_a8_avx2),
		quant.Q5_K:   doubling(mul_q5_k_g1t1_a8_avx2, mul_q5_k_g1t2_a8_avx2, mul_q5_k_g1t4_a8_avx2),
		quant.Q6_K:   doubling(mul_q6_k_g1t1_a8_avx2, mul_q6_k_g1t2_a8_avx2, mul_q6_k_g1t4_a8_avx2),
		quant.IQ4_NL: doubling(mul_iq4_nl_g1t1_a8_avx2, mul_iq4_nl_g1t2_a8_avx2, mul_iq4_nl_g1t4_a8_avx2),
		quant.IQ4_XS: doubling(mul_iq4_xs_g1t1_a8_avx2, mul_iq4_xs_g1t2_a8_avx2, mul_iq4_xs_g1t4_a8_avx2),
		quant.MXFP4:  doubling(mul_mxfp4_g1t1_a8_avx2, mul_mxfp4_g1t2_a8_avx2, mul_mxfp4_g1t4_a8_avx2),
		quant.F32:    oneOrFour(mul_f32_g1t1_avx2, mul_f32_g1t4_avx2),
		quant.F16:    oneOrFour(mul_f16_g1t1_avx2, mul_f16_g1t4_avx2),
		quant.BF16:   oneOrFour(mul_bf16_g1t1_avx2, mul_bf16_g1t4_avx2),
	}
}

// avx2WideTiles are the kernels for 16-bit activations.
func avx2WideTiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   oneOrFour(mul_q4_0_g1t1_a16_avx2, mul_q4_0_g1t4_a16_avx2),
		quant.Q4_1:   oneOrFour(mul_q4_1_g1t1_a16_avx2, mul_q4_1_g1t4_a16_avx2),
		quant.Q5_0:   oneOrFour(mul_q5_0_g1t1_a16_avx2, mul_q5_0_g1t4_a16_avx2),
		quant.Q5_1:   oneOrFour(mul_q5_1_g1t1_a16_avx2, mul_q5_1_g1t4_a16_avx2),
		quant.Q8_0:   oneOrFour(mul_q8_0_g1t1_a16_avx2, mul_q8_0_g1t4_a16_avx2),
		quant.Q2_K:   oneOrFour(mul_q2_k_g1t1_a16_avx2, mul_q2_k_g1t4_a16_avx2),
		quant.Q3_K:   oneOrFour(mul_q3_k_g1t1_a16_avx2, mul_q3_k_g1t4_a16_avx2),
		quant.Q4_K:   oneOrFour(mul_q4_k_g1t1_a16_avx2, mul_q4_k_g1t4_a16_avx2),
		quant.Q5_K:   oneOrFour(mul_q5_k_g1t1_a16_avx2, mul_q5_k_g1t4_a16_avx2),
		quant.Q6_K:   oneOrFour(mul_q6_k_g1t1_a16_avx2, mul_q6_k_g1t4_a16_avx2),
		quant.IQ4_NL: oneOrFour(mul_iq4_nl_g1t1_a16_avx2, mul_iq4_nl_g1t4_a16_avx2),
		quant.IQ4_XS: oneOrFour(mul_iq4_xs_g1t1_a16_avx2, mul_iq4_xs_g1t4_a16_avx2),
		quant.MXFP4:  oneOrFour(mul_mxfp4_g1t1_a16_avx2, mul_mxfp4_g1t4_a16_avx2),
	}
}

// vnniTiles are the kernels for 8-bit activations; those of float weights are
// avx2Tiles'.
func vnniTiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   doubling(mul_q4_0_g1t1_a8_avxvnni, mul_q4_0_g1t2_a8_avxvnni, mul_q4_0_g1t4_a8_avxvnni),
		quant.Q4_1:   doubling(mul_q4_1_g1t1_a8_avxvnni, mul_q4_1_g1t2_a8_avxvnni, mul_q4_1_g1t4_a8_avxvnni),
		quant.Q5_0:   doubling(mul_q5_0_g1t1_a8_avxvnni, mul_q5_0_g1t2_a8_avxvnni, mul_q5_0_g1t4_a8_avxvnni),
		quant.Q5_1:   doubling(mul_q5_1_g1t1_a8_avxvnni, mul_q5_1_g1t2_a8_avxvnni, mul_q5_1_g1t4_a8_avxvnni),
		quant.Q8_0:   doubling(mul_q8_0_g1t1_a8_avxvnni, mul_q8_0_g1t2_a8_avxvnni, mul_q8_0_g1t4_a8_avxvnni),
		quant.Q2_K:   doubling(mul_q2_k_g1t1_a8_avxvnni, mul_q2_k_g1t2_a8_avxvnni, mul_q2_k_g1t4_a8_avxvnni),
		quant.Q3_K:   doubling(mul_q3_k_g1t1_a8_avxvnni, mul_q3_k_g1t2_a8_avxvnni, mul_q3_k_g1t4_a8_avxvnni),
		quant.Q4_K:   doubling(mul_q4_k_g1t1_a8_avxvnni, mul_q4_k_g1t2_a8_avxvnni, mul_q4_k_g1t4_a8_avxvnni),
		quant.Q5_K:   doubling(mul_q5_k_g1t1_a8_avxvnni, mul_q5_k_g1t2_a8_avxvnni, mul_q5_k_g1t4_a8_avxvnni),
		quant.Q6_K:   doubling(mul_q6_k_g1t1_a8_avxvnni, mul_q6_k_g1t2_a8_avxvnni, mul_q6_k_g1t4_a8_avxvnni),
		quant.IQ4_NL: doubling(mul_iq4_nl_g1t1_a8_avxvnni, mul_iq4_nl_g1t2_a8_avxvnni, mul_iq4_nl_g1t4_a8_avxvnni),
		quant.IQ4_XS: doubling(mul_iq4_xs_g1t1_a8_avxvnni, mul_iq4_xs_g1t2_a8_avxvnni, mul_iq4_xs_g1t4_a8_avxvnni),
		quant.MXFP4:  doubling(mul_mxfp4_g1t1_a8_avxvnni, mul_mxfp4_g1t2_a8_avxvnni, mul_mxfp4_g1t4_a8_avxvnni),
	}
}

// vnniWideTiles are the kernels for 16-bit activations.
func vnniWideTiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   oneOrFour(mul_q4_0_g1t1_a16_avxvnni, mul_q4_0_g1t4_a16_avxvnni),
		quant.Q4_1:   oneOrFour(mul_q4_1_g1t1_a16_avxvnni, mul_q4_1_g1t4_a16_avxvnni),
		quant.Q5_0:   oneOrFour(mul_q5_0_g1t1_a16_avxvnni, mul_q5_0_g1t4_a16_avxvnni),
		quant.Q5_1:   oneOrFour(mul_q5_1_g1t1_a16_avxvnni, mul_q5_1_g1t4_a16_avxvnni),
		quant.Q8_0:   oneOrFour(mul_q8_0_g1t1_a16_avxvnni, mul_q8_0_g1t4_a16_avxvnni),
		quant.Q2_K:   oneOrFour(mul_q2_k_g1t1_a16_avxvnni, mul_q2_k_g1t4_a16_avxvnni),
		quant.Q3_K:   oneOrFour(mul_q3_k_g1t1_a16_avxvnni, mul_q3_k_g1t4_a16_avxvnni),
		quant.Q4_K:   oneOrFour(mul_q4_k_g1t1_a16_avxvnni, mul_q4_k_g1t4_a16_avxvnni),
		quant.Q5_K:   oneOrFour(mul_q5_k_g1t1_a16_avxvnni, mul_q5_k_g1t4_a16_avxvnni),
		quant.Q6_K:   oneOrFour(mul_q6_k_g1t1_a16_avxvnni, mul_q6_k_g1t4_a16_avxvnni),
		quant.IQ4_NL: oneOrFour(mul_iq4_nl_g1t1_a16_avxvnni, mul_iq4_nl_g1t4_a16_avxvnni),
		quant.IQ4_XS: oneOrFour(mul_iq4_xs_g1t1_a16_avxvnni, mul_iq4_xs_g1t4_a16_avxvnni),
		quant.MXFP4:  oneOrFour(mul_mxfp4_g1t1_a16_avxvnni, mul_mxfp4_g1t4_a16_avxvnni),
	}
}
