//go:build arm64 && !noasm

package cpu

import (
	"golang.org/x/sys/cpu"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// machineSets lists the kernel sets that processor and operating system
// support, the best first.
func machineSets() []*kernelSet {
	var sets []*kernelSet
	if cpu.ARM64.HasASIMD && cpu.ARM64.HasASIMDDP {
		sets = append(sets, neonDotSet())
	}
	if cpu.ARM64.HasASIMD {
		sets = append(sets, neonSet())
	}
	return sets
}

// relax passes a moment of a spin loop.
func relax() { pause() }

// neonDotSet differs from neonSet in the products of quantised weights.
func neonDotSet() *kernelSet {
	s := neonSet()
	s.tier = NEONDot
	s.matmul = matmulTable{neonDotTiles(), neonDotWideTiles()}
	addFloatTiles(s)
	return s
}

func neonSet() *kernelSet {
	s := &kernelSet{
		tier:         NEON,
		matmul:       matmulTable{neonTiles(), neonWideTiles()},
		quantise:     quantise_a8_neon,
		siluMul:      siluMul_neon,
		add:          add_neon,
		floor:        floor_neon,
		squares:      squares_neon,
		normMul:      normMul_neon,
		toHalf:       toHalf_neon,
		fold:         fold_neon,
		foldScales:   foldScales_neon,
		divide:       divide_neon,
		rotateHalves: rotateHalves_neon,
		rotatePairs:  rotatePairs_neon,
		soften:       soften_neon,
		attn: [2]attnKernels{
			kernels.KVF16: {scores_f16_neon, weigh_f16_neon},
			kernels.KVF32: {scores_f32_neon, weigh_f32_neon},
		},
	}
	addFloatTiles(s)
	return s
}

// addFloatTiles adds the products of float weights, which need no more than
// the baseline.
func addFloatTiles(s *kernelSet) {
	t := s.matmul[0]
	t[quant.F32] = tiles{{1, 4, mul_f32_g1t4_neon}, {1, 1, mul_f32_g1t1_neon}}
	t[quant.F16] = tiles{{1, 4, mul_f16_g1t4_neon}, {1, 1, mul_f16_g1t1_neon}}
	t[quant.BF16] = tiles{{1, 4, mul_bf16_g1t4_neon}, {1, 1, mul_bf16_g1t1_neon}}
}

// neonTiles are the kernels for 8-bit activations.
func neonTiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   {{1, 4, mul_q4_0_g1t4_a8_neon}, {1, 1, mul_q4_0_g1t1_a8_neon}},
		quant.Q4_1:   {{1, 4, mul_q4_1_g1t4_a8_neon}, {1, 1, mul_q4_1_g1t1_a8_neon}},
		quant.Q5_0:   {{1, 4, mul_q5_0_g1t4_a8_neon}, {1, 1, mul_q5_0_g1t1_a8_neon}},
		quant.Q5_1:   {{1, 4, mul_q5_1_g1t4_a8_neon}, {1, 1, mul_q5_1_g1t1_a8_neon}},
		quant.Q8_0:   {{1, 4, mul_q8_0_g1t4_a8_neon}, {1, 1, mul_q8_0_g1t1_a8_neon}},
		quant.Q2_K:   {{1, 4, mul_q2_k_g1t4_a8_neon}, {1, 1, mul_q2_k_g1t1_a8_neon}},
		quant.Q3_K:   {{1, 4, mul_q3_k_g1t4_a8_neon}, {1, 1, mul_q3_k_g1t1_a8_neon}},
		quant.Q4_K:   {{1, 4, mul_q4_k_g1t4_a8_neon}, {1, 1, mul_q4_k_g1t1_a8_neon}},
		quant.Q5_K:   {{1, 4, mul_q5_k_g1t4_a8_neon}, {1, 1, mul_q5_k_g1t1_a8_neon}},
		quant.Q6_K:   {{1, 4, mul_q6_k_g1t4_a8_neon}, {1, 1, mul_q6_k_g1t1_a8_neon}},
		quant.IQ4_NL: {{1, 4, mul_iq4_nl_g1t4_a8_neon}, {1, 1, mul_iq4_nl_g1t1_a8_neon}},
		quant.IQ4_XS: {{1, 4, mul_iq4_xs_g1t4_a8_neon}, {1, 1, mul_iq4_xs_g1t1_a8_neon}},
		quant.MXFP4:  {{1, 4, mul_mxfp4_g1t4_a8_neon}, {1, 1, mul_mxfp4_g1t1_a8_neon}},
	}
}

