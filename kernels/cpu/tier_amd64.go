//go:build amd64 && !noasm

package cpu

import (
	"github.com/klauspost/cpuid/v2"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// machineSets lists the kernel sets that processor and operating system
// support, the best first.
func machineSets() []*kernelSet {
	var sets []*kernelSet
	c := cpuid.CPU
	if c.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX512VNNI, cpuid.AVX2, cpuid.FMA3, cpuid.F16C, cpuid.CMOV) {
		sets = append(sets, avx512Set())
	}
	if c.Supports(cpuid.AVX2, cpuid.FMA3, cpuid.F16C, cpuid.CMOV) {
		sets = append(sets, avx2Set())
	}
	return sets
}

// relax passes a moment of a spin loop.
func relax() { pause() }

func avx512Set() *kernelSet {
	return &kernelSet{
		tier:         AVX512VNNI,
		matmul:       matmulTable{avx512Tiles(), avx512WideTiles()},
		quantise:     quantise_a8_avx512vnni,
		siluMul:      siluMul_avx512vnni,
		add:          add_avx512vnni,
		squares:      squares_avx512vnni,
		normMul:      normMul_avx512vnni,
		floor:        floor_avx512vnni,
		toHalf:       toHalf_avx512vnni,
		fold:         fold_avx512vnni,
		foldScales:   foldScales_avx512vnni,
		divide:       divide_avx512vnni,
		rotateHalves: rotateHalves_avx512vnni,
		rotatePairs:  rotatePairs_avx512vnni,
		soften:       soften_avx512vnni,
		attn: [2]attnKernels{
			kernels.KVF16: {scores_f16_avx512vnni, weigh_f16_avx512vnni},
			kernels.KVF32: {scores_f32_avx512vnni, weigh_f32_avx512vnni},
		},
	}
}

