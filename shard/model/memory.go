package model

import (
	"fmt"
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/shard/gguf"
)

// Sizes are the bytes that the pieces of a model take in packed form: what a planner counts with.
type Sizes struct {
	Embed  int64   // the embedding
	Head   int64   // output projection and final norm; the projection of a tied model is its embedding
	Layers []int64 // each layer's weights
	Shared int64   // what every range needs beside its layers
	// Experts is the part of each layer's weights that are experts, of which a token takes some; 0 without.
	Experts []int64
	share   float64 // of the experts, that a token takes
	tied    bool
}

// Sizes computes the sizes from the tensor infos of the model's header (of all parts of a split file).
func (c *Config) Sizes(tensors []gguf.Tensor) (Sizes, error) {
	types := make(map[string]gguf.Type, len(tensors))
	for i := range tensors {
		types[tensors[i].Name] = tensors[i].Type
	}
	s := Sizes{Layers: make([]int64, c.Layers), Experts: make([]int64, c.Layers), tied: c.Tied}
	if c.HasExperts() {
		s.share = float64(c.Experts.Used) / float64(c.Experts.Count)
	}
	for _, spec := range c.Tensors(c.All()) {
		t, ok := types[spec.Name]
		if !ok {
			return Sizes{}, fmt.Errorf("tensor %s is missing", spec.Name)
		}
		n := 4 * spec.elements() // vectors become f32
		if !spec.Vector {
			quants, scales, err := quant.PackedSize(quant.Type(t), spec.Rows, spec.Cols)
			if err != nil {
				return Sizes{}, fmt.Errorf("tensor %s: %w", spec.Name, err)
			}
			n = quants + scales
		}
		switch {
		case spec.Layer >= 0:
			s.Layers[spec.Layer] += n
			if spec.Experts > 0 {
				s.Experts[spec.Layer] += n
			}
		case spec.Name == embedName:
			s.Embed += n
		case spec.Name == freqsName:
			s.Shared += n
		default:
			s.Head += n
		}
	}
	return s, nil
}

// Read is about how many bytes of a layer's weights a step of so many rows reads: of experts those that some row takes, if
// all are taken alike.
func (s Sizes) Read(layer, rows int) int64 {
	idle := math.Pow(1-s.share, float64(rows))
	return s.Layers[layer] - int64(idle*float64(s.Experts[layer]))
}

// Weights is the packed bytes of a layer range. A range that embeds and projects with the same tensor has it once.
func (s Sizes) Weights(r Range) int64 {
	n := s.Shared
	for _, l := range s.Layers[r.First:r.End] {
		n += l
	}
	last := r.End == len(s.Layers)
	if r.Embeds() || (last && s.tied) {
		n += s.Embed
	}
	if last {
		n += s.Head
	}
	return n
}

// KVBytes is what the KV of so many positions takes in a layer range, in whole blocks.
func (c *Config) KVBytes(p Profile, r Range, positions int) int64 {
	blocks := int64((positions + kernels.BlockPositions - 1) / kernels.BlockPositions)
	return blocks * c.KVLayout(p, r).BlockBytes()
}

// WorkBytes is about what a layer range takes beside weights and KV, with batches of maxRows: activations, their quantised
// form, logits, the sampler, RoPE tables.
func (c *Config) WorkBytes(p Profile, r Range, maxRows int) int64 {
	q, kv, rows := int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim), int64(maxRows)
	embd, ffn := int64(c.Embd), int64(c.innerFFN())
	n := c.expertWork(p, maxRows) + 4*rows*(3*embd+2*q+2*kv+2*ffn)
	// A quantised activation takes its bits and, a block of 32, a scale and a sum; float weights read the f32 form.
	n += rows * (embd + q + ffn) * (4 + int64(p.Act)/8 + 1)
	n += 4 * int64(p.Context) * int64(c.Rope.Dims)
	if c.Projects(r) {
		n += 4*int64(min(maxRows, DefaultHeadRows))*int64(c.Vocab)*2 + 36*int64(c.Vocab)
	}
	return n
}
