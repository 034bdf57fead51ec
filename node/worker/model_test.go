package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/node/worker"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/kv"
	"github.com/weft-mesh/weft/shard/model"
)

// tiny is the model of these tests: four layers, from package shard's testdata.
var tiny = sync.OnceValue(func() *weights {
	f, err := gguf.Open(filepath.Join("..", "..", "shard", "testdata", "tiny", "llama-Q8_0.gguf"))
	if err != nil {
		panic(err)
	}
	cfg, err := model.Parse(f.Meta, f.Tensors)
	if err != nil {
		panic(err)
	}
	return &weights{cfg: cfg, file: f, packed: map[string]*quant.Packed{}}
})

// weights is a model packed in memory, as a source of tensors. Its layers may be
// repeated, for more stages than the file has layers.
type weights struct {
	cfg    *model.Config
	file   *gguf.File
	mu     sync.Mutex
	packed map[string]*quant.Packed
	layers int // of the file, when repeated
}

func (w *weights) data(name string) (gguf.Tensor, []byte, error) {
	var l int
	var rest string
	if n, _ := fmt.Sscanf(name, "blk.%d.%s", &l, &rest); n == 2 && w.layers > 0 {
		name = fmt.Sprintf("blk.%d.%s", l%w.layers, rest)
	}
	t, ok := w.file.Tensor(name)
	if !ok {
		return t, nil, fmt.Errorf("no tensor %s", name)
	}
	b, err := w.file.Data(t)
	return t, b, err
}

func (w *weights) Matrix(name string) (*quant.Packed, error) {
	t, b, err := w.data(name)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.packed[t.Name]; p != nil {
		return p, nil
	}
	p, err := quant.New(quant.Type(t.Type), int(t.Rows()), int(t.Dims[0]))
	if err != nil {
		return nil, err
	}
	w.packed[t.Name] = p
	return p, p.Pack(b, 0, p.Groups())
}

func (w *weights) Vector(name string) ([]float32, error) {
	t, b, err := w.data(name)
	if err != nil {
		return nil, err
	}
	p, err := quant.New(quant.Type(t.Type), 1, int(t.Elems()))
	if err != nil {
		return nil, err
	}
	out := make([]float32, t.Elems())
	var row quant.Row
	if err := p.Pack(bytes.Clone(b), 0, 1); err != nil {
		return nil, err
	}
	p.DecodeRow(out, 0, &row)
	return out, nil
}

// repeated is tiny with that many layers.
func repeated(layers int) *weights {
	w := tiny()
	cfg := *w.cfg
	cfg.Layers = layers
	return &weights{cfg: &cfg, file: w.file, packed: map[string]*quant.Packed{}, layers: w.cfg.Layers}
}

const testContext = 512

func profileOf(w *weights) model.Profile {
	p := model.DefaultProfile(w.cfg)
	p.Context = testContext
	return p
}

// loader loads stages of one model with the real shard code.
type loader struct {
	w       *weights
	blocks  int
	maxRows int
	needs   worker.Needs
	hold    chan struct{} // when set, Load waits for it or its context
	fail    error
	wrap    func(worker.Stage) worker.Stage

	mu    sync.Mutex
	open  int // stages loaded and not freed
	loads int
}

func (l *loader) Needs(context.Context, worker.StageSpec) (worker.Needs, error) { return l.needs, nil }

func (l *loader) Load(ctx context.Context, spec worker.StageSpec, progress func(worker.Phase, uint64, uint64)) (*worker.Loaded, error) {
	l.mu.Lock()
	l.loads++
	l.mu.Unlock()
	progress(worker.Fetching, 1, 2)
	if l.hold != nil {
		select {
		case <-l.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if l.fail != nil {
		return nil, l.fail
	}
	if spec.Layers != l.w.cfg.Layers {
		return nil, errors.New("wrong number of layers")
	}
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		return nil, err
	}
	st, err := shard.New(ctx, shard.Options{
		Model: l.w.cfg, ID: spec.Model, Profile: profileOf(l.w), Source: l.w, Device: dev,
		Range: model.Range{First: spec.First, End: spec.Last + 1}, Blocks: l.blocks, MaxRows: l.maxRows,
		Progress: func(done, total int64) { progress(worker.Loading, uint64(done), uint64(total)) },
	})
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	l.mu.Lock()
	l.open++
	l.mu.Unlock()
	var stage worker.Stage = st
	if l.wrap != nil {
		stage = l.wrap(st)
	}
	return &worker.Loaded{
		Stage: stage, Embd: l.w.cfg.Embd, Vocab: l.w.cfg.Vocab, Context: testContext, MaxRows: st.MaxRows(),
		Blocks: l.blocks, KV: func() kv.Stats { return st.Stats().KV }, Device: new(sync.Mutex),
		Free: func() {
			_ = dev.Close()
			l.mu.Lock()
			l.open--
			l.mu.Unlock()
		},
	}, nil
}

// planOf cuts the model into stages at the given first layers, one a node.
func planOf(w *weights, owner string, generation uint64, names []string, cuts ...int) *weftv1.PlanSpec {
	p := profileOf(w)
	spec := &weftv1.PlanSpec{
		Id: &weftv1.PlanID{
			Model: bytes.Repeat([]byte{7}, 32), Generation: generation, Owner: owner,
			Profile: &weftv1.Profile{Contract: kernels.ContractVersion, ActBits: uint32(p.Act), KvType: uint32(p.KV), Context: uint32(p.Context)},
		},
		Layers: uint32(w.cfg.Layers), Name: "tiny",
	}
	first := 0
	for i, name := range names {
		end := w.cfg.Layers
		if i < len(cuts) {
			end = cuts[i]
		}
		spec.Stages = append(spec.Stages, &weftv1.StageSpec{Peer: name, Name: name, First: uint32(first), Last: uint32(end - 1), KvPositions: 1024})
		first = end
	}
	return spec
}
