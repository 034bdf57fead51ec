package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store"
)

// benched is the model to measure with, and what its steps read and compute.
type benched struct {
	name    string
	id      [32]byte
	config  *model.Config
	profile model.Profile
	source  *store.Model

	sizes             model.Sizes
	headBytes         int64 // packed weights that a step reads beside the layers
	layerOps, headOps int64 // multiply-adds times two, of one row
}

// open finds the model in the home's store, entering it if ref is a file, and
// packs what is not packed yet.
func open(ctx context.Context, home, ref string, progress func(api.Progress)) (*benched, error) {
	s, err := store.Open(home, store.Options{})
	if err != nil {
		return nil, err
	}
	bytes := func(phase, text string) store.Progress {
		return func(done, total uint64) {
			progress(api.Progress{Phase: phase, Text: text, Done: int64(done), Total: int64(total), Unit: "bytes"})
		}
	}
	e, err := s.Resolve(ref)
	if st, serr := os.Stat(ref); serr == nil && st.Mode().IsRegular() {
		e, err = s.Add(ctx, ref, store.AddOptions{Progress: bytes("hash", "reading "+filepath.Base(ref))})
	}
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	src, err := s.Model(e)
	if err != nil {
		return nil, err
	}
	m := &benched{name: e.Name, id: e.Model, profile: e.Profile, source: src}
	if err := m.read(); err != nil {
		_ = src.Close()
		return nil, fmt.Errorf("bench %s: %w", e.Ref(), err)
	}
	var names []string
	for _, t := range m.config.Tensors(m.config.All()) {
		names = append(names, t.Name)
	}
	if err := src.Prepare(ctx, names, bytes("pack", "packing "+e.Name)); err != nil {
		_ = src.Close()
		return nil, fmt.Errorf("bench %s: %w", e.Ref(), err)
	}
	machine.ReturnMemory()
	return m, nil
}

// read takes shapes and sizes from the header.
func (m *benched) read() error {
	h := m.source.Manifest().Header
	var err error
	if m.config, err = model.Parse(h.Meta, h.Tensors); err != nil {
		return err
	}
	if m.sizes, err = m.config.Sizes(h.Tensors); err != nil {
		return err
	}
	m.headBytes = m.sizes.Head
	if m.config.Tied {
		m.headBytes += m.sizes.Embed
	}
	for _, t := range m.config.Tensors(m.config.All()) {
		if t.Layer >= 0 && !t.Vector {
			ops := 2 * int64(t.Rows) * int64(t.Cols)
			if t.Experts > 0 { // a row takes some of them
				ops = ops / int64(t.Experts) * int64(m.config.Experts.Used)
			}
			m.layerOps += ops
		}
	}
	m.headOps = 2 * int64(m.config.Vocab) * int64(m.config.Embd)
	return nil
}

// stage loads the whole model with KV memory for the widest of the tests.
func (m *benched) stage(ctx context.Context, dev kernels.Device, tests []test) (*shard.Stage, error) {
	blocks := 1
	for _, t := range tests {
		blocks = max(blocks, t.parallel*((t.positions()+kernels.BlockPositions-1)/kernels.BlockPositions))
	}
	return shard.New(ctx, shard.Options{
		Model: m.config, ID: m.id, Profile: m.profile, Range: m.config.All(), Source: m.source, Device: dev,
		Blocks: blocks, MaxRows: maxRows,
	})
}

// weightBytes is the packed weights of all layers, and what a step reads beside.
func (m *benched) weightBytes() int64 {
	n := m.headBytes
	for _, b := range m.sizes.Layers {
		n += b
	}
	return n
}

// layerBytes is the packed weights of all layers that a step of so many rows reads.
func (m *benched) layerBytes(rows int) (n int64) {
	for l := range m.sizes.Layers {
		n += m.sizes.Read(l, rows)
	}
	return n
}

// rates says what a result means in bytes and operations a second. Attention is
// not counted.
func (m *benched) rates(r *api.BenchResult, limits api.BenchMachine) {
	// One unit is a whole prefill, or a step of all sessions.
	perSecond := r.Median / float64(r.Parallel)
	bytes, ops := m.layerBytes(r.Parallel)+m.headBytes, int64(r.Parallel)*(m.layerOps+m.headOps)
	if r.NPrompt > 0 {
		perSecond /= float64(r.NPrompt)
		chunks := int64((r.NPrompt + maxRows - 1) / maxRows)
		bytes, ops = chunks*m.layerBytes(min(r.NPrompt, maxRows))+m.headBytes, int64(r.NPrompt)*m.layerOps+m.headOps
	}
	r.WeightsBps, r.Ops = perSecond*float64(bytes), perSecond*float64(ops)
	r.MemoryShare, r.ProductShare = r.WeightsBps/limits.ReadBps, r.Ops/limits.ProductOps
}

func (m *benched) close() { _ = m.source.Close() }
