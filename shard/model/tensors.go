package model

import (
	"fmt"

	"github.com/weft-mesh/weft/shard/gguf"
)

// Range is a contiguous range of layers, First <= layer < End. A range that begins with the first layer embeds; one that
// ends with the last one normalises, projects and samples.
type Range struct{ First, End int }

// Len is the number of layers.
func (r Range) Len() int { return r.End - r.First }

// Embeds reports whether the range takes token ids.
func (r Range) Embeds() bool { return r.First == 0 }

// All is the range of the whole model.
func (c *Config) All() Range { return Range{0, c.Layers} }

// Projects reports whether range r of the model gives logits.
func (c *Config) Projects(r Range) bool { return r.End == c.Layers }

// CheckRange refuses a range that is empty or not of this model.
func (c *Config) CheckRange(r Range) error {
	if r.First < 0 || r.First >= r.End || r.End > c.Layers {
		return fmt.Errorf("layers %d to %d (end excluded) are no range of a model of %d layers", r.First, r.End, c.Layers)
	}
	return nil
}

// TensorSpec is a tensor that a model needs.
type TensorSpec struct {
	Name   string // as in the file
	Layer  int    // its layer, or -1
	Vector bool   // a vector of Cols floats, else a matrix of weights
	Rows   int    // outputs; 1 for a vector
	Cols   int    // inputs
	// Experts, when over 0, is how many matrices lie one below the other in Rows: a dimension of their own in the file.
	Experts int
	// Factor means that a vector is computed with as a matrix of one row.
	Factor bool
}

// Names of the tensors outside the layers.
const (
	embedName    = "token_embd.weight"
	headName     = "output.weight"
	headNormName = "output_norm.weight"
	freqsName    = "rope_freqs.weight"
)

// Tensors lists exactly the tensors that a layer range needs, each once, in the order in which they are loaded. A tied
// embedding is one tensor, also for a range that both embeds and projects.
func (c *Config) Tensors(r Range) []TensorSpec {
	var out []TensorSpec
	embed := TensorSpec{Name: embedName, Layer: -1, Rows: c.Vocab, Cols: c.Embd}
	if r.Embeds() || (c.Projects(r) && c.Tied) {
		out = append(out, embed)
	}
	if c.Rope.Freqs {
		out = append(out, TensorSpec{Name: freqsName, Layer: -1, Vector: true, Rows: 1, Cols: c.Rope.Dims / 2})
	}
	for l := r.First; l < r.End; l++ {
		out = append(out, c.layerTensors(l)...)
	}
	if c.Projects(r) {
		out = append(out, TensorSpec{Name: headNormName, Layer: -1, Vector: true, Rows: 1, Cols: c.Embd})
		if !c.Tied {
			out = append(out, TensorSpec{Name: headName, Layer: -1, Rows: c.Vocab, Cols: c.Embd})
		}
	}
	return out
}

func (c *Config) layerTensors(l int) []TensorSpec {
	var out []TensorSpec
	matrix := func(name string, rows, cols int) {
		out = append(out, TensorSpec{Name: layerName(l, name), Layer: l, Rows: rows, Cols: cols})
	}
	vector := func(name string, n int) {
		out = append(out, TensorSpec{Name: layerName(l, name), Layer: l, Vector: true, Rows: 1, Cols: n})
	}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	vector("attn_norm.weight", c.Embd)
	matrix("attn_q.weight", q, c.Embd)
	matrix("attn_k.weight", kv, c.Embd)
	matrix("attn_v.weight", kv, c.Embd)
	if c.QKVBias {
		vector("attn_q.bias", q)
		vector("attn_k.bias", kv)
		vector("attn_v.bias", kv)
	}
	if c.QKNorm {
		vector("attn_q_norm.weight", c.HeadDim)
		vector("attn_k_norm.weight", c.HeadDim)
	}
	matrix("attn_output.weight", c.Embd, q)
	vector("ffn_norm.weight", c.Embd)
	if c.HasExperts() {
		return append(out, c.expertTensors(l)...)
	}
	matrix("ffn_gate.weight", c.FFN, c.Embd)
	matrix("ffn_up.weight", c.FFN, c.Embd)
	matrix("ffn_down.weight", c.Embd, c.FFN)
	return out
}

func layerName(l int, name string) string { return fmt.Sprintf("blk.%d.%s", l, name) }

// checkTensors checks that the file has every tensor of the model in the right shape, and none of a layer that the
// model's graph would not use: a family that this build only half knows must not give silent nonsense.
func (c *Config) checkTensors(have map[string]*gguf.Tensor) error {
	used := make(map[string]bool, len(have))
	for _, s := range c.Tensors(c.All()) {
		t := have[s.Name]
		if t == nil {
			return fmt.Errorf("tensor %s is missing; the file is incomplete or of a variant that this build does not know", s.Name)
		}
		if err := s.check(t); err != nil {
			return err
		}
		used[s.Name] = true
	}
	for name := range have {
		if !used[name] && !spare(name) {
			return fmt.Errorf("tensor %s has no place in the graph of %s; the file is of a variant that this build does not know", name, c.Arch)
		}
	}
	return nil
}

// spare reports whether a tensor may be there without being used: old converters stored each layer's RoPE frequencies,
// which follow from the metadata.
func spare(name string) bool {
	var l int
	_, err := fmt.Sscanf(name, "blk.%d.attn_rot_embd.weight", &l)
	return err == nil && name == layerName(l, "attn_rot_embd.weight")
}

func (s TensorSpec) check(t *gguf.Tensor) error {
	rows, cols := uint64(1), t.Dims[0]
	for _, d := range t.Dims[1:] {
		rows *= d
	}
	if rows != uint64(s.Rows) || cols != uint64(s.Cols) {
		return fmt.Errorf("tensor %s is %d x %d; the model's metadata asks for %d x %d", s.Name, rows, cols, s.Rows, s.Cols)
	}
	if err := s.checkExperts(t); err != nil {
		return err
	}
	if s.Vector && t.Type != gguf.F32 && t.Type != gguf.F16 && t.Type != gguf.BF16 {
		return fmt.Errorf("tensor %s is a vector of type %s; a float type was expected", s.Name, t.Type)
	}
	return nil
}
