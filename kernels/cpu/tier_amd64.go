//go:build amd64 && !noasm

package cpu

import (
	"maps"

	"github.com/klauspost/cpuid/v2"

	"github.com/weft-mesh/weft/kernels"
)

// machineSets lists the kernel sets that processor and operating system
// support, the best first. The system is not asked for what is hidden.
func machineSets(hidden func(tier string) bool) []*kernelSet {
	var sets []*kernelSet
	c := cpuid.CPU
	if c.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX512VNNI, cpuid.AVX2, cpuid.FMA3, cpuid.F16C, cpuid.CMOV) {
		if c.Supports(cpuid.AMXTILE, cpuid.AMXINT8) && !hidden(AMX) && tilesPermitted() {
			sets = append(sets, amxSet())
		}
		sets = append(sets, avx512Set())
	}
	if c.Supports(cpuid.AVX2, cpuid.FMA3, cpuid.F16C, cpuid.CMOV) {
		if c.Supports(cpuid.AVXVNNI) {
			sets = append(sets, vnniSet())
		}
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
		quantise16:   quantise_a16_avx512vnni,
		siluMul:      siluMul_avx512vnni,
		add:          add_avx512vnni,
		squares:      squares_avx512vnni,
		normMul:      normMul_avx512vnni,
		floor:        floor_avx512vnni,
		toHalf:       toHalf_avx512vnni,
		fold:         fold_avx512vnni,
		foldScales:   foldScales_avx512vnni,
		notFinite:    notFinite_avx512vnni,
		maxima:       maxima_avx512vnni,
		weights:      weights_avx512vnni,
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

// amxSet has matrix tiles for batches that are wide enough; all else is
// AVX-512's.
func amxSet() *kernelSet {
	s := avx512Set()
	s.tier = AMX
	s.matrix = &matrixTiles{spread: spreaders(), unpack: unpackers(), products: matrixProducts()}
	return s
}

// vnniSet has integer products of its own; all else is AVX2's.
func vnniSet() *kernelSet {
	s := avx2Set()
	s.tier = AVXVNNI
	maps.Copy(s.matmul[0], vnniTiles())
	maps.Copy(s.matmul[1], vnniWideTiles())
	return s
}

func avx2Set() *kernelSet {
	return &kernelSet{
		tier:         AVX2,
		matmul:       matmulTable{avx2Tiles(), avx2WideTiles()},
		quantise:     quantise_a8_avx2,
		quantise16:   quantise_a16_avx2,
		siluMul:      siluMul_avx2,
		add:          add_avx2,
		floor:        floor_avx2,
		squares:      squares_avx2,
		normMul:      normMul_avx2,
		toHalf:       toHalf_avx2,
		fold:         fold_avx2,
		foldScales:   foldScales_avx2,
		notFinite:    notFinite_avx2,
		maxima:       maxima_avx2,
		weights:      weights_avx2,
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
