package arith

import (
	"fmt"
	"math"
)

// Scaling says how a model stretches its rotary embedding beyond the context
// it was trained on.
type Scaling uint8

const (
	// ScalingNone leaves positions as they are. Frequency factors (llama3,
	// longrope) still apply.
	ScalingNone Scaling = iota
	// ScalingLinear divides positions by Factor.
	ScalingLinear
	// ScalingYarn mixes divided and plain frequencies by dimension
	// (YaRN, arXiv:2309.00071).
	ScalingYarn
)

// RopeParams define a rotary embedding.
type RopeParams struct {
	Dims    int     // rotated elements of a head; even
	Base    float64 // frequency base, 10000 or more as a rule
	Scaling Scaling
	Factor  float64 // scale of ScalingLinear and ScalingYarn; 0 counts as 1
	// Factors divide each frequency where the model brings them (GGUF tensor
	// rope_freqs.weight, or longrope's long or short list): Dims/2, or none.
	Factors []float32
	// AttnFactor multiplies cosines and sines; 0 counts as 1. Longrope models
	// declare it. With YaRN it comes on top of 1+0.1*log(Factor), which is
	// taken for factors over 1.
	AttnFactor float64

	// The rest is YaRN's. ExtFactor weighs the plain frequencies; 0 counts as
	// 1. BetaFast and BetaSlow count as 32 and 1 when 0.
	OriginalContext int
	ExtFactor       float64
	BetaFast        float64
	BetaSlow        float64
}

// Limits of RopeParams and of tables.
const (
	MaxRopeDims      = 4096
	MaxRopePositions = 1 << 24
)

// Validate checks p as values from a foreign file.
func (p RopeParams) Validate() error {
	switch {
	case p.Dims <= 0 || p.Dims%2 != 0 || p.Dims > MaxRopeDims:
		return fmt.Errorf("rope: %d rotated dimensions; want an even number from 2 to %d", p.Dims, MaxRopeDims)
	case !(p.Base > 1 && p.Base <= 1e30):
		return fmt.Errorf("rope: frequency base %g; want more than 1, at most 1e30", p.Base)
	case p.Scaling > ScalingYarn:
		return fmt.Errorf("rope: unknown scaling %d", p.Scaling)
	case p.Factor != 0 && !(p.Factor >= 1e-3 && p.Factor <= 1e6):
		return fmt.Errorf("rope: scaling factor %g; want 0.001 to 1e6", p.Factor)
	case len(p.Factors) != 0 && len(p.Factors) != p.Dims/2:
		return fmt.Errorf("rope: %d frequency factors; want %d, one a pair of dimensions", len(p.Factors), p.Dims/2)
	case p.AttnFactor != 0 && !(p.AttnFactor >= 1e-3 && p.AttnFactor <= 1e3):
		return fmt.Errorf("rope: attention factor %g; want 0.001 to 1000", p.AttnFactor)
	}
	for i, f := range p.Factors {
		if !(f >= 1e-3 && f <= 1e9) {
			return fmt.Errorf("rope: frequency factor %d is %g; want 0.001 to 1e9", i, f)
		}
	}
	if p.Scaling == ScalingYarn {
		return p.validateYarn()
	}
	return nil
}

func (p RopeParams) validateYarn() error {
	ok := func(v float64) bool { return v == 0 || v >= 1e-3 && v <= 1e6 }
	switch {
	case p.OriginalContext <= 0:
		return fmt.Errorf("rope: yarn scaling without the original context length (rope.scaling.original_context_length)")
	case !ok(p.BetaFast) || !ok(p.BetaSlow):
		return fmt.Errorf("rope: yarn betas %g and %g; want 0.001 to 1e6", p.BetaFast, p.BetaSlow)
	case !(p.ExtFactor >= 0 && p.ExtFactor <= 1):
		return fmt.Errorf("rope: yarn extrapolation factor %g; want 0 to 1", p.ExtFactor)
	}
	return nil
}

func or(v, standard float64) float64 {
	if v == 0 {
		return standard
	}
	return v
}

// Frequencies gives the angle by which one position turns each pair of
// dimensions, Dims/2 of them, and the factor of all cosines and sines. p must
// be valid.
func (p RopeParams) Frequencies() (freqs []float64, magnitude float64) {
	magnitude = or(p.AttnFactor, 1)
	scale := 1.0
	if p.Scaling != ScalingNone {
		scale = 1 / or(p.Factor, 1)
	}
	freqs = make([]float64, p.Dims/2)
	for i := range freqs {
		f := Pow64(p.Base, -float64(2*i)/float64(p.Dims))
		if len(p.Factors) > 0 {
			f /= float64(p.Factors[i])
		}
		freqs[i] = f
	}
	if p.Scaling == ScalingYarn {
		p.mixYarn(freqs, scale)
		if scale < 1 {
			magnitude = float64(magnitude * (1 + float64(0.1*Log64(1/scale))))
		}
		return freqs, magnitude
	}
	for i := range freqs {
		freqs[i] = float64(freqs[i] * scale)
	}
	return freqs, magnitude
}

// mixYarn blends each plain frequency with its scaled one: dimensions that
// turn more than BetaFast times within the original context keep theirs, those
// that turn less than BetaSlow times are scaled, a ramp lies between.
func (p RopeParams) mixYarn(freqs []float64, scale float64) {
	bound := func(turns float64) float64 {
		n := Log64(float64(p.OriginalContext) / float64(turns*(2*math.Pi)))
		return float64(float64(p.Dims)*n) / float64(2*Log64(p.Base))
	}
	low := max(0, math.Floor(bound(or(p.BetaFast, 32))))
	high := min(float64(p.Dims-1), math.Ceil(bound(or(p.BetaSlow, 1))))
	for i, plain := range freqs {
		ramp := (float64(i) - low) / max(0.001, high-low)
		mix := float64((1 - min(1, max(0, ramp))) * or(p.ExtFactor, 1))
		scaled := float64(plain * scale)
		freqs[i] = float64(scaled*(1-mix)) + float64(plain*mix)
	}
}

// RopeTable computes the cosines and sines of positions 0 to positions-1, each
// positions*Dims/2 long, position by position: what kernels.Device.NewRope
// takes. Angles, sines and the factor are float64; each element is rounded to
// float32 once and passes the floor. The caller owns the slices.
func RopeTable(p RopeParams, positions int) (cos, sin []float32, err error) {
	if err := p.Validate(); err != nil {
		return nil, nil, err
	}
	if positions <= 0 || positions > MaxRopePositions {
		return nil, nil, fmt.Errorf("rope: table of %d positions; want 1 to %d", positions, MaxRopePositions)
	}
	freqs, magnitude := p.Frequencies()
	for i, f := range freqs {
		if !(float64(f*float64(positions)) <= MaxAngle) {
			return nil, nil, fmt.Errorf("rope: pair %d turns by %g a position: too much for %d positions", i, f, positions)
		}
	}
	half := len(freqs)
	cos, sin = make([]float32, positions*half), make([]float32, positions*half)
	for pos := range positions {
		for i, f := range freqs {
			s, c := SinCos64(float64(float64(pos) * f))
			cos[pos*half+i] = Floor(float32(float64(c * magnitude)))
			sin[pos*half+i] = Floor(float32(float64(s * magnitude)))
		}
	}
	return cos, sin, nil
}
