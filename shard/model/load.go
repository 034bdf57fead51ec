package model

import (
	"context"
	"errors"
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/quant"
)

// DefaultHeadRows is how many rows are projected to logits at a time. Logits are large (a vocabulary each), so they are
// made for a few rows after another where a step samples many.
const DefaultHeadRows = 16

// LoadOptions are what a graph is made of.
type LoadOptions struct {
	Config   *Config
	Profile  Profile
	Range    Range
	Source   Source
	Device   kernels.Device // stays the caller's
	MaxRows  int            // rows of a batch at most
	HeadRows int            // rows that are projected at a time; 0: DefaultHeadRows
	// Progress, when not nil, is told after each tensor how many of the tensors' elements are loaded.
	Progress func(done, total int64)
}

func (o *LoadOptions) validate() error {
	if err := o.Profile.Validate(); err != nil {
		return err
	}
	if err := o.Config.CheckRange(o.Range); err != nil {
		return err
	}
	if o.MaxRows < 1 {
		return fmt.Errorf("a batch of %d rows; at least 1 was expected", o.MaxRows)
	}
	if o.HeadRows == 0 {
		o.HeadRows = DefaultHeadRows
	}
	o.HeadRows = min(o.HeadRows, o.MaxRows)
	return nil
}

// Load loads a layer range. It blocks while the source gives tensors and stops early when ctx ends; on an error nothing
// stays on the device.
func Load(ctx context.Context, o LoadOptions) (*Graph, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	g := &Graph{
		dev: o.Device, cfg: o.Config, rng: o.Range, maxRows: o.MaxRows, headRows: o.HeadRows,
		attn: kernels.AttnParams{Heads: o.Config.Heads, Scale: o.Config.AttnScale, Window: o.Config.Window},
	}
	l := &loader{g: g, src: o.Source, progress: o.Progress, matrices: make(map[string]kernels.Matrix), vectors: make(map[string]kernels.Vector)}
	err := l.tensors(ctx)
	if err == nil {
		g.wire(l)
		err = g.rope(o.Profile.Context, l.freqs)
	}
	if err == nil {
		err = g.buffers(o.Profile.Act)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load layers %d to %d: %w", o.Range.First, o.Range.End-1, err), g.Close())
	}
	return g, nil
}

// loader puts a range's tensors on the device.
type loader struct {
	g        *Graph
	src      Source
	progress func(done, total int64)
	matrices map[string]kernels.Matrix
	vectors  map[string]kernels.Vector
	freqs    []float32
}

func (l *loader) tensors(ctx context.Context) error {
	specs := l.g.cfg.Tensors(l.g.rng)
	var done int64
	total := l.g.cfg.Elements(l.g.rng)
	for _, s := range specs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.tensor(s); err != nil {
			return fmt.Errorf("tensor %s: %w", s.Name, err)
		}
		done += s.elements()
		if l.progress != nil {
			l.progress(done, total)
		}
	}
	return nil
}

// Elements counts the elements of a range's tensors, as LoadOptions.Progress does.
func (c *Config) Elements(r Range) int64 {
	var n int64
	for _, s := range c.Tensors(r) {
		n += s.elements()
	}
	return n
}

func (s TensorSpec) elements() int64 { return int64(s.Rows) * int64(s.Cols) }

func (l *loader) tensor(s TensorSpec) error {
	if s.Vector {
		return l.vector(s)
	}
	p, err := l.src.Matrix(s.Name)
	if err != nil {
		return err
	}
	return l.matrix(s, p)
}

// matrix puts packed weights on the device.
func (l *loader) matrix(s TensorSpec, p *quant.Packed) error {
	if p.Rows != s.Rows || p.Cols != s.Cols {
		return fmt.Errorf("it is %d x %d; %d x %d was expected", p.Rows, p.Cols, s.Rows, s.Cols)
	}
	m, err := l.g.dev.NewMatrix(p)
	if err != nil {
		return err
	}
	l.g.matrices = append(l.g.matrices, m)
	l.matrices[s.Name] = m
	return nil
}

