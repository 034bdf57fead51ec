package main

import (
	"fmt"
	"math"
	"slices"
)

// series are the samples of one quantity in the order in which they were taken.
type series []float64

func (s series) median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(s))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// ratios divides pair by pair: samples that were taken in turn.
func (s series) ratios(by series) series {
	out := make(series, min(len(s), len(by)))
	for i := range out {
		out[i] = s[i] / by[i]
	}
	return out
}

// minus subtracts pair by pair.
func (s series) minus(by series) series {
	out := make(series, min(len(s), len(by)))
	for i := range out {
		out[i] = s[i] - by[i]
	}
	return out
}

// cell writes "median (least–most)" with that many decimals.
func (s series) cell(decimals int) string {
	if len(s) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", decimals, s.median(), decimals, slices.Min(s), decimals, slices.Max(s))
}