// neonWideTiles are the kernels for 16-bit activations.
func neonWideTiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   {{1, 4, mul_q4_0_g1t4_a16_neon}, {1, 1, mul_q4_0_g1t1_a16_neon}},
		quant.Q4_1:   {{1, 4, mul_q4_1_g1t4_a16_neon}, {1, 1, mul_q4_1_g1t1_a16_neon}},
		quant.Q5_0:   {{1, 4, mul_q5_0_g1t4_a16_neon}, {1, 1, mul_q5_0_g1t1_a16_neon}},
		quant.Q5_1:   {{1, 4, mul_q5_1_g1t4_a16_neon}, {1, 1, mul_q5_1_g1t1_a16_neon}},
		quant.Q8_0:   {{1, 4, mul_q8_0_g1t4_a16_neon}, {1, 1, mul_q8_0_g1t1_a16_neon}},
		quant.Q2_K:   {{1, 4, mul_q2_k_g1t4_a16_neon}, {1, 1, mul_q2_k_g1t1_a16_neon}},
		quant.Q3_K:   {{1, 4, mul_q3_k_g1t4_a16_neon}, {1, 1, mul_q3_k_g1t1_a16_neon}},
		quant.Q4_K:   {{1, 4, mul_q4_k_g1t4_a16_neon}, {1, 1, mul_q4_k_g1t1_a16_neon}},
		quant.Q5_K:   {{1, 4, mul_q5_k_g1t4_a16_neon}, {1, 1, mul_q5_k_g1t1_a16_neon}},
		quant.Q6_K:   {{1, 4, mul_q6_k_g1t4_a16_neon}, {1, 1, mul_q6_k_g1t1_a16_neon}},
		quant.IQ4_NL: {{1, 4, mul_iq4_nl_g1t4_a16_neon}, {1, 1, mul_iq4_nl_g1t1_a16_neon}},
		quant.IQ4_XS: {{1, 4, mul_iq4_xs_g1t4_a16_neon}, {1, 1, mul_iq4_xs_g1t1_a16_neon}},
		quant.MXFP4:  {{1, 4, mul_mxfp4_g1t4_a16_neon}, {1, 1, mul_mxfp4_g1t1_a16_neon}},
	}
}

