package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/sample"
)

// contextTokens is how many tokens are decoded behind a context in a sample.
const contextTokens = 8

// contexts measures decode behind contexts of some lengths. Their keys and
// values are made up, for computing them would take far longer than what is
// measured, which does not depend on what they are.
func (m *benched) contexts(ctx context.Context, dev kernels.Device, o api.BenchOptions, limits api.BenchMachine, progress func(api.Progress)) ([]api.BenchContext, error) {
	longest := slices.Max(o.Contexts) + contextTokens
	profile := m.profile
	profile.Context = max(profile.Context, longest)
	layout := m.config.KVLayout(profile, m.config.All())
	if err := fits(layout, longest, machine.Facts(ctx, o.Home).MemFree); err != nil {
		return nil, err
	}
	g, err := model.Load(ctx, model.LoadOptions{Config: m.config, Profile: profile, Range: m.config.All(), Source: m.source, Device: dev, MaxRows: 1})
	if err != nil {
		return nil, err
	}
	defer func() { _ = g.Close() }()
	d := &decoder{graph: g, sampler: sample.New(m.config.Vocab), logits: make([]float32, m.config.Vocab)}
	progress(api.Progress{Phase: "bench", Text: fmt.Sprintf("making up a context of %d tokens", longest)})
	if err := d.fill(ctx, dev, layout, longest); err != nil {
		return nil, err
	}
	defer func() { _ = d.kv.Close() }()
	samples := make([][]float64, len(o.Contexts)) // µs a token
	for i := range o.Repeat + 1 {
		for c, n := range o.Contexts { // in turn, so that a moment's load meets all of them
			progress(api.Progress{Phase: "bench", Text: fmt.Sprintf("decode behind %d tokens, %s", n, dev.Name()), Done: int64(i), Total: int64(o.Repeat + 1)})
			took, err := d.decode(ctx, n)
			if err != nil {
				return nil, fmt.Errorf("bench decode behind %d tokens: %w", n, err)
			}
			if i > 0 {
				samples[c] = append(samples[c], float64(took.Nanoseconds())/1e3/contextTokens)
			}
		}
	}
	bytes := make([]int64, len(o.Contexts)) // keys and values that a token reads
	for i, n := range o.Contexts {
		if m.config.Window > 0 {
			n = min(n, m.config.Window)
		}
		bytes[i] = int64(n) * layout.BlockBytes() / kernels.BlockPositions
	}
	return contextRates(o.Contexts, bytes, samples, limits), nil
}

// fits refuses keys and values for which there is no memory: their pages are
// taken as they are filled, and what runs out then is the whole machine's.
func fits(layout kernels.KVLayout, positions int, free int64) error {
	blocks := int64(positions+kernels.BlockPositions-1) / kernels.BlockPositions
	if need := blocks * layout.BlockBytes(); free > 0 && need > free/10*9 {
		return api.Errorf(api.KindInvalid, "a context of %d tokens needs %d MB of keys and values, %d MB of memory are free; give shorter --contexts", positions, need>>20, free>>20)
	}
	return nil
}

// contextRates says what a context costs beyond the shortest one, by the least
// samples, to which a moment's load has added nothing.
func contextRates(contexts []int, bytes []int64, samples [][]float64, limits api.BenchMachine) []api.BenchContext {
	out := make([]api.BenchContext, len(contexts))
	shortest := 0
	for i, n := range contexts {
		least := slices.Min(samples[i])
		out[i] = api.BenchContext{Threads: limits.Threads, Device: limits.ID, Context: n, Micros: least, TokensPS: 1e6 / least, KVBytes: bytes[i], Samples: samples[i]}
		if n < contexts[shortest] {
			shortest = i
		}
	}
	base := out[shortest]
	for i := range out {
		more := out[i].Micros - base.Micros
		if bytes := out[i].KVBytes - base.KVBytes; bytes > 0 && more > 0 {
			out[i].KVBps = float64(bytes) / more * 1e6
			out[i].MemoryShare = out[i].KVBps / limits.ReadBps
		}
	}
	return out
}

// decoder steps a graph by itself, one token at a time.
type decoder struct {
	graph   *model.Graph
	kv      kernels.KV
	batch   kernels.Batch
	sampler *sample.Sampler
	logits  []float32
	highest kernels.Reduction // of logits that lie on a card
}

// fill makes KV memory for one sequence and fills it with moderate numbers.
func (d *decoder) fill(ctx context.Context, dev kernels.Device, layout kernels.KVLayout, positions int) error {
	blocks := (positions + kernels.BlockPositions - 1) / kernels.BlockPositions
	kv, err := dev.NewKV(layout, blocks)
	if err != nil {
		return err
	}
	d.kv = kv
	table := make([]int32, blocks)
	for i := range table {
		table[i] = int32(i)
	}
	d.batch.Seqs = [][]int32{table}
	width := layout.Heads * layout.HeadDim
	x, err := dev.NewBuffer(maxRows, width)
	if err != nil {
		return err
	}
	defer dev.Free(x)
	random, numbers := rand.New(rand.NewPCG(7, 7)), make([]float32, maxRows*width)
	for i := range numbers {
		numbers[i] = float32(random.NormFloat64()) / 4
	}
	dev.Write(x, 0, numbers)
	for at := 0; at < positions; at += maxRows {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := &kernels.Batch{Seqs: d.batch.Seqs}
		for i := range min(maxRows, positions-at) {
			b.Rows = append(b.Rows, kernels.Row{Pos: int32(at + i)})
		}
		for layer := range layout.Layers {
			dev.StoreKV(b, kv, layer, x, x)
		}
	}
	return dev.Sync()
}

// decode takes some tokens behind a context and says how long that took.
func (d *decoder) decode(ctx context.Context, behind int) (time.Duration, error) {
	begin := time.Now()
	ids, heads := []int32{1}, []int32{0}
	for i := range contextTokens {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		b := &d.batch
		b.Rows, b.Faults = append(b.Rows[:0], kernels.Row{Pos: int32(behind + i)}), b.Faults[:0]
		d.graph.Embed(b, ids)
		d.graph.Layers(b, d.kv)
		if err := d.draw(b, heads, ids, behind+i); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// draw puts the next token into ids, from what a stage would read of the logits.
func (d *decoder) draw(b *kernels.Batch, heads, ids []int32, position int) error {
	var err error
	host := d.graph.HostMemory()
	if host {
		err = d.graph.Project(b, heads, nil, d.logits)
	} else {
		d.highest.Rows, d.highest.Width = 1, 1
		err = d.graph.Reduce(b, heads, nil, &d.highest)
	}
	switch {
	case err != nil:
		return err
	case len(b.Faults) > 0:
		return fmt.Errorf("%+v", b.Faults[0])
	case host:
		ids[0] = d.sampler.Draw(&sample.Params{}, sample.Input{Logits: d.logits, Position: position}).ID
	default:
		ids[0] = d.highest.Top[0].Col
	}
	return nil
}
