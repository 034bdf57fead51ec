package model

import (
	"fmt"
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/shard/gguf"
)

// Bounds on what a file may claim. They are far above real models, and low enough that no product of them overflows.
const (
	maxLayers  = 1024
	maxEmbd    = 1 << 17
	maxHeads   = 1024
	maxHeadDim = 512
	maxFFN     = 1 << 20
	maxVocab   = 1 << 22
	maxContext = 1 << 24
)

// Config is what a model is, as its file's header describes it. It is a value to read; nothing changes it after Parse.
type Config struct {
	Arch string // the family, by its name in the file: "llama"
	Name string // the model's own name, for people; may be empty

	Layers     int
	Embd       int // elements of a hidden state
	Heads      int // query heads
	KVHeads    int // heads of keys and values; divides Heads
	HeadDim    int // elements of a head
	FFN        int // elements between a feed-forward block's matrices
	Vocab      int // rows of the embedding
	TrainedCtx int // positions the model was trained for

	Eps       float32 // of every norm
	AttnScale float32 // factor of an attention score
	Window    int     // a query sees this many positions, itself included; 0: all before it
	Rope      Rope

	Tied    bool // the embedding is the output projection too
	QKVBias bool // biases on queries, keys and values
	QKNorm  bool // a norm on each head of queries and keys

	Experts   kernels.ExpertShape // of feed-forward blocks of experts; Count is 0 where there is one block for all tokens
	SharedFFN int                 // elements between the matrices of an expert that every token takes; 0 without
}

// Parse reads a model's configuration from its header: metadata and tensor infos (of all parts of a split file). It
// checks that every tensor the model needs is there in the right shape. An unknown architecture is an error that names
// it and lists the known ones.
func Parse(meta *gguf.Meta, tensors []gguf.Tensor) (*Config, error) {
	arch, err := meta.String("general.architecture")
	if err != nil {
		return nil, err
	}
	f, err := familyOf(arch)
	if err != nil {
		return nil, err
	}
	r := &reader{meta: meta, arch: arch, tensors: make(map[string]*gguf.Tensor, len(tensors))}
	for i := range tensors {
		r.tensors[tensors[i].Name] = &tensors[i]
	}
	c := &Config{Arch: arch}
	r.shape(c)
	r.attention(c)
	r.rope(c, f.rope)
	if !f.experts {
		r.refuseExperts()
	}
	if r.err == nil {
		f.read(r, c)
	}
	if r.err != nil {
		return nil, fmt.Errorf("model of architecture %s: %w", arch, r.err)
	}
	if err := c.checkTensors(r.tensors); err != nil {
		return nil, fmt.Errorf("model of architecture %s: %w", arch, err)
	}
	return c, nil
}

// reader reads a family's keys. Its first error sticks, so that callers check once.
type reader struct {
	meta    *gguf.Meta
	arch    string
	tensors map[string]*gguf.Tensor
	err     error
}

func (r *reader) key(name string) string { return r.arch + "." + name }

func (r *reader) has(tensor string) bool { return r.tensors[tensor] != nil }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// bounded checks that v, the value of key, is in lo..hi.
func (r *reader) bounded(key string, v uint64, err error, lo, hi int) int {
	switch {
	case r.err != nil:
		return lo
	case err != nil:
		r.err = err
		return lo
	case v < uint64(lo) || v > uint64(hi):
		r.fail("metadata %s is %d; %d to %d was expected", key, v, lo, hi)
		return lo
	}
	return int(v)
}

// int reads a whole number that must be there.
func (r *reader) int(name string, lo, hi int) int {
	v, err := r.meta.Uint(r.key(name))
	return r.bounded(r.key(name), v, err, lo, hi)
}

// intOr reads a whole number with a default for a missing key.
func (r *reader) intOr(name string, def, lo, hi int) int {
	v, err := r.meta.UintOr(r.key(name), uint64(def))
	return r.bounded(r.key(name), v, err, lo, hi)
}

