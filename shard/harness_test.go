package shard_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/sample"
)

// weights is a whole model packed in memory: the Source of tests.
type weights struct {
	cfg  *model.Config
	file *gguf.File

	mu     sync.Mutex
	packed map[string]*quant.Packed
	rename func(name string) string // which tensor stands for another; nil: itself
}

var loaded sync.Map // path to *weights

// open reads a model file once for all tests.
func open(t testing.TB, path string) *weights {
	t.Helper()
	if w, ok := loaded.Load(path); ok {
		return w.(*weights)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := model.Parse(f.Meta, f.Tensors)
	if err != nil {
		t.Fatal(err)
	}
	w, _ := loaded.LoadOrStore(path, &weights{cfg: cfg, file: f, packed: map[string]*quant.Packed{}})
	return w.(*weights)
}

func (w *weights) tensor(name string) (gguf.Tensor, []byte, error) {
	if w.rename != nil {
		name = w.rename(name)
	}
	t, ok := w.file.Tensor(name)
	if !ok {
		return t, nil, fmt.Errorf("no tensor %s", name)
	}
	b, err := w.file.Data(t)
	return t, b, err
}

func (w *weights) Matrix(name string) (*quant.Packed, error) {
	t, b, err := w.tensor(name)
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
	t, b, err := w.tensor(name)
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

// deeper is a model of more layers, which repeat those of w: enough of them for many cuts.
func deeper(w *weights, layers int) *weights {
	cfg := *w.cfg
	cfg.Layers = layers
	return &weights{cfg: &cfg, file: w.file, packed: map[string]*quant.Packed{}, rename: func(name string) string {
		var l int
		var rest string
		if n, _ := fmt.Sscanf(name, "blk.%d.%s", &l, &rest); n == 2 {
			return fmt.Sprintf("blk.%d.%s", l%w.cfg.Layers, rest)
		}
		return name
	}}
}

// f32Profile is the profile of the references: f32 KV.
func f32Profile(cfg *model.Config, ctx int) model.Profile {
	p := model.DefaultProfile(cfg)
	p.KV, p.Context = kernels.KVF32, ctx
	return p
}

// pipe is a plan's stages, run one after another in this process.
type pipe struct {
	t      testing.TB
	cfg    *model.Config
	stages []*shard.Stage
}

// pipeOptions are everything that must not change a reply.
type pipeOptions struct {
	cuts    []int // first layers of all stages but the first
	parts   []int // first layers of parts within stages, on devices of other and device in turn
	other   func() (kernels.Device, error)
	profile model.Profile
	device  func() (kernels.Device, error)
	maxRows int
	blocks  int
}

func newPipe(t testing.TB, w *weights, o pipeOptions) *pipe {
	t.Helper()
	p := &pipe{t: t, cfg: w.cfg}
	if o.blocks == 0 {
		o.blocks = 64
	}
	first := 0
	for _, end := range append(slices.Clone(o.cuts), w.cfg.Layers) {
		opt := shard.Options{
			Model: w.cfg, Profile: o.profile, Range: model.Range{First: first, End: end}, Source: w,
			Blocks: o.blocks, MaxRows: o.maxRows,
		}
		devices := o.lay(t, &opt)
		s, err := shard.New(context.Background(), opt)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			for _, d := range devices {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
		})
		p.stages = append(p.stages, s)
		first = end
	}
	return p
}

// lay gives a stage its devices: one, or two that take its parts in turn.
func (o *pipeOptions) lay(t testing.TB, opt *shard.Options) []kernels.Device {
	t.Helper()
	d, err := o.device()
	if err != nil {
		t.Fatal(err)
	}
	bounds := []int{opt.Range.First}
	for _, l := range o.parts {
		if l > opt.Range.First && l < opt.Range.End {
			bounds = append(bounds, l)
		}
	}
	if len(bounds) == 1 {
		opt.Device = d
		return []kernels.Device{d}
	}
	e, err := o.other()
	if err != nil {
		t.Fatal(err)
	}
	devices := []kernels.Device{d, e}
	for i, l := range bounds {
		end := opt.Range.End
		if i+1 < len(bounds) {
			end = bounds[i+1]
		}
		opt.Parts = append(opt.Parts, shard.Part{Device: devices[(i+1)%2], Range: model.Range{First: l, End: end}})
	}
	return devices
}

// step takes runs through all stages and gives the last one's results.
func (p *pipe) step(runs []shard.Run) []shard.Result {
	p.t.Helper()
	for i, s := range p.stages {
		results, err := s.Step(runs)
		if err != nil {
			p.t.Fatal(err)
		}
		if i == len(p.stages)-1 {
			return results
		}
		runs = slices.Clone(runs)
		for j := range results {
			if results[j].Err != nil {
				p.t.Fatalf("stage %d: %v", i, results[j].Err)
			}
			runs[j].Hidden = slices.Clone(results[j].Hidden)
		}
	}
	return nil
}

// reply is one session as a head would drive it.
type reply struct {
	pipe   *pipe
	id     shard.SessionID
	prompt []int32
	n      int // tokens wanted
	chunk  int // of the prompt
	drafts func(at int) []int32
	params sample.Params

	epoch  uint64
	at     int // next position to compute
	drawn  []sample.Token
	hashes [][32]byte
	passes int
}

// start opens a session on all stages and begins at the longest prefix that they all hold.
func (r *reply) start(p *pipe) {
	r.pipe = p
	held := len(r.prompt)
	for _, s := range p.stages {
		h, err := s.Open(shard.SessionSpec{ID: r.id, Positions: len(r.prompt) + r.n, Sampling: r.params, Prompt: r.prompt})
		if err != nil {
			p.t.Fatal(err)
		}
		held = min(held, h)
	}
	for _, s := range p.stages {
		if err := s.Start(r.id, 0, held); err != nil {
			p.t.Fatal(err)
		}
	}
	r.at = held
}

func (r *reply) done() bool { return len(r.drawn) >= r.n }

// next is the session's next run.
func (r *reply) next() shard.Run {
	run := shard.Run{Session: r.id, Epoch: r.epoch, Base: r.at, States: true}
	if r.at < len(r.prompt) {
		end := min(len(r.prompt), r.at+r.chunk)
		run.Tokens = r.prompt[r.at:end]
		if end == len(r.prompt) {
			run.Sample = shard.SampleLast
		}
		return run
	}
	run.Sample = shard.SampleAll
	run.Tokens = []int32{r.drawn[len(r.drawn)-1].ID}
	if r.drafts != nil {
		left := r.n - len(r.drawn) - 1
		d := r.drafts(len(r.drawn))
		run.Tokens = append(run.Tokens, d[:min(len(d), left)]...)
	}
	return run
}

// take is what the head does with a result.
func (r *reply) take(res shard.Result) {
	t := r.pipe.t
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	for i, tok := range res.Tokens {
		tok.Top = slices.Clone(tok.Top)
		r.drawn = append(r.drawn, tok)
		r.hashes = append(r.hashes, res.StateHashes[i])
	}
	r.passes++
	r.at = res.Base + res.Accepted
	for _, s := range r.pipe.stages {
		if err := s.Confirm(r.id, r.at); err != nil {
			t.Fatal(err)
		}
	}
	if !res.EpochEnded {
		return
	}
	r.epoch++
	for _, s := range r.pipe.stages {
		if err := s.Truncate(r.id, r.epoch, r.at); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *reply) tokens() []int32 {
	ids := make([]int32, len(r.drawn))
	for i, t := range r.drawn {
		ids[i] = t.ID
	}
	return ids
}

// run drives sessions to their ends, all that are not done in each step's batch.
func (p *pipe) run(replies ...*reply) {
	for _, r := range replies {
		r.start(p)
	}
	for {
		var runs []shard.Run
		var whose []*reply
		for _, r := range replies {
			if !r.done() {
				runs, whose = append(runs, r.next()), append(whose, r)
			}
		}
		if len(runs) == 0 {
			break
		}
		for i, res := range p.step(runs) {
			whose[i].take(res)
		}
	}
	for _, r := range replies {
		for _, s := range p.stages {
			s.CloseSession(r.id)
		}
	}
}
