//go:build arm64 && !noasm

package cpu

import (
	"golang.org/x/sys/cpu"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// machineSets lists the kernel sets that processor and operating system
// support, the best first.
func machineSets(func(tier string) bool) []*kernelSet {
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
		notFinite:    notFinite_neon,
		maxima:       maxima_neon,
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
	t[quant.F32] = tiles{{groups: 1, tokens: 4, run: mul_f32_g1t4_neon}, {groups: 1, tokens: 1, run: mul_f32_g1t1_neon}}
	t[quant.F16] = tiles{{groups: 1, tokens: 4, run: mul_f16_g1t4_neon}, {groups: 1, tokens: 1, run: mul_f16_g1t1_neon}}
	t[quant.BF16] = tiles{{groups: 1, tokens: 4, run: mul_bf16_g1t4_neon}, {groups: 1, tokens: 1, run: mul_bf16_g1t1_neon}}
}

// neonTiles are the kernels for 8-bit activations.
func neonTiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   {{groups: 1, tokens: 4, run: mul_q4_0_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_q4_0_g1t1_a8_neon}},
		quant.Q4_1:   {{groups: 1, tokens: 4, run: mul_q4_1_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_q4_1_g1t1_a8_neon}},
		quant.Q5_0:   {{groups: 1, tokens: 4, run: mul_q5_0_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_q5_0_g1t1_a8_neon}},
		quant.Q5_1:   {{groups: 1, tokens: 4, run: mul_q5_1_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_q5_1_g1t1_a8_neon}},
		quant.Q8_0:   {{groups: 1, tokens: 4, run: mul_q8_0_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_q8_0_g1t1_a8_neon}},
		quant.Q2_K:   {{groups: 1, tokens: 4, run: mul_q2_k_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_q2_k_g1t1_a8_neon}},
		quant.Q3_K:   {{groups: 1, tokens: 4, run: mul_q3_k_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_q3_k_g1t1_a8_neon}},
		quant.Q4_K:   {{groups: 1, tokens: 4, run: mul_q4_k_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_q4_k_g1t1_a8_neon}},
		quant.Q5_K:   {{groups: 1, tokens: 4, run: mul_q5_k_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_q5_k_g1t1_a8_neon}},
		quant.Q6_K:   {{groups: 1, tokens: 4, run: mul_q6_k_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_q6_k_g1t1_a8_neon}},
		quant.IQ4_NL: {{groups: 1, tokens: 4, run: mul_iq4_nl_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_iq4_nl_g1t1_a8_neon}},
		quant.IQ4_XS: {{groups: 1, tokens: 4, run: mul_iq4_xs_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_iq4_xs_g1t1_a8_neon}},
		quant.MXFP4:  {{groups: 1, tokens: 4, run: mul_mxfp4_g1t4_a8_neon}, {groups: 1, tokens: 1, run: mul_mxfp4_g1t1_a8_neon}},
	}
}

// neonWideTiles are the kernels for 16-bit activations.
func neonWideTiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   {{groups: 1, tokens: 4, run: mul_q4_0_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_q4_0_g1t1_a16_neon}},
		quant.Q4_1:   {{groups: 1, tokens: 4, run: mul_q4_1_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_q4_1_g1t1_a16_neon}},
		quant.Q5_0:   {{groups: 1, tokens: 4, run: mul_q5_0_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_q5_0_g1t1_a16_neon}},
		quant.Q5_1:   {{groups: 1, tokens: 4, run: mul_q5_1_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_q5_1_g1t1_a16_neon}},
		quant.Q8_0:   {{groups: 1, tokens: 4, run: mul_q8_0_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_q8_0_g1t1_a16_neon}},
		quant.Q2_K:   {{groups: 1, tokens: 4, run: mul_q2_k_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_q2_k_g1t1_a16_neon}},
		quant.Q3_K:   {{groups: 1, tokens: 4, run: mul_q3_k_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_q3_k_g1t1_a16_neon}},
		quant.Q4_K:   {{groups: 1, tokens: 4, run: mul_q4_k_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_q4_k_g1t1_a16_neon}},
		quant.Q5_K:   {{groups: 1, tokens: 4, run: mul_q5_k_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_q5_k_g1t1_a16_neon}},
		quant.Q6_K:   {{groups: 1, tokens: 4, run: mul_q6_k_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_q6_k_g1t1_a16_neon}},
		quant.IQ4_NL: {{groups: 1, tokens: 4, run: mul_iq4_nl_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_iq4_nl_g1t1_a16_neon}},
		quant.IQ4_XS: {{groups: 1, tokens: 4, run: mul_iq4_xs_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_iq4_xs_g1t1_a16_neon}},
		quant.MXFP4:  {{groups: 1, tokens: 4, run: mul_mxfp4_g1t4_a16_neon}, {groups: 1, tokens: 1, run: mul_mxfp4_g1t1_a16_neon}},
	}
}