// same reads a number that a file may give once a layer; all layers must agree.
func (r *reader) same(name string, layers, def, lo, hi int) int {
	if !r.meta.Has(r.key(name)) {
		return def
	}
	vs, err := r.meta.PerLayer(r.key(name), layers)
	if err != nil {
		return r.bounded(r.key(name), 0, err, lo, hi)
	}
	for _, v := range vs {
		if v != vs[0] {
			r.fail("metadata %s differs between layers (%d and %d), which this build cannot compute", r.key(name), vs[0], v)
		}
	}
	return r.bounded(r.key(name), vs[0], nil, lo, hi)
}

// floatOr reads a number in lo..hi with a default for a missing key.
func (r *reader) floatOr(name string, def, lo, hi float64) float64 {
	v, err := r.meta.FloatOr(r.key(name), def)
	switch {
	case r.err != nil:
		return def
	case err != nil:
		r.err = err
		return def
	case !(v >= lo && v <= hi): // so that a NaN is refused
		r.fail("metadata %s is %v; %v to %v was expected", r.key(name), v, lo, hi)
		return def
	}
	return v
}

func (r *reader) shape(c *Config) {
	var err error
	if c.Name, err = r.meta.StringOr("general.name", ""); err != nil && r.err == nil {
		r.err = err
	}
	c.Layers = r.int("block_count", 1, maxLayers)
	c.Embd = r.int("embedding_length", 1, maxEmbd)
	c.FFN = r.same("feed_forward_length", c.Layers, 0, 1, maxFFN)
	if c.FFN == 0 {
		r.fail("metadata %s is missing", r.key("feed_forward_length"))
	}
	c.TrainedCtx = r.int("context_length", 1, maxContext)
	c.Vocab = r.vocab()
	c.Tied = !r.has("output.weight")
}

// vocab is the number of rows of the embedding, which is what is computed with.
func (r *reader) vocab() int {
	t := r.tensors["token_embd.weight"]
	if t == nil {
		r.fail("tensor token_embd.weight is missing; is this a part of a split file, or no language model?")
		return 1
	}
	if len(t.Dims) != 2 {
		r.fail("tensor token_embd.weight has %d dimensions; 2 were expected", len(t.Dims))
		return 1
	}
	return r.bounded("(rows of token_embd.weight)", t.Dims[1], nil, 1, maxVocab)
}

func (r *reader) attention(c *Config) {
	c.Heads = r.same("attention.head_count", c.Layers, 0, 1, maxHeads)
	if c.Heads == 0 {
		r.fail("metadata %s is missing", r.key("attention.head_count"))
		return
	}
	c.KVHeads = r.same("attention.head_count_kv", c.Layers, c.Heads, 1, maxHeads)
	if r.err == nil && c.Heads%c.KVHeads != 0 {
		r.fail("%d query heads are no multiple of %d KV heads", c.Heads, c.KVHeads)
		return
	}
	c.HeadDim = r.intOr("attention.key_length", max(1, c.Embd/c.Heads), 2, maxHeadDim)
	if v := r.intOr("attention.value_length", c.HeadDim, 2, maxHeadDim); v != c.HeadDim {
		r.fail("keys of %d elements and values of %d differ, which this build cannot compute", c.HeadDim, v)
	}
	if c.HeadDim%2 != 0 {
		r.fail("heads of %d elements cannot be rotated; an even number was expected", c.HeadDim)
	}
	if !r.meta.Has(r.key("attention.layer_norm_rms_epsilon")) {
		r.fail("metadata %s is missing", r.key("attention.layer_norm_rms_epsilon"))
	}
	// The contract refuses an epsilon below its floor: a row of zeros would be divided by nothing.
	c.Eps = float32(r.floatOr("attention.layer_norm_rms_epsilon", 1e-5, 0x1p-40, 1))
	c.AttnScale = float32(r.floatOr("attention.scale", 1/math.Sqrt(float64(c.HeadDim)), 1e-6, 1e3))
}

// KVLayout is the shape of the KV memory of a layer range.
func (c *Config) KVLayout(p Profile, r Range) kernels.KVLayout {
	return kernels.KVLayout{Type: p.KV, Layers: r.Len(), Heads: c.KVHeads, HeadDim: c.HeadDim}
}
