package model

import (
	"errors"

	"github.com/weft-mesh/weft/kernels"
)

// Graph is a layer range on a device, with buffers for its widest batch. It is used by one goroutine at a time, the one
// that uses the device. A Forward or Embed comes before Layers, Layers before Hidden and Project.
type Graph struct {
	dev      kernels.Device
	cfg      *Config
	rng      Range
	maxRows  int
	headRows int
	attn     kernels.AttnParams

	layers   []layer
	embed    kernels.Matrix // nil where the range neither embeds nor projects with it
	headNorm kernels.Vector
	head     kernels.Matrix
	table    kernels.Rope

	x, h       kernels.Buffer // hidden states, and what a block makes of them
	qb, kb, vb kernels.Buffer
	ab         kernels.Buffer // results of attention
	gb, ub     kernels.Buffer // gate and up; nil where there are only experts
	rb, mb, sb kernels.Buffer // of experts: the router's logits; the shared one's gate and what it makes; nil without
	room       kernels.Experts
	hx, logits kernels.Buffer // of the rows that are projected

	embdActs, attnActs, ffnActs kernels.Acts

	headBatch kernels.Batch
	matrices  []kernels.Matrix
	handles   []any // to be freed
}

// layer is one layer's weights.
type layer struct {
	attnNorm, ffnNorm kernels.Vector
	q, k, v           projection
	out               kernels.Matrix
	gate, up, down    kernels.Matrix
	experts           *expertLayer // instead of gate, up and down; nil without
}

// projection makes queries, keys or values.
type projection struct {
	w    kernels.Matrix
	bias kernels.Vector // nil without
	norm kernels.Vector // of each head; nil without
}

// Config is the model's configuration.
func (g *Graph) Config() *Config { return g.cfg }

// MaxRows is the widest batch.
func (g *Graph) MaxRows() int { return g.maxRows }

// HeadRows is how many rows Project takes at most.
func (g *Graph) HeadRows() int { return g.headRows }

func (g *Graph) projects() bool { return g.cfg.Projects(g.rng) }

// Embed makes token ids, one a batch row, the input of Layers. Only the first range embeds.
func (g *Graph) Embed(b *kernels.Batch, ids []int32) {
	b.Layer = -1
	g.dev.Embed(b, g.x, g.embed, ids)
}

// Input makes hidden states the input of Layers, from batch row on.
func (g *Graph) Input(row int, hidden []float32) { g.dev.Write(g.x, row, hidden) }

// Layers computes the batch through the range's layers. It does not wait.
func (g *Graph) Layers(b *kernels.Batch, kv kernels.KV) {
	for i := range g.layers {
		b.Layer = g.rng.First + i
		g.attention(b, &g.layers[i], kv, i)
		g.feedForward(b, &g.layers[i])
	}
}

// attention adds to x what a layer's attention makes of it.
func (g *Graph) attention(b *kernels.Batch, l *layer, kv kernels.KV, index int) {
	d := g.dev
	d.Norm(b, g.h, g.x, l.attnNorm, g.cfg.Eps)
	d.Prepare(b, g.embdActs, g.h)
	// The products come in a row, as devices may run such ones together.
	d.MatMul(b, g.qb, l.q.w, g.embdActs)
	d.MatMul(b, g.kb, l.k.w, g.embdActs)
	d.MatMul(b, g.vb, l.v.w, g.embdActs)
	g.finish(b, g.qb, &l.q)
	g.finish(b, g.kb, &l.k)
	g.finish(b, g.vb, &l.v)
	d.Rotate(b, g.qb, g.cfg.HeadDim, g.table, g.cfg.Rope.Mode)
	d.Rotate(b, g.kb, g.cfg.HeadDim, g.table, g.cfg.Rope.Mode)
	d.StoreKV(b, kv, index, g.kb, g.vb)
	d.Attention(b, g.ab, g.qb, kv, index, g.attn)
	d.Prepare(b, g.attnActs, g.ab)
	d.MatMul(b, g.h, l.out, g.attnActs)
	d.Add(b, g.x, g.h)
}

