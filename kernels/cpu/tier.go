package cpu

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// MaskVariable names the environment variable that hides instruction sets:
// a list, separated by commas, of tiers that New and Tiers do not offer
// ("amx", "avx512vnni", "avxvnni", "avx2", "neondot", "neon"), or "portable" to hide
// all but portable Go. It exists so that every tier can be tested on one
// machine, and as a way out should an instruction set misbehave. It is read
// here and nowhere else.
const MaskVariable = "WEFT_CPU"

// The tiers that this package knows, from the simplest up.
const (
	Portable   = "portable"   // plain Go
	AVX2       = "avx2"       // AVX2, FMA and F16C
	AVXVNNI    = "avxvnni"    // AVX-VNNI (VPDPBUSD without AVX-512), AVX2, FMA and F16C
	AVX512VNNI = "avx512vnni" // AVX-512 F, BW, DQ, VL and VNNI
	AMX        = "amx"        // matrix tiles of 8-bit integers, and AVX512VNNI
	NEON       = "neon"       // ASIMD, which every arm64 processor has
	NEONDot    = "neondot"    // ASIMD with dot products (SDOT)
)

// kernelSet is what a tier brings. A nil entry, or a weight type without
// entries, is served by portable Go.
type kernelSet struct {
	tier     string
	matmul   matmulTable
	matrix   *matrixTiles // nil without matrix tiles
	quantise func(x *float32, rec *byte, blocks int) (bad uint32)
	// quantise16 fills records of two lines.
	quantise16 func(x *float32, rec *byte, blocks int) (bad uint32)

	// Elementwise kernels take a positive multiple of 16 elements.
	siluMul func(dst, gate, up *float32, n int)
	add     func(dst, x, y *float32, n int)
	floor   func(x *float32, n int)
	squares func(x *float32, lanes *[16]float32, n int)
	normMul func(dst, x, w *float32, r float32, n int)
	toHalf  func(dst *uint16, x *float32, n int) (bad uint32)
	divide  func(out, o *float32, sum float32, n int)

	notFinite func(x *float32, n int) (bad uint32) // n a multiple of 16
	weights   func(x *float32, dst *uint64, powers *float64, n int, best, temperature float32) (sum uint64)
	maxima    func(x, dst *float32, blocks int) // of maximaBlock elements each

	rotateHalves func(x, cos, sin *float32, n int) // pairs, a multiple of 16
	rotatePairs  func(x, cos, sin *float32, n int) // pairs, a multiple of 8

	// soften takes n queries' scores, scoreStride apart, of the places lo..hi-1
	// that their spans name. foldScales takes a multiple of 16 queries.
	soften     func(s *float32, spans *[2]int32, maxima, sums *float32, bad *uint32, n int, scale float32)
	foldScales func(x, xSums, y, ySums, a, b *float32, n int)
	fold       func(out, o, a, b *float32, n, dim int)
	attn       [2]attnKernels // by kernels.KVType
}

// Tiers lists the tiers that this build and machine have, the best first, the
// ones hidden by MaskVariable left out. The last is always Portable.
func Tiers() []string {
	var names []string
	for _, s := range available() {
		names = append(names, s.tier)
	}
	return names
}

// available lists the kernel sets that may be used, the best first.
func available() []*kernelSet {
	masked := strings.FieldsFunc(os.Getenv(MaskVariable), func(r rune) bool { return r == ',' || r == ' ' })
	var sets []*kernelSet
	hidden := func(tier string) bool {
		return slices.Contains(masked, Portable) || slices.Contains(masked, tier) || tier == AMX && slices.Contains(masked, AVX512VNNI)
	}
	for _, s := range machineSets(hidden) {
		if !hidden(s.tier) {
			sets = append(sets, s)
		}
	}
	return append(sets, &kernelSet{tier: Portable})
}

// chooseTier finds the kernel set of the name; an empty name is the best one.
func chooseTier(name string) (*kernelSet, error) {
	sets := available()
	if name == "" {
		return sets[0], nil
	}
	for _, s := range sets {
		if s.tier == name {
			return s, nil
		}
	}
	if !slices.Contains([]string{Portable, AVX2, AVXVNNI, AVX512VNNI, AMX, NEON, NEONDot}, name) {
		return nil, fmt.Errorf("cpu tier %q is unknown: choose one of %s", name, strings.Join(Tiers(), ", "))
	}
	return nil, fmt.Errorf("cpu tier %q is not available on this %s machine (not supported by processor or build, or hidden by %s): choose one of %s",
		name, runtime.GOARCH, MaskVariable, strings.Join(Tiers(), ", "))
}
