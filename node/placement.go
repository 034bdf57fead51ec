package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/scheduler"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/kv"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store"
)

// placed lays a stage over this node's cards and its processor, as a planner does,
// within what plans in use leave of them: those of the same model give way to it.
// most bounds what a card may take. Where the layers do not fit, all are said to lie
// on the processor, whose accounts then tell how much is missing.
func (l *loader) placed(o *opened, r model.Range, s worker.StageSpec, most map[int]int64) worker.Needs {
	all := needsOf(o, r, s.KVPositions)
	n := l.node
	if n == nil || len(n.cards.get().Used()) == 0 {
		return all
	}
	plans := n.worker.Stats().Plans
	same := func(p *worker.PlanStats) bool {
		profile, err := profileOf(p.Plan.Id.Profile)
		return err == nil && string(p.Plan.Id.Model) == string(o.entry.Model[:]) && profile == o.entry.Profile
	}
	node := scheduler.Node{MemFree: n.offered(), DecodeBps: n.speed.DecodeBps, FarBps: n.speed.FarBps, Layer: n.speed.Layer, PrefillOps: n.speed.PrefillOps}
	for i := range plans {
		if inUse(&plans[i]) && !same(&plans[i]) {
			node.MemFree -= int64(plans[i].Needs.Machine())
		}
	}
	devices, numbers := n.ownDevices(plans, same)
	node.Devices = devices
	for i := range node.Devices {
		if m, ok := most[numbers[i]]; ok {
			node.Devices[i].MemFree = min(node.Devices[i].MemFree, m)
		}
	}
	m := shape(o)
	parts, err := scheduler.Lay(node, m, r.First, r.End-1, s.KVPositions)
	if err != nil || len(parts) == 1 && parts[0].Device == scheduler.Host {
		return all
	}
	needs := worker.Needs{}
	for _, p := range parts {
		at := worker.Place{Device: worker.Processor, First: p.First, Last: p.Last, Bytes: uint64(p.Bytes + p.KVBytes + m.StepBytes)}
		if p.Device != scheduler.Host {
			at.Device, at.Own = numbers[p.Device], !node.Devices[p.Device].Shared
		}
		needs.Places = append(needs.Places, at)
		needs.Weights += uint64(p.Bytes)
		needs.KV += uint64(p.KVBytes)
		needs.Activations += uint64(m.StepBytes)
	}
	return needs
}

// build loads a stage where it was placed. A card that turns out to have less memory
// gets fewer layers, one that fails gets none.
func (l *loader) build(ctx context.Context, o *opened, r model.Range, s worker.StageSpec, src *store.Model, progress func(worker.Phase, uint64, uint64)) (*worker.Loaded, error) {
	needs := s.Reserved
	most := map[int]int64{}
	for {
		out, err := l.load(ctx, o, r, s, needs, src, progress)
		if err == nil {
			return out, nil
		}
		card, less, ok := l.blame(needs, err)
		if !ok || ctx.Err() != nil {
			return nil, err
		}
		most[card] = less
		needs = l.placed(o, r, s, most)
		if spare := max(0, l.node.offered()-int64(l.node.worker.Stats().ReservedBytes)); int64(needs.Machine()) > int64(s.Reserved.Machine())+spare {
			return nil, fmt.Errorf("%w; without it %d bytes more of the machine's memory are needed, %d are left", err, needs.Machine()-s.Reserved.Machine(), spare)
		}
		l.log.Warn("stage is laid out anew", "model", s.Name, "first", s.First, "last", s.Last, "device_bytes", less, "error", err)
	}
}

// blame says which card an error of loading is about, and how much it may take at
// the next try; false for errors of something else.
func (l *loader) blame(needs worker.Needs, err error) (card int, less int64, ok bool) {
	var part *shard.PartError
	if !errors.As(err, &part) || part.Part >= len(needs.Places) || needs.Places[part.Part].Device == worker.Processor {
		return 0, 0, false
	}
	at := needs.Places[part.Part]
	switch {
	case errors.Is(err, driver.ErrNoMemory):
		return at.Device, int64(at.Bytes - at.Bytes/uint64(at.Last-at.First+2)), true
	case errors.Is(err, driver.ErrLost):
		l.node.cards.get().Lose(at.Device, err)
		return at.Device, 0, true
	}
	return 0, 0, false
}