// finish adds a projection's bias, and normalises heads where the model does.
func (g *Graph) finish(b *kernels.Batch, dst kernels.Buffer, p *projection) {
	if p.bias != nil {
		g.dev.AddVector(b, dst, p.bias)
	}
	if p.norm != nil {
		g.dev.Norm(b, dst, dst, p.norm, g.cfg.Eps)
	}
}

// feedForward adds to x what a layer's feed-forward block makes of it.
func (g *Graph) feedForward(b *kernels.Batch, l *layer) {
	d := g.dev
	d.Norm(b, g.h, g.x, l.ffnNorm, g.cfg.Eps)
	d.Prepare(b, g.embdActs, g.h)
	if l.experts != nil {
		g.feedForwardExperts(b, l.experts)
		d.Add(b, g.x, g.h)
		return
	}
	d.MatMul(b, g.gb, l.gate, g.embdActs)
	d.MatMul(b, g.ub, l.up, g.embdActs)
	d.SiLUMul(b, g.gb, g.gb, g.ub)
	d.Prepare(b, g.ffnActs, g.gb)
	d.MatMul(b, g.h, l.down, g.ffnActs)
	d.Add(b, g.x, g.h)
}

// Hidden waits, then copies the hidden states of the first len(dst)/Embd batch rows.
func (g *Graph) Hidden(dst []float32) error { return g.dev.Read(dst, g.x, 0) }

// HostMemory says that logits lie in the host's memory, so that all of them may be read.
func (g *Graph) HostMemory() bool { return g.dev.HostMemory() }

// Project waits for the final hidden states (after the norm) and the logits of some of the batch's rows, at most HeadRows.
// states may be nil. Faults are appended to b, with the rows' numbers in b. Only the last range projects.
func (g *Graph) Project(b *kernels.Batch, rows []int32, states, logits []float32) error {
	g.project(b, rows)
	if err := g.dev.Read(logits, g.logits, 0); err != nil {
		return err
	}
	return g.projected(b, rows, states)
}

// Reduce is Project, but for what r asks about the logits: those stay where they are until the next projection. Rows of r
// count in rows.
func (g *Graph) Reduce(b *kernels.Batch, rows []int32, states []float32, r *kernels.Reduction) error {
	g.project(b, rows)
	if err := g.Ask(r); err != nil {
		return err
	}
	return g.projected(b, rows, states)
}

// Ask asks more about the rows of the last projection, and waits.
func (g *Graph) Ask(r *kernels.Reduction) error { return g.dev.Reduce(g.logits, r) }

// Logits waits and copies the logits of one of the rows of the last projection.
func (g *Graph) Logits(dst []float32, row int) error { return g.dev.Read(dst, g.logits, row) }

// project computes the logits of some of the batch's rows.
func (g *Graph) project(b *kernels.Batch, rows []int32) {
	hb := &g.headBatch
	hb.Rows, hb.Faults, hb.Seqs, hb.Layer = hb.Rows[:0], hb.Faults[:0], b.Seqs, -1
	for _, r := range rows {
		hb.Rows = append(hb.Rows, b.Rows[r])
	}
	g.dev.Gather(g.hx, g.x, rows)
	g.dev.Norm(hb, g.hx, g.hx, g.headNorm, g.cfg.Eps)
	g.dev.Prepare(hb, g.embdActs, g.hx)
	g.dev.MatMul(hb, g.logits, g.head, g.embdActs)
	g.dev.CheckFinite(hb, g.logits)
}

// projected waits for the end of a projection.
func (g *Graph) projected(b *kernels.Batch, rows []int32, states []float32) error {
	if states != nil {
		if err := g.dev.Read(states, g.hx, 0); err != nil {
			return err
		}
	}
	if err := g.dev.Sync(); err != nil {
		return err
	}
	for _, f := range g.headBatch.Faults {
		f.Row = int(rows[f.Row])
		b.Faults = append(b.Faults, f)
	}
	return nil
}

// Sync waits until all that was asked for is computed.
func (g *Graph) Sync() error { return g.dev.Sync() }

// Close frees the graph's memory on its device.
func (g *Graph) Close() error {
	for _, h := range g.handles {
		g.dev.Free(h)
	}
	var errs []error
	for _, m := range g.matrices {
		errs = append(errs, m.Close())
	}
	g.handles, g.matrices = nil, nil
	return errors.Join(errs...)
}
