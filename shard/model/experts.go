package model

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/shard/gguf"
)

// Names of a layer's tensors of experts, and of the expert that every token takes.
const (
	routerName     = "ffn_gate_inp.weight"
	expertGateName = "ffn_gate_exps.weight"
	expertUpName   = "ffn_up_exps.weight"
	expertDownName = "ffn_down_exps.weight"
	sharedGateName = "ffn_gate_shexp.weight"
	sharedUpName   = "ffn_up_shexp.weight"
	sharedDownName = "ffn_down_shexp.weight"
	sharedMixName  = "ffn_gate_inp_shexp.weight"
)

// softmaxGating is the value of expert_gating_func for weights by softmax, the only ones that known families have.
const softmaxGating = 1

// HasExperts reports whether the feed-forward blocks of the model are experts.
func (c *Config) HasExperts() bool { return c.Experts.Count > 0 }

// refuseExperts is for families that have none.
func (r *reader) refuseExperts() {
	if n := r.intOr("expert_count", 0, 0, maxVocab); n > 0 {
		r.fail("it has %d experts (%s), which models of this architecture do not have", n, r.key("expert_count"))
	}
}

// experts reads what a model with experts says of them. even says whether the family's weights of the experts that a token
// takes add up to 1, for files that do not say.
func (r *reader) experts(c *Config, even bool) {
	s := kernels.ExpertShape{
		Count: r.int("expert_count", 1, kernels.MaxExperts),
		Used:  r.int("expert_used_count", 1, kernels.MaxExpertsUsed),
		Embd:  c.Embd,
		FFN:   r.expertFFN(),
		Scale: float32(r.floatOr("expert_weights_scale", 1, 0, 1e6)),
	}
	if s.Scale == 0 { // means none
		s.Scale = 1
	}
	var err error
	if s.Renormalise, err = r.meta.BoolOr(r.key("expert_weights_norm"), even); err != nil && r.err == nil {
		r.err = err
	}
	if f := r.intOr("expert_gating_func", softmaxGating, 0, 1000); f > softmaxGating {
		r.fail("metadata %s is %d; this build computes expert weights by softmax (%d) only", r.key("expert_gating_func"), f, softmaxGating)
	}
	if n := r.intOr("expert_group_count", 1, 0, kernels.MaxExperts); n > 1 {
		r.fail("its experts come in %d groups (%s), which this build cannot compute", n, r.key("expert_group_count"))
	}
	if err := s.Validate(); err != nil {
		r.fail("%w", err)
	}
	c.Experts = s
}

// expertFFN is the elements between an expert's matrices: some files leave it to the tensors.
func (r *reader) expertFFN() int {
	rows := 0
	if t := r.tensors[layerName(0, expertGateName)]; t != nil && len(t.Dims) > 1 {
		rows = int(min(t.Dims[1], maxFFN+1))
	} else if r.has(layerName(0, "ffn_gate.0.weight")) {
		r.fail("its experts are tensors of their own, as files of before April 2024 have them; get the model anew, or convert it again")
	}
	return r.bounded(r.key("expert_feed_forward_length"), uint64(r.intOr("expert_feed_forward_length", rows, 0, maxFFN)), nil, 1, maxFFN)
}

// sharedExpert reads the expert that every token takes beside the chosen ones.
func (r *reader) sharedExpert(c *Config) {
	c.SharedFFN = r.intOr("expert_shared_feed_forward_length", c.FFN, 1, maxFFN)
}

// expertTensors lists a layer's tensors of experts.
func (c *Config) expertTensors(l int) []TensorSpec {
	e := c.Experts
	many := func(name string, rows, cols int) TensorSpec {
		return TensorSpec{Name: layerName(l, name), Layer: l, Rows: e.Count * rows, Cols: cols, Experts: e.Count}
	}
	out := []TensorSpec{
		{Name: layerName(l, routerName), Layer: l, Rows: e.Count, Cols: c.Embd},
		many(expertGateName, e.FFN, c.Embd),
		many(expertUpName, e.FFN, c.Embd),
		many(expertDownName, c.Embd, e.FFN),
	}
	if c.SharedFFN > 0 {
		out = append(out,
			TensorSpec{Name: layerName(l, sharedGateName), Layer: l, Rows: c.SharedFFN, Cols: c.Embd},
			TensorSpec{Name: layerName(l, sharedUpName), Layer: l, Rows: c.SharedFFN, Cols: c.Embd},
			TensorSpec{Name: layerName(l, sharedDownName), Layer: l, Rows: c.Embd, Cols: c.SharedFFN},
			TensorSpec{Name: layerName(l, sharedMixName), Layer: l, Vector: true, Factor: true, Rows: 1, Cols: c.Embd})
	}
	return out
}