func (l *loader) vector(s TensorSpec) error {
	v, err := l.src.Vector(s.Name)
	if err != nil {
		return err
	}
	if len(v) != s.Cols {
		return fmt.Errorf("it has %d elements; %d were expected", len(v), s.Cols)
	}
	for i, x := range v {
		if !arith.Finite(x) {
			return fmt.Errorf("element %d is %v; the file is damaged", i, x)
		}
	}
	if s.Name == freqsName { // goes into the tables, not to the device
		l.freqs = v
		return nil
	}
	if s.Factor {
		return l.factor(s, v)
	}
	d, err := l.g.dev.NewVector(v)
	if err != nil {
		return err
	}
	l.g.handles = append(l.g.handles, d)
	l.vectors[s.Name] = d
	return nil
}

// wire gives every layer its tensors. A family without a tensor has nil there.
func (g *Graph) wire(l *loader) {
	for i := g.rng.First; i < g.rng.End; i++ {
		m := func(name string) kernels.Matrix { return l.matrices[layerName(i, name)] }
		v := func(name string) kernels.Vector { return l.vectors[layerName(i, name)] }
		g.layers = append(g.layers, layer{
			attnNorm: v("attn_norm.weight"), ffnNorm: v("ffn_norm.weight"),
			q:    projection{m("attn_q.weight"), v("attn_q.bias"), v("attn_q_norm.weight")},
			k:    projection{m("attn_k.weight"), v("attn_k.bias"), v("attn_k_norm.weight")},
			v:    projection{w: m("attn_v.weight"), bias: v("attn_v.bias")},
			out:  m("attn_output.weight"),
			gate: m("ffn_gate.weight"), up: m("ffn_up.weight"), down: m("ffn_down.weight"), experts: g.wireExperts(m),
		})
	}
	g.embed = l.matrices[embedName]
	g.headNorm = l.vectors[headNormName]
	g.head = l.matrices[headName]
	if g.cfg.Tied {
		g.head = g.embed
	}
}

// rope makes the tables for the declared context.
func (g *Graph) rope(positions int, freqs []float32) error {
	p := g.cfg.Rope.RopeParams
	p.Factors = freqs
	cos, sin, err := arith.RopeTable(p, positions)
	if err != nil {
		return err
	}
	if g.table, err = g.dev.NewRope(cos, sin, positions, p.Dims); err != nil {
		return err
	}
	g.handles = append(g.handles, g.table)
	return nil
}

// buffers makes room for the widest batch.
func (g *Graph) buffers(act kernels.ActBits) error {
	c := g.cfg
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	for _, b := range []struct {
		dst        *kernels.Buffer
		rows, cols int
		need       bool
	}{
		{&g.x, g.maxRows, c.Embd, true},
		{&g.h, g.maxRows, c.Embd, true},
		{&g.qb, g.maxRows, q, true},
		{&g.kb, g.maxRows, kv, true},
		{&g.vb, g.maxRows, kv, true},
		{&g.ab, g.maxRows, q, true},
		{&g.gb, g.maxRows, c.innerFFN(), c.innerFFN() > 0},
		{&g.ub, g.maxRows, c.innerFFN(), c.innerFFN() > 0},
		{&g.rb, g.maxRows, c.Experts.Count, c.HasExperts()},
		{&g.mb, g.maxRows, 1, c.SharedFFN > 0},
		{&g.sb, g.maxRows, c.Embd, c.SharedFFN > 0},
		{&g.hx, g.headRows, c.Embd, g.projects()},
		{&g.logits, g.headRows, c.Vocab, g.projects()},
	} {
		if !b.need {
			continue
		}
		var err error
		if *b.dst, err = g.dev.NewBuffer(b.rows, b.cols); err != nil {
			return err
		}
		g.handles = append(g.handles, *b.dst)
	}
	for _, a := range []struct {
		dst  *kernels.Acts
		cols int
	}{{&g.embdActs, c.Embd}, {&g.attnActs, q}, {&g.ffnActs, c.innerFFN()}} {
		if a.cols == 0 {
			continue
		}
		var err error
		if *a.dst, err = g.dev.NewActs(g.maxRows, a.cols, act); err != nil {
			return err
		}
		g.handles = append(g.handles, *a.dst)
	}
	if !c.HasExperts() {
		return nil
	}
	var err error
	if g.room, err = g.dev.NewExperts(c.Experts, g.maxRows, act); err != nil {
		return err
	}
	g.handles = append(g.handles, g.room)
	return nil
}