// neonDotTiles are the kernels for 8-bit activations.
func neonDotTiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   {{1, 4, mul_q4_0_g1t4_a8_neondot}, {1, 2, mul_q4_0_g1t2_a8_neondot}, {1, 1, mul_q4_0_g1t1_a8_neondot}},
		quant.Q4_1:   {{1, 4, mul_q4_1_g1t4_a8_neondot}, {1, 2, mul_q4_1_g1t2_a8_neondot}, {1, 1, mul_q4_1_g1t1_a8_neondot}},
		quant.Q5_0:   {{1, 4, mul_q5_0_g1t4_a8_neondot}, {1, 2, mul_q5_0_g1t2_a8_neondot}, {1, 1, mul_q5_0_g1t1_a8_neondot}},
		quant.Q5_1:   {{1, 4, mul_q5_1_g1t4_a8_neondot}, {1, 2, mul_q5_1_g1t2_a8_neondot}, {1, 1, mul_q5_1_g1t1_a8_neondot}},
		quant.Q8_0:   {{1, 4, mul_q8_0_g1t4_a8_neondot}, {1, 2, mul_q8_0_g1t2_a8_neondot}, {1, 1, mul_q8_0_g1t1_a8_neondot}},
		quant.Q2_K:   {{1, 4, mul_q2_k_g1t4_a8_neondot}, {1, 2, mul_q2_k_g1t2_a8_neondot}, {1, 1, mul_q2_k_g1t1_a8_neondot}},
		quant.Q3_K:   {{1, 4, mul_q3_k_g1t4_a8_neondot}, {1, 2, mul_q3_k_g1t2_a8_neondot}, {1, 1, mul_q3_k_g1t1_a8_neondot}},
		quant.Q4_K:   {{1, 4, mul_q4_k_g1t4_a8_neondot}, {1, 2, mul_q4_k_g1t2_a8_neondot}, {1, 1, mul_q4_k_g1t1_a8_neondot}},
		quant.Q5_K:   {{1, 4, mul_q5_k_g1t4_a8_neondot}, {1, 2, mul_q5_k_g1t2_a8_neondot}, {1, 1, mul_q5_k_g1t1_a8_neondot}},
		quant.Q6_K:   {{1, 4, mul_q6_k_g1t4_a8_neondot}, {1, 2, mul_q6_k_g1t2_a8_neondot}, {1, 1, mul_q6_k_g1t1_a8_neondot}},
		quant.IQ4_NL: {{1, 4, mul_iq4_nl_g1t4_a8_neondot}, {1, 2, mul_iq4_nl_g1t2_a8_neondot}, {1, 1, mul_iq4_nl_g1t1_a8_neondot}},
		quant.IQ4_XS: {{1, 4, mul_iq4_xs_g1t4_a8_neondot}, {1, 2, mul_iq4_xs_g1t2_a8_neondot}, {1, 1, mul_iq4_xs_g1t1_a8_neondot}},
		quant.MXFP4:  {{1, 4, mul_mxfp4_g1t4_a8_neondot}, {1, 2, mul_mxfp4_g1t2_a8_neondot}, {1, 1, mul_mxfp4_g1t1_a8_neondot}},
	}
}

// neonDotWideTiles are the kernels for 16-bit activations.
func neonDotWideTiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   {{1, 4, mul_q4_0_g1t4_a16_neondot}, {1, 1, mul_q4_0_g1t1_a16_neondot}},
		quant.Q4_1:   {{1, 4, mul_q4_1_g1t4_a16_neondot}, {1, 1, mul_q4_1_g1t1_a16_neondot}},
		quant.Q5_0:   {{1, 4, mul_q5_0_g1t4_a16_neondot}, {1, 1, mul_q5_0_g1t1_a16_neondot}},
		quant.Q5_1:   {{1, 4, mul_q5_1_g1t4_a16_neondot}, {1, 1, mul_q5_1_g1t1_a16_neondot}},
		quant.Q8_0:   {{1, 4, mul_q8_0_g1t4_a16_neondot}, {1, 1, mul_q8_0_g1t1_a16_neondot}},
		quant.Q2_K:   {{1, 4, mul_q2_k_g1t4_a16_neondot}, {1, 1, mul_q2_k_g1t1_a16_neondot}},
		quant.Q3_K:   {{1, 4, mul_q3_k_g1t4_a16_neondot}, {1, 1, mul_q3_k_g1t1_a16_neondot}},
		quant.Q4_K:   {{1, 4, mul_q4_k_g1t4_a16_neondot}, {1, 1, mul_q4_k_g1t1_a16_neondot}},
		quant.Q5_K:   {{1, 4, mul_q5_k_g1t4_a16_neondot}, {1, 1, mul_q5_k_g1t1_a16_neondot}},
		quant.Q6_K:   {{1, 4, mul_q6_k_g1t4_a16_neondot}, {1, 1, mul_q6_k_g1t1_a16_neondot}},
		quant.IQ4_NL: {{1, 4, mul_iq4_nl_g1t4_a16_neondot}, {1, 1, mul_iq4_nl_g1t1_a16_neondot}},
		quant.IQ4_XS: {{1, 4, mul_iq4_xs_g1t4_a16_neondot}, {1, 1, mul_iq4_xs_g1t1_a16_neondot}},
		quant.MXFP4:  {{1, 4, mul_mxfp4_g1t4_a16_neondot}, {1, 1, mul_mxfp4_g1t1_a16_neondot}},
	}
}