// checkExperts checks that the file has one matrix an expert where the model has them.
func (s TensorSpec) checkExperts(t *gguf.Tensor) error {
	if s.Experts <= 1 || len(t.Dims) == 3 && t.Dims[2] == uint64(s.Experts) {
		return nil
	}
	return fmt.Errorf("tensor %s has the dimensions %d; %d matrices were expected, one an expert", s.Name, t.Dims, s.Experts)
}

// expertLayer is a layer's experts.
type expertLayer struct {
	router  kernels.Matrix
	weights kernels.ExpertWeights
	// Of the expert that every token takes; nil without.
	gate, up, down, mix kernels.Matrix
}

// feedForwardExperts stores in h what the experts make of h.
func (g *Graph) feedForwardExperts(b *kernels.Batch, e *expertLayer) {
	d := g.dev
	d.MatMul(b, g.rb, e.router, g.embdActs)
	if e.mix != nil {
		d.MatMul(b, g.mb, e.mix, g.embdActs)
		d.MatMul(b, g.gb, e.gate, g.embdActs)
		d.MatMul(b, g.ub, e.up, g.embdActs)
	}
	d.MixExperts(b, g.h, g.room, g.rb, g.embdActs, e.weights)
	if e.mix == nil {
		return
	}
	d.SiLUMul(b, g.gb, g.gb, g.ub)
	d.Prepare(b, g.ffnActs, g.gb)
	d.MatMul(b, g.sb, e.down, g.ffnActs)
	d.AddGated(b, g.h, g.sb, g.mb)
}

// factor makes a vector of the file a matrix of one row.
func (l *loader) factor(s TensorSpec, v []float32) error {
	p, err := quant.New(quant.F32, 1, len(v))
	if err != nil {
		return err
	}
	var raw bytes.Buffer
	if err := binary.Write(&raw, binary.LittleEndian, v); err != nil {
		return err
	}
	if err := p.Pack(raw.Bytes(), 0, 1); err != nil {
		return err
	}
	return l.matrix(s, p)
}

// wireExperts gives a layer its experts; nil where the model has none.
func (g *Graph) wireExperts(m func(name string) kernels.Matrix) *expertLayer {
	if !g.cfg.HasExperts() {
		return nil
	}
	return &expertLayer{
		router:  m(routerName),
		weights: kernels.ExpertWeights{Gate: m(expertGateName), Up: m(expertUpName), Down: m(expertDownName)},
		gate:    m(sharedGateName), up: m(sharedUpName), down: m(sharedDownName), mix: m(sharedMixName),
	}
}

// innerFFN is the width of gate and up outside of experts; 0 where there are only those.
func (c *Config) innerFFN() int {
	if c.HasExperts() {
		return c.SharedFFN
	}
	return c.FFN
}

// FeedForwardMacs is the multiply-adds of a layer's feed-forward block for one token.
func (c *Config) FeedForwardMacs() int64 {
	macs := 3 * int64(c.Embd) * int64(c.innerFFN())
	if e := c.Experts; e.Count > 0 {
		macs += int64(c.Embd) * (3*int64(e.Used)*int64(e.FFN) + int64(e.Count))
	}
	return macs
}

// expertWork is about what the experts' room takes, with batches of maxRows: a row has a place for each expert that it
// takes, and devices that work in tiles leave some places of each expert empty.
func (c *Config) expertWork(p Profile, maxRows int) int64 {
	e := c.Experts
	if e.Count == 0 {
		return 0
	}
	choices, rows := int64(maxRows)*int64(e.Used), int64(maxRows)
	places := choices + 7*min(choices, int64(e.Count))
	embd, ffn := int64(e.Embd), int64(e.FFN)
	n := 4 * places * (2*ffn + embd)
	n += places * (embd + ffn) * (4 + int64(p.Act)/8 + 1)
	n += 4 * rows * (int64(e.Count) + 1)
	if c.SharedFFN > 0 {
		n += 4 * rows * embd
	}
	return n
}
