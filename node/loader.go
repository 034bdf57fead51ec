package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/node/worker"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// maxRows is the widest batch of a step: room for a prefill chunk beside the
// decode rows of many sessions.
const maxRows = 256

// loader brings stages into being: weights from the store, or from peers into
// the store, onto this node's processor and devices.
type loader struct {
	lib    *library
	store  *store.Store
	device kernels.Device // the processor
	node   *Node
	log    *slog.Logger
	// fetch makes the store hold the tensors.
	fetch func(ctx context.Context, o *opened, missing []*manifest.Tensor, progress func(done, total uint64)) error

	// dropIdle gives back a stage of another model that nobody uses, so that its
	// weights may leave the disk; false when there is none. Nil: there never is.
	dropIdle func(s worker.StageSpec) bool

	// mu is held around every use of the processor.
	mu sync.Mutex
}

func profileOf(p *weftv1.Profile) (model.Profile, error) {
	out := model.Profile{Contract: int(p.GetContract()), Act: kernels.ActBits(p.GetActBits()), KV: kernels.KVType(p.GetKvType()), Context: int(p.GetContext())}
	if p.GetActBits() > 255 || p.GetKvType() > 255 || p.GetContext() > 1<<30 {
		return model.Profile{}, fmt.Errorf("numeric profile is out of range")
	}
	return out, out.Validate()
}

func profileProto(p model.Profile) *weftv1.Profile {
	return &weftv1.Profile{Contract: uint32(p.Contract), ActBits: uint32(p.Act), KvType: uint32(p.KV), Context: uint32(p.Context)}
}

// open reads the header of the model that a stage belongs to, from any holder
// when it is not here. Nothing is kept on disk: anybody in the mesh may propose.
func (l *loader) open(ctx context.Context, s worker.StageSpec) (*opened, model.Range, error) {
	p, err := profileOf(s.Profile)
	if err != nil {
		return nil, model.Range{}, err
	}
	id := manifest.Hash(s.Model)
	o, err := l.lib.borrow(ctx, store.Entry{Name: s.Name, Model: id, Profile: p})
	if err != nil {
		return nil, model.Range{}, err
	}
	r := model.Range{First: s.First, End: s.Last + 1}
	if s.Layers != o.config.Layers {
		return nil, r, fmt.Errorf("the plan says that %s has %d layers, it has %d", s.Name, s.Layers, o.config.Layers)
	}
	return o, r, o.config.CheckRange(r)
}

// Needs implements worker.Loader.
func (l *loader) Needs(ctx context.Context, s worker.StageSpec) (worker.Needs, error) {
	o, r, err := l.open(ctx, s)
	if err != nil {
		return worker.Needs{}, err
	}
	p := o.entry.Profile
	if s.KVPositions < p.Context {
		return worker.Needs{}, fmt.Errorf("the plan reserves KV for %d positions, one session may need %d", s.KVPositions, p.Context)
	}
	if l.node != nil {
		l.node.awaitDevices(ctx)
	}
	return l.placed(o, r, s, nil), nil
}

// needsOf is the memory of a stage with layers r and KV for that many positions.
func needsOf(o *opened, r model.Range, positions int) worker.Needs {
	p := o.entry.Profile
	return worker.Needs{
		Weights:     uint64(o.sizes.Weights(r)),
		KV:          uint64(o.config.KVBytes(p, r, positions)),
		Activations: uint64(o.config.WorkBytes(p, r, maxRows)),
	}
}

// Load implements worker.Loader.
func (l *loader) Load(ctx context.Context, s worker.StageSpec, progress func(worker.Phase, uint64, uint64)) (*worker.Loaded, error) {
	o, r, err := l.open(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := l.enter(ctx, o, s.Name); err != nil {
		return nil, err
	}
	if l.node != nil {
		l.node.drafts.giveWay()
	}
	src, err := l.store.Model(o.entry)
	if err != nil {
		return nil, err
	}
	err = l.prepare(ctx, o, src, r, progress)
	for errors.Is(err, packed.ErrNoSpace) && l.dropIdle != nil && l.dropIdle(s) {
		err = l.prepare(ctx, o, src, r, progress)
	}
	if err != nil {
		_ = src.Close()
		return nil, err
	}
	out, err := l.build(ctx, o, r, s, src, progress)
	if err != nil {
		_ = src.Close()
		return nil, err
	}
	return out, nil
}

// enter makes the model known to the store, so that what is fetched of it has an
// owner. A model that has an entry under any name is known.
func (l *loader) enter(ctx context.Context, o *opened, name string) error {
	entries, err := l.store.List()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Model == o.entry.Model {
			return nil
		}
	}
	if _, err := l.store.Import(o.manifest.Encode(), o.entry.Model, store.AddOptions{Name: name, Profile: o.entry.Profile}); err != nil {
		return fmt.Errorf("enter %s: %w", name, err)
	}
	if l.lib.learn != nil {
		l.lib.learn(ctx, o.entry.Model)
	}
	return nil
}

// prepare makes the range's tensors lie packed in the store: fetched from peers
// where they are not here, packed where they were not used before.
func (l *loader) prepare(ctx context.Context, o *opened, src *store.Model, r model.Range, progress func(worker.Phase, uint64, uint64)) error {
	var names []string
	for _, t := range o.config.Tensors(r) {
		names = append(names, t.Name)
	}
	missing, err := src.Missing(names)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		if err := l.fetch(ctx, o, missing, func(done, total uint64) { progress(worker.Fetching, done, total) }); err != nil {
			return err
		}
	}
	worked := len(missing) > 0
	err = src.Prepare(ctx, names, func(done, total uint64) {
		worked = true
		progress(worker.Loading, done, total)
	})
	if worked { // a warm start has nothing to return and does not wait for it
		machine.ReturnMemory()
	}
	return err
}
