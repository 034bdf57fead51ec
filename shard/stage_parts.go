package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/shard/model"
)

// part is a piece of the stage on a device.
type part struct {
	graph  *model.Graph
	memory kernels.KV
	gone   func() bool // nil: never
	// batch is the step's rows with this part's faults; the first part has the step's own.
	batch kernels.Batch
}

// checkParts refuses parts that do not cover the range once, in order.
func checkParts(r model.Range, parts []Part) error {
	next := r.First
	for i, p := range parts {
		if p.Device == nil || p.Range.First != next || p.Range.Len() < 1 || p.Range.End > r.End {
			return fmt.Errorf("part %d has layers %d to %d (end excluded) where %d is next of %d to %d", i, p.Range.First, p.Range.End, next, r.First, r.End)
		}
		next = p.Range.End
	}
	if next != r.End {
		return fmt.Errorf("the parts end before layer %d, the stage before %d", next, r.End)
	}
	return nil
}

// loadParts loads the parts of a stage one after another. An error of a part is a *PartError, and nothing stays on any
// device.
func loadParts(ctx context.Context, o *Options) ([]part, error) {
	list := o.Parts
	if len(list) == 0 {
		list = []Part{{Device: o.Device, Range: o.Range}}
	} else if err := checkParts(o.Range, list); err != nil {
		return nil, err
	}
	if err := o.Model.CheckRange(o.Range); err != nil {
		return nil, err
	}
	var done, total int64
	for _, p := range list {
		total += o.Model.Elements(p.Range)
	}
	var parts []part
	for i, p := range list {
		progress := o.Progress
		if progress != nil {
			before := done
			progress = func(n, _ int64) { o.Progress(before+n, total) }
		}
		loaded, err := loadPart(ctx, o, p, progress)
		if err != nil {
			return nil, errors.Join(&PartError{i, err}, closeParts(parts))
		}
		parts = append(parts, loaded)
		done += o.Model.Elements(p.Range)
	}
	return parts, nil
}

func loadPart(ctx context.Context, o *Options, p Part, progress func(done, total int64)) (part, error) {
	g, err := model.Load(ctx, model.LoadOptions{
		Config: o.Model, Profile: o.Profile, Range: p.Range, Source: o.Source, Device: p.Device, MaxRows: o.MaxRows,
		Progress: progress,
	})
	if err != nil {
		return part{}, err
	}
	memory, err := p.Device.NewKV(o.Model.KVLayout(o.Profile, p.Range), o.Blocks)
	if err != nil {
		return part{}, errors.Join(fmt.Errorf("make KV memory of %d blocks: %w", o.Blocks, err), g.Close())
	}
	return part{graph: g, memory: memory, gone: p.Gone}, nil
}

func closeParts(parts []part) error {
	var errs []error
	for i := range parts {
		if p := &parts[i]; p.gone == nil || !p.gone() {
			errs = append(errs, p.graph.Close(), p.memory.Close())
		}
	}
	return errors.Join(errs...)
}

// layers takes the step's batch, whose input the first part has, through all parts. Where logits follow on the last one it is
// not waited for: the projection waits.
func (s *Stage) layers() error {
	t := &s.step
	n := len(t.ids) * s.model.Embd
	for i := range s.parts {
		s.parts[i].batch.Faults = s.parts[i].batch.Faults[:0]
	}
	for i := range s.parts {
		p, b := &s.parts[i], &t.batch
		if i > 0 {
			b = &p.batch
			b.Rows, b.Seqs = t.batch.Rows, t.batch.Seqs
			p.graph.Input(0, t.hidden[:n])
		}
		p.graph.Layers(b, p.memory)
		end := i == len(s.parts)-1
		if !end || !s.last {
			if err := p.graph.Hidden(t.hidden[:n]); err != nil {
				return &PartError{i, err}
			}
		}
		if end && len(t.heads) > 0 {
			break
		}
		if err := p.graph.Sync(); err != nil {
			return &PartError{i, err}
		}
		s.takeFaults()
	}
	return nil
}

// ends is the batch that has the faults of the last part.
func (s *Stage) ends() *kernels.Batch {
	if last := len(s.parts) - 1; last > 0 {
		return &s.parts[last].batch
	}
	return &s.step.batch
}

// takeFaults adds those of later parts to the step's.
func (s *Stage) takeFaults() {
	for i := 1; i < len(s.parts); i++ {
		s.step.batch.Faults = mergeFaults(s.step.batch.Faults, s.parts[i].batch.Faults)
	}
}

// mergeFaults adds the faults of a later part: a row that has failed holds anything there, and keeps its first.
func mergeFaults(faults, later []kernels.Fault) []kernels.Fault {
	before := faults
	for _, f := range later {
		if !slices.ContainsFunc(before, func(g kernels.Fault) bool { return g.Row == f.Row }) {
			faults = append(faults, f)
		}
	}
	return faults
}
