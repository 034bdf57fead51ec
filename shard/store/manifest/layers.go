package manifest

import (
	"fmt"
	"strconv"
	"strings"
)

// Layer is the layer that a tensor belongs to, by its name "blk.N.…".
func Layer(name string) (n int, ok bool) {
	rest, ok := strings.CutPrefix(name, "blk.")
	if !ok {
		return 0, false
	}
	digits, _, ok := strings.Cut(rest, ".")
	if n, err := strconv.Atoi(digits); ok && err == nil && n >= 0 && n < 1<<20 && strconv.Itoa(n) == digits {
		return n, true
	}
	return 0, false
}

// Layers is the number of the model's layers: one more than the highest that a tensor belongs to.
func (m *Manifest) Layers() int {
	layers := 0
	for i := range m.Tensors {
		if n, ok := Layer(m.Tensors[i].Name); ok {
			layers = max(layers, n+1)
		}
	}
	return layers
}

// Range is the tensors that a stage of the layers first <= n < end needs: those of its layers; the token embedding for
// the first stage, and for the last one too where the model has no output matrix of its own; the output norm and matrix
// for the last stage; tensors that belong to no layer (rope factors) for every stage. The pointers are shared.
func (m *Manifest) Range(first, end int) ([]*Tensor, error) {
	layers := m.Layers()
	if first < 0 || end <= first || end > layers {
		return nil, fmt.Errorf("layers %d to %d are no part of a model with %d layers", first, end-1, layers)
	}
	_, untied := m.byName["output.weight"]
	var out []*Tensor
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if needed(t.Name, first, end, layers, !untied) {
			out = append(out, t)
		}
	}
	return out, nil
}

func needed(name string, first, end, layers int, tied bool) bool {
	if n, ok := Layer(name); ok {
		return n >= first && n < end
	}
	switch {
	case strings.HasPrefix(name, "token_embd"), strings.HasPrefix(name, "position_embd"), strings.HasPrefix(name, "token_types"):
		return first == 0 || (tied && end == layers && name == "token_embd.weight")
	case strings.HasPrefix(name, "output"):
		return end == layers
	}
	return true
}
