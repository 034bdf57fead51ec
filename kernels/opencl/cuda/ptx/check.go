package ptx

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// arithmetic are the operations on floats that a text may have: sums, products and fused
// multiply-adds rounded to nearest even (written .rn, an assembler may not fuse or reorder
// them), conversions that the contract has, and what moves, compares or takes signs off.
// Moves, loads, stores, comparisons and selections have no rounding; the others are listed
// as they are spelled.
var arithmetic = map[string]bool{
	"add.rn.f32": true, "sub.rn.f32": true, "mul.rn.f32": true, "fma.rn.f32": true,
	"neg.f32": true, "abs.f32": true, "max.f32": true, "min.f32": true,
	"cvt.rn.f32.s32": true, "cvt.rn.f32.u32": true, "cvt.rn.f32.s16": true, "cvt.rn.f32.u16": true, "cvt.rn.f32.s8": true, "cvt.rn.f32.u8": true,
	"cvt.rni.f32.f32": true,
	"cvt.f32.f16":     true, // exact, denormals too
	"cvt.rzi.s32.f32": true, "cvt.rzi.u32.f32": true, "cvt.rni.s32.f32": true,
}

// moves begin the operations that take floats as bits.
var moves = []string{"mov", "ld", "st", "setp", "selp", "shfl"}

// Check holds a text's arithmetic to the contract. The error names each kernel and
// instruction that breaks it.
func Check(m Module) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(m.Kernels)) {
		for _, line := range m.Kernels[name].Body {
			if op := Operation(line); !allowed(op) {
				errs = append(errs, fmt.Errorf("kernel %s: %s: %s is not the contract's arithmetic", name, line, op))
			}
		}
	}
	return errors.Join(errs...)
}

// Operation is an instruction's name with its modifiers: "fma.rn.f32".
func Operation(line string) string {
	line = strings.TrimLeft(line, "{ \t")
	if strings.HasPrefix(line, "@") {
		_, line, _ = strings.Cut(line, " ")
		line = strings.TrimLeft(line, " \t")
	}
	op, _, _ := strings.Cut(line, " ")
	op, _, _ = strings.Cut(op, "\t")
	return strings.TrimSuffix(op, ";")
}

// estimates are operations that no type makes exact.
var estimates = []string{"div.", "rcp.", "sqrt.", "rsqrt.", "sin.", "cos.", "lg2.", "ex2.", "tanh.", "mad.rn"}

func allowed(op string) bool {
	parts := strings.Split(op, ".")
	if parts[0] == "call" {
		return false // a function that was not made part of its kernel is not looked at
	}
	if slices.Contains(parts, "ftz") || slices.Contains(parts, "approx") || slices.Contains(parts, "sat") && !strings.HasPrefix(op, "cvt.") {
		return false
	}
	floats := slices.ContainsFunc(parts, func(p string) bool {
		return p == "f32" || p == "f16" || p == "f16x2" || p == "f64" || p == "bf16" || p == "tf32"
	})
	if !floats {
		return true // integers, branches, barriers; their divisions are exact
	}
	if arithmetic[op] {
		return true
	}
	if slices.Contains(parts, "f64") || slices.Contains(parts, "f16") || slices.Contains(parts, "f16x2") {
		return false
	}
	for _, e := range estimates {
		if strings.HasPrefix(op, e) {
			return false
		}
	}
	return slices.Contains(moves, parts[0])
}
