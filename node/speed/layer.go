package speed

import (
	"context"
	"fmt"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/shard/model"
)

// A layer as small models have it: in large ones what is beside the weights
// matters less.
var small = model.Config{
	Arch: "llama", Embd: 768, Heads: 12, KVHeads: 4, HeadDim: 64, FFN: 2048, Vocab: 256,
	Eps: 1e-5, AttnScale: 0.125, Rope: model.Rope{RopeParams: arith.RopeParams{Dims: 64, Base: 10000}},
}

// cardLayers is how many layers a card is asked for before it is waited for.
const cardLayers = 6

// slowStack is how long the steps of a stack may take together.
const slowStack = 500 * time.Millisecond

// stack is a decode step of some layers.
type stack struct {
	took   time.Duration
	bytes  int64 // of their weights
	layers int
}

// rest is what each layer takes beside reading its weights at bps: what else it
// computes, and what it costs to have each of its parts computed.
func (s stack) rest(bps float64) time.Duration {
	t := (s.took.Seconds() - float64(s.bytes)/bps) / float64(s.layers)
	return max(time.Duration(t*float64(time.Second)), time.Nanosecond)
}

// step runs the graph of real models over at most so many layers, whose weights are
// cut from p, and gives the best of a few decode steps.
func step(dev kernels.Device, p *quant.Packed, c model.Config, most int) (stack, error) {
	s, err := cut(p, &c, most)
	if err != nil {
		return stack{}, fmt.Errorf("measure speed: %w", err)
	}
	profile := model.Profile{Contract: kernels.ContractVersion, Act: kernels.Act8, KV: kernels.KVF16, Context: kernels.BlockPositions}
	g, err := model.Load(context.Background(), model.LoadOptions{Config: s.config, Profile: profile, Range: s.layers, Source: s, Device: dev, MaxRows: 1})
	if err != nil {
		return stack{}, fmt.Errorf("measure speed: %w", err)
	}
	defer func() { _ = g.Close() }()
	kv, err := dev.NewKV(s.config.KVLayout(profile, s.layers), 1)
	if err != nil {
		return stack{}, fmt.Errorf("measure speed: %w", err)
	}
	defer func() { _ = kv.Close() }()
	in, begin, shortest := wave(c.Embd), time.Now(), time.Duration(1<<63-1)
	for i := range 8 { // the first also touches the pages, and drivers compile at it
		b := &kernels.Batch{Rows: []kernels.Row{{Pos: kernels.BlockPositions - 1}}, Seqs: [][]int32{{0}}}
		from := time.Now()
		g.Input(0, in)
		g.Layers(b, kv)
		if err := g.Sync(); err != nil {
			return stack{}, fmt.Errorf("measure speed: %w", err)
		}
		shortest = min(shortest, time.Since(from))
		if i > 0 && time.Since(begin) > slowStack {
			break
		}
	}
	return stack{shortest, s.bytes, s.layers.Len()}, nil
}

// cutter is the source of some layers whose weights are cut from one matrix, one
// after the other: their values are no matter.
type cutter struct {
	p              *quant.Packed
	config         *model.Config
	layers         model.Range
	bytes          int64 // of all layers
	specs          map[string]model.TensorSpec
	quants, scales int64 // taken
}

// cut has a source of as many layers as p has bytes for, one at least and at most
// so many.
func cut(p *quant.Packed, c *model.Config, most int) (*cutter, error) {
	s := &cutter{p: p, specs: map[string]model.TensorSpec{}}
	one := *c
	one.Layers = 3
	for _, t := range one.Tensors(model.Range{First: 1, End: 2}) {
		if t.Vector {
			continue
		}
		q, sc, err := quant.PackedSize(p.Type, t.Rows, t.Cols)
		if err != nil {
			return nil, err
		}
		s.quants, s.scales, s.bytes = s.quants+q, s.scales+sc, s.bytes+q+sc
	}
	n := min(most, int(min(int64(len(p.Quants))/s.quants, int64(len(p.Scales))/s.scales)))
	if n < 1 {
		return nil, fmt.Errorf("%d bytes hold no layer of %d", p.Bytes(), s.bytes)
	}
	// The range begins behind the first layer and ends before the last: it has no
	// embedding and no output matrix.
	one.Layers = n + 2
	s.config, s.layers, s.bytes = &one, model.Range{First: 1, End: n + 1}, s.bytes*int64(n)
	s.quants, s.scales = 0, 0
	for _, t := range one.Tensors(s.layers) {
		s.specs[t.Name] = t
	}
	return s, nil
}

// Matrix implements model.Source.
func (s *cutter) Matrix(name string) (*quant.Packed, error) {
	t := s.specs[name]
	q, sc, err := quant.PackedSize(s.p.Type, t.Rows, t.Cols)
	if err != nil {
		return nil, err
	}
	m := &quant.Packed{Type: s.p.Type, Rows: t.Rows, Cols: t.Cols, Quants: s.p.Quants[s.quants : s.quants+q], Scales: s.p.Scales[s.scales : s.scales+sc]}
	s.quants, s.scales = s.quants+q, s.scales+sc
	return m, nil
}

// Vector implements model.Source.
func (s *cutter) Vector(name string) ([]float32, error) { return wave(s.specs[name].Cols), nil }

// wave are n values for a product to take.
func wave(n int) []float32 {
	in := make([]float32, n)
	for i := range in {
		in[i] = float32(i%17) - 8
	}
	return in
}