// avx512Tiles are the kernels for 8-bit activations, and for float weights.
func avx512Tiles() map[quant.Type]tiles {
	four := func(g2t4, g1t4, g1t2, g1t1 matmulKernel) tiles {
		return tiles{{2, 4, g2t4}, {1, 4, g1t4}, {1, 2, g1t2}, {1, 1, g1t1}}
	}
	float := func(g2t4, g1t4, g2t1, g1t1 matmulKernel) tiles {
		return tiles{{2, 4, g2t4}, {1, 4, g1t4}, {2, 1, g2t1}, {1, 1, g1t1}}
	}
	return map[quant.Type]tiles{
		quant.Q4_0:   four(mul_q4_0_g2t4_a8_avx512vnni, mul_q4_0_g1t4_a8_avx512vnni, mul_q4_0_g1t2_a8_avx512vnni, mul_q4_0_g1t1_a8_avx512vnni),
		quant.Q4_1:   four(mul_q4_1_g2t4_a8_avx512vnni, mul_q4_1_g1t4_a8_avx512vnni, mul_q4_1_g1t2_a8_avx512vnni, mul_q4_1_g1t1_a8_avx512vnni),
		quant.Q5_0:   four(mul_q5_0_g2t4_a8_avx512vnni, mul_q5_0_g1t4_a8_avx512vnni, mul_q5_0_g1t2_a8_avx512vnni, mul_q5_0_g1t1_a8_avx512vnni),
		quant.Q5_1:   four(mul_q5_1_g2t4_a8_avx512vnni, mul_q5_1_g1t4_a8_avx512vnni, mul_q5_1_g1t2_a8_avx512vnni, mul_q5_1_g1t1_a8_avx512vnni),
		quant.Q8_0:   four(mul_q8_0_g2t4_a8_avx512vnni, mul_q8_0_g1t4_a8_avx512vnni, mul_q8_0_g1t2_a8_avx512vnni, mul_q8_0_g1t1_a8_avx512vnni),
		quant.Q2_K:   four(mul_q2_k_g2t4_a8_avx512vnni, mul_q2_k_g1t4_a8_avx512vnni, mul_q2_k_g1t2_a8_avx512vnni, mul_q2_k_g1t1_a8_avx512vnni),
		quant.Q3_K:   four(mul_q3_k_g2t4_a8_avx512vnni, mul_q3_k_g1t4_a8_avx512vnni, mul_q3_k_g1t2_a8_avx512vnni, mul_q3_k_g1t1_a8_avx512vnni),
		quant.Q4_K:   four(mul_q4_k_g2t4_a8_avx512vnni, mul_q4_k_g1t4_a8_avx512vnni, mul_q4_k_g1t2_a8_avx512vnni, mul_q4_k_g1t1_a8_avx512vnni),
		quant.Q5_K:   four(mul_q5_k_g2t4_a8_avx512vnni, mul_q5_k_g1t4_a8_avx512vnni, mul_q5_k_g1t2_a8_avx512vnni, mul_q5_k_g1t1_a8_avx512vnni),
		quant.Q6_K:   four(mul_q6_k_g2t4_a8_avx512vnni, mul_q6_k_g1t4_a8_avx512vnni, mul_q6_k_g1t2_a8_avx512vnni, mul_q6_k_g1t1_a8_avx512vnni),
		quant.IQ4_NL: four(mul_iq4_nl_g2t4_a8_avx512vnni, mul_iq4_nl_g1t4_a8_avx512vnni, mul_iq4_nl_g1t2_a8_avx512vnni, mul_iq4_nl_g1t1_a8_avx512vnni),
		quant.IQ4_XS: four(mul_iq4_xs_g2t4_a8_avx512vnni, mul_iq4_xs_g1t4_a8_avx512vnni, mul_iq4_xs_g1t2_a8_avx512vnni, mul_iq4_xs_g1t1_a8_avx512vnni),
		quant.MXFP4:  four(mul_mxfp4_g2t4_a8_avx512vnni, mul_mxfp4_g1t4_a8_avx512vnni, mul_mxfp4_g1t2_a8_avx512vnni, mul_mxfp4_g1t1_a8_avx512vnni),
		quant.F32:    float(mul_f32_g2t4_avx512vnni, mul_f32_g1t4_avx512vnni, mul_f32_g2t1_avx512vnni, mul_f32_g1t1_avx512vnni),
		quant.F16:    float(mul_f16_g2t4_avx512vnni, mul_f16_g1t4_avx512vnni, mul_f16_g2t1_avx512vnni, mul_f16_g1t1_avx512vnni),
		quant.BF16:   float(mul_bf16_g2t4_avx512vnni, mul_bf16_g1t4_avx512vnni, mul_bf16_g2t1_avx512vnni, mul_bf16_g1t1_avx512vnni),
	}
}

// avx512WideTiles are the kernels for 16-bit activations.
func avx512WideTiles() map[quant.Type]tiles {
	two := func(g1t4, g1t1 matmulKernel) tiles { return tiles{{1, 4, g1t4}, {1, 1, g1t1}} }
	return map[quant.Type]tiles{
		quant.Q4_0:   two(mul_q4_0_g1t4_a16_avx512vnni, mul_q4_0_g1t1_a16_avx512vnni),
		quant.Q4_1:   two(mul_q4_1_g1t4_a16_avx512vnni, mul_q4_1_g1t1_a16_avx512vnni),
		quant.Q5_0:   two(mul_q5_0_g1t4_a16_avx512vnni, mul_q5_0_g1t1_a16_avx512vnni),
		quant.Q5_1:   two(mul_q5_1_g1t4_a16_avx512vnni, mul_q5_1_g1t1_a16_avx512vnni),
		quant.Q8_0:   two(mul_q8_0_g1t4_a16_avx512vnni, mul_q8_0_g1t1_a16_avx512vnni),
		quant.Q2_K:   two(mul_q2_k_g1t4_a16_avx512vnni, mul_q2_k_g1t1_a16_avx512vnni),
		quant.Q3_K:   two(mul_q3_k_g1t4_a16_avx512vnni, mul_q3_k_g1t1_a16_avx512vnni),
		quant.Q4_K:   two(mul_q4_k_g1t4_a16_avx512vnni, mul_q4_k_g1t1_a16_avx512vnni),
		quant.Q5_K:   two(mul_q5_k_g1t4_a16_avx512vnni, mul_q5_k_g1t1_a16_avx512vnni),
		quant.Q6_K:   two(mul_q6_k_g1t4_a16_avx512vnni, mul_q6_k_g1t1_a16_avx512vnni),
		quant.IQ4_NL: two(mul_iq4_nl_g1t4_a16_avx512vnni, mul_iq4_nl_g1t1_a16_avx512vnni),
		quant.IQ4_XS: two(mul_iq4_xs_g1t4_a16_avx512vnni, mul_iq4_xs_g1t1_a16_avx512vnni),
		quant.MXFP4:  two(mul_mxfp4_g1t4_a16_avx512vnni, mul_mxfp4_g1t1_a16_avx512vnni),
	}
}

