package kernels

import "fmt"

// Bounds of an ExpertShape. Real models have up to 512 experts and take up to 16.
const (
	MaxExperts     = 1024
	MaxExpertsUsed = 64
)

// ExpertShape is the shape of feed-forward blocks, the experts, of which each
// row takes a few.
type ExpertShape struct {
	Count int // experts
	Used  int // experts that a row takes
	Embd  int // elements of a row; a multiple of 16
	FFN   int // elements between an expert's matrices; a multiple of 16
	// Renormalise makes the weights of the experts that a row takes add up to 1;
	// else they are what softmax over all experts gives.
	Renormalise bool
	Scale       float32 // factor of the weights; 1 leaves them
}

// Validate refuses a shape that no device can compute.
func (s ExpertShape) Validate() error {
	switch {
	case s.Count < 1 || s.Count > MaxExperts:
		return fmt.Errorf("%d experts; 1 to %d were expected", s.Count, MaxExperts)
	case s.Used < 1 || s.Used > min(s.Count, MaxExpertsUsed):
		return fmt.Errorf("%d of %d experts for each token; 1 to %d were expected", s.Used, s.Count, min(s.Count, MaxExpertsUsed))
	case s.Embd < 16 || s.Embd%16 != 0 || s.FFN < 16 || s.FFN%16 != 0:
		return fmt.Errorf("experts of %d and %d elements; multiples of 16 were expected", s.Embd, s.FFN)
	case !(s.Scale >= 0x1p-20 && s.Scale <= 0x1p20): // so that a NaN is refused
		return fmt.Errorf("expert weights are scaled by %v; 2^-20 to 2^20 was expected", s.Scale)
	}
	return nil
}

// Experts is a device's room for MixExperts.
type Experts interface{ Shape() ExpertShape }

// ExpertWeights are a layer's experts. Each matrix holds those of all experts,
// one below the other: expert e of n rows has the rows e*n to e*n+n-1.
type ExpertWeights struct {
	Gate, Up Matrix // FFN by Embd each
	Down     Matrix // Embd by FFN
}

// Check says whether the matrices are those of experts of shape s.
func (w ExpertWeights) Check(s ExpertShape) error {
	for _, m := range []struct {
		name       string
		w          Matrix
		rows, cols int
	}{{"gate", w.Gate, s.Count * s.FFN, s.Embd}, {"up", w.Up, s.Count * s.FFN, s.Embd}, {"down", w.Down, s.Count * s.Embd, s.FFN}} {
		if rows, cols := m.w.Shape(); rows != m.rows || cols != m.cols {
			return fmt.Errorf("%s matrices of %d by %d; %d by %d were expected", m.name, rows, cols, m.rows, m.cols)
		}
	}
	return nil
}