// neonDotTiles are the kernels for 8-bit activations.
func neonDotTiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   {{groups: 1, tokens: 4, run: mul_q4_0_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_q4_0_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_q4_0_g1t1_a8_neondot}},
		quant.Q4_1:   {{groups: 1, tokens: 4, run: mul_q4_1_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_q4_1_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_q4_1_g1t1_a8_neondot}},
		quant.Q5_0:   {{groups: 1, tokens: 4, run: mul_q5_0_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_q5_0_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_q5_0_g1t1_a8_neondot}},
		quant.Q5_1:   {{groups: 1, tokens: 4, run: mul_q5_1_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_q5_1_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_q5_1_g1t1_a8_neondot}},
		quant.Q8_0:   {{groups: 1, tokens: 4, run: mul_q8_0_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_q8_0_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_q8_0_g1t1_a8_neondot}},
		quant.Q2_K:   {{groups: 1, tokens: 4, run: mul_q2_k_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_q2_k_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_q2_k_g1t1_a8_neondot}},
		quant.Q3_K:   {{groups: 1, tokens: 4, run: mul_q3_k_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_q3_k_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_q3_k_g1t1_a8_neondot}},
		quant.Q4_K:   {{groups: 1, tokens: 4, run: mul_q4_k_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_q4_k_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_q4_k_g1t1_a8_neondot}},
		quant.Q5_K:   {{groups: 1, tokens: 4, run: mul_q5_k_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_q5_k_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_q5_k_g1t1_a8_neondot}},
		quant.Q6_K:   {{groups: 1, tokens: 4, run: mul_q6_k_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_q6_k_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_q6_k_g1t1_a8_neondot}},
		quant.IQ4_NL: {{groups: 1, tokens: 4, run: mul_iq4_nl_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_iq4_nl_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_iq4_nl_g1t1_a8_neondot}},
		quant.IQ4_XS: {{groups: 1, tokens: 4, run: mul_iq4_xs_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_iq4_xs_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_iq4_xs_g1t1_a8_neondot}},
		quant.MXFP4:  {{groups: 1, tokens: 4, run: mul_mxfp4_g1t4_a8_neondot}, {groups: 1, tokens: 2, run: mul_mxfp4_g1t2_a8_neondot}, {groups: 1, tokens: 1, run: mul_mxfp4_g1t1_a8_neondot}},
	}
}

// neonDotWideTiles are the kernels for 16-bit activations.
func neonDotWideTiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   {{groups: 1, tokens: 4, run: mul_q4_0_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_q4_0_g1t1_a16_neondot}},
		quant.Q4_1:   {{groups: 1, tokens: 4, run: mul_q4_1_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_q4_1_g1t1_a16_neondot}},
		quant.Q5_0:   {{groups: 1, tokens: 4, run: mul_q5_0_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_q5_0_g1t1_a16_neondot}},
		quant.Q5_1:   {{groups: 1, tokens: 4, run: mul_q5_1_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_q5_1_g1t1_a16_neondot}},
		quant.Q8_0:   {{groups: 1, tokens: 4, run: mul_q8_0_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_q8_0_g1t1_a16_neondot}},
		quant.Q2_K:   {{groups: 1, tokens: 4, run: mul_q2_k_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_q2_k_g1t1_a16_neondot}},
		quant.Q3_K:   {{groups: 1, tokens: 4, run: mul_q3_k_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_q3_k_g1t1_a16_neondot}},
		quant.Q4_K:   {{groups: 1, tokens: 4, run: mul_q4_k_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_q4_k_g1t1_a16_neondot}},
		quant.Q5_K:   {{groups: 1, tokens: 4, run: mul_q5_k_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_q5_k_g1t1_a16_neondot}},
		quant.Q6_K:   {{groups: 1, tokens: 4, run: mul_q6_k_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_q6_k_g1t1_a16_neondot}},
		quant.IQ4_NL: {{groups: 1, tokens: 4, run: mul_iq4_nl_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_iq4_nl_g1t1_a16_neondot}},
		quant.IQ4_XS: {{groups: 1, tokens: 4, run: mul_iq4_xs_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_iq4_xs_g1t1_a16_neondot}},
		quant.MXFP4:  {{groups: 1, tokens: 4, run: mul_mxfp4_g1t4_a16_neondot}, {groups: 1, tokens: 1, run: mul_mxfp4_g1t1_a16_neondot}},
	}
}