// load loads a stage onto the devices that needs names, all on the processor where
// it names none.
func (l *loader) load(ctx context.Context, o *opened, r model.Range, s worker.StageSpec, needs worker.Needs, src *store.Model, progress func(worker.Phase, uint64, uint64)) (*worker.Loaded, error) {
	blocks := (s.KVPositions + kernels.BlockPositions - 1) / kernels.BlockPositions
	opt := shard.Options{
		Model: o.config, ID: o.entry.Model, Profile: o.entry.Profile, Range: r, Source: src, Device: l.device,
		Blocks: blocks, MaxRows: maxRows,
	}
	out := &worker.Loaded{
		Embd: o.config.Embd, Vocab: o.config.Vocab, Context: o.entry.Profile.Context, MaxRows: maxRows, Blocks: blocks,
		Device: &l.mu, Free: func() { _ = src.Close() }, Needs: &needs,
	}
	set := l.node.cards.get()
	if len(needs.Places) > 0 {
		var err error
		if opt.Parts, out.Device, err = l.parts(needs.Places); err != nil {
			return nil, err
		}
		opt.Progress = func(done, total int64) {
			progress(worker.Loading, needs.Weights/uint64(total)*uint64(done), needs.Weights)
		}
	}
	// A device is used by one goroutine at a time. Steps of other stages get their turn
	// between tensors: loading may take minutes.
	opt.Progress = letIn(out.Device, opt.Progress)
	out.Device.Lock()
	defer out.Device.Unlock()
	st, err := shard.New(ctx, opt)
	if err != nil {
		return nil, err
	}
	out.KV = func() kv.Stats { return st.Stats().KV }
	out.Stage = st
	if len(needs.Places) > 0 {
		out.Stage = &watched{Stage: st, lose: func(part int, err error) {
			if at := needs.Places[part]; at.Device != worker.Processor {
				set.Lose(at.Device, err)
			}
		}, look: func() {
			for _, at := range needs.Places {
				if at.Device != worker.Processor {
					set.LookNow(at.Device)
				}
			}
		}}
		hold := func(sign int64) {
			for _, at := range needs.Places {
				if at.Own {
					set.Hold(at.Device, sign*int64(at.Bytes))
				}
			}
		}
		hold(1)
		out.Free = func() {
			hold(-1)
			_ = src.Close()
		}
	}
	return out, nil
}

// letIn is progress that gives a lock, which is held, to those who wait for it.
func letIn(lock sync.Locker, progress func(done, total int64)) func(done, total int64) {
	return func(done, total int64) {
		if progress != nil {
			progress(done, total)
		}
		lock.Unlock()
		lock.Lock()
	}
}

// parts are a stage's places as the stage wants them, and the lock of all devices.
func (l *loader) parts(places []worker.Place) ([]shard.Part, sync.Locker, error) {
	set := l.node.cards.get()
	var parts []shard.Part
	locks := map[int]sync.Locker{}
	for i, at := range places {
		p := shard.Part{Device: l.device, Range: model.Range{First: at.First, End: at.Last + 1}}
		locks[at.Device] = &l.mu
		if at.Device != worker.Processor {
			d, turn, ok := set.Device(at.Device)
			if !ok {
				return nil, nil, &shard.PartError{Part: i, Err: fmt.Errorf("%w since the stage was planned", driver.ErrLost)}
			}
			p.Device, p.Gone, locks[at.Device] = d, func() bool { return set.Gone(at.Device) }, turn
		}
		parts = append(parts, p)
	}
	return parts, newTurns(locks), nil
}

// turns holds several devices, always in the same order, so that stages which share
// some of them never wait for each other in a circle.
type turns []sync.Locker

func newTurns(locks map[int]sync.Locker) turns {
	numbers := make([]int, 0, len(locks))
	for n := range locks {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	var t turns
	for _, n := range numbers {
		t = append(t, locks[n])
	}
	return t
}

// Lock implements sync.Locker.
func (t turns) Lock() {
	for _, l := range t {
		l.Lock()
	}
}

// Unlock implements sync.Locker.
func (t turns) Unlock() {
	for _, l := range slices.Backward(t) {
		l.Unlock()
	}
}

// watched is a stage that tells when a device of it fails, and looks at what others
// leave of its devices' memory.
type watched struct {
	*shard.Stage
	lose func(part int, err error)
	look func()
}

// Step implements worker.Stage.
func (w *watched) Step(runs []shard.Run) ([]shard.Result, error) {
	results, err := w.Stage.Step(runs)
	var part *shard.PartError
	if errors.As(err, &part) {
		w.lose(part.Part, part.Err)
	}
	if err == nil {
		w.look()
	}
	return results, err
}