func avx2Set() *kernelSet {
	return &kernelSet{
		tier:         AVX2,
		matmul:       matmulTable{avx2Tiles()},
		quantise:     quantise_a8_avx2,
		siluMul:      siluMul_avx2,
		add:          add_avx2,
		floor:        floor_avx2,
		squares:      squares_avx2,
		normMul:      normMul_avx2,
		toHalf:       toHalf_avx2,
		fold:         fold_avx2,
		foldScales:   foldScales_avx2,
		divide:       divide_avx2,
		soften:       soften_avx2,
		rotateHalves: rotateHalves_avx2,
		rotatePairs:  rotatePairs_avx2,
		attn: [2]attnKernels{
			kernels.KVF16: {scores_f16_avx2, weigh_f16_avx2},
			kernels.KVF32: {scores_f32_avx2, weigh_f32_avx2},
		},
	}
}

// avx2Tiles are the kernels for 8-bit activations, and for float weights.
func avx2Tiles() map[quant.Type]tiles {
	return map[quant.Type]tiles{
		quant.Q4_0:   {{1, 4, mul_q4_0_g1t4_a8_avx2}, {1, 1, mul_q4_0_g1t1_a8_avx2}},
		quant.Q4_1:   {{1, 4, mul_q4_1_g1t4_a8_avx2}, {1, 1, mul_q4_1_g1t1_a8_avx2}},
		quant.Q8_0:   {{1, 4, mul_q8_0_g1t4_a8_avx2}, {1, 1, mul_q8_0_g1t1_a8_avx2}},
		quant.Q4_K:   {{1, 4, mul_q4_k_g1t4_a8_avx2}, {1, 1, mul_q4_k_g1t1_a8_avx2}},
		quant.Q5_0:   {{1, 2, mul_q5_0_g1t2_a8_avx2}, {1, 1, mul_q5_0_g1t1_a8_avx2}},
		quant.Q5_1:   {{1, 2, mul_q5_1_g1t2_a8_avx2}, {1, 1, mul_q5_1_g1t1_a8_avx2}},
		quant.Q5_K:   {{1, 2, mul_q5_k_g1t2_a8_avx2}, {1, 1, mul_q5_k_g1t1_a8_avx2}},
		quant.Q2_K:   {{1, 2, mul_q2_k_g1t2_a8_avx2}, {1, 1, mul_q2_k_g1t1_a8_avx2}},
		quant.Q3_K:   {{1, 2, mul_q3_k_g1t2_a8_avx2}, {1, 1, mul_q3_k_g1t1_a8_avx2}},
		quant.IQ4_NL: {{1, 2, mul_iq4_nl_g1t2_a8_avx2}, {1, 1, mul_iq4_nl_g1t1_a8_avx2}},
		quant.IQ4_XS: {{1, 2, mul_iq4_xs_g1t2_a8_avx2}, {1, 1, mul_iq4_xs_g1t1_a8_avx2}},
		quant.MXFP4:  {{1, 2, mul_mxfp4_g1t2_a8_avx2}, {1, 1, mul_mxfp4_g1t1_a8_avx2}},
		quant.F32:    {{1, 4, mul_f32_g1t4_avx2}, {1, 1, mul_f32_g1t1_avx2}},
		quant.F16:    {{1, 4, mul_f16_g1t4_avx2}, {1, 1, mul_f16_g1t1_avx2}},
		quant.BF16:   {{1, 4, mul_bf16_g1t4_avx2}, {1, 1, mul_bf16_g1t1_avx2}},
		quant.Q6_K:   {{1, 2, mul_q6_k_g1t2_a8_avx2}, {1, 1, mul_q6_k_g1t1_a8_avx2}},
	}
}
