package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/kv"
	"github.com/weft-mesh/weft/shard/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// node is one machine of a test mesh.
type node struct {
	name   string
	router *worker.Router
	worker *worker.Worker
	loader *loader
}

// mesh is some nodes that reach each other over streams in memory.
type mesh struct {
	t     *testing.T
	nodes map[string]*node
	wg    sync.WaitGroup

	mu      sync.Mutex
	down    map[string]bool
	hung    map[string]chan struct{}
	streams map[wire.Stream][2]string
}

type meshOptions struct {
	weights *weights
	blocks  int
	maxRows int
	config  func(name string, c *worker.Config)
	router  func(name string, c *worker.RouterConfig)
	loader  func(name string, l *loader)
}

func newMesh(t *testing.T, o meshOptions, names ...string) *mesh {
	t.Helper()
	if o.weights == nil {
		o.weights = tiny()
	}
	if o.blocks == 0 {
		o.blocks = 128
	}
	m := &mesh{t: t, nodes: map[string]*node{}, down: map[string]bool{}, hung: map[string]chan struct{}{}, streams: map[wire.Stream][2]string{}}
	for _, name := range names {
		rc := worker.RouterConfig{
			Self: name,
			OpenStream: func(ctx context.Context, peer string, _ weftv1.Class) (wire.Stream, error) {
				return m.open(name, peer)
			},
			HelloTimeout: 5 * time.Second,
		}
		if o.router != nil {
			o.router(name, &rc)
		}
		l := &loader{w: o.weights, blocks: o.blocks, maxRows: o.maxRows, needs: worker.Needs{Weights: 100, KV: 20, Activations: 3}}
		if o.loader != nil {
			o.loader(name, l)
		}
		n := &node{name: name, router: worker.NewRouter(rc), loader: l}
		wc := worker.Config{Router: n.router, Loader: l, Offered: func() uint64 { return 1000 }}
		if o.config != nil {
			o.config(name, &wc)
		}
		var err error
		if n.worker, err = worker.New(wc); err != nil {
			t.Fatal(err)
		}
		m.nodes[name] = n
	}
	t.Cleanup(m.close)
	return m
}

func (m *mesh) close() {
	m.mu.Lock()
	for _, thaw := range m.hung {
		close(thaw)
	}
	clear(m.hung)
	m.mu.Unlock()
	for _, n := range m.nodes {
		n.worker.Close()
	}
	for _, n := range m.nodes {
		n.router.Close()
	}
	m.wg.Wait()
	for _, n := range m.nodes {
		if n.loader.open != 0 {
			m.t.Errorf("%s: %d stages were not freed", n.name, n.loader.open)
		}
	}
}

func (m *mesh) open(from, to string) (wire.Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[to]
	if n == nil || m.down[to] || m.down[from] {
		return nil, errors.New("unreachable")
	}
	near, far := wire.PipeStream()
	m.streams[near] = [2]string{from, to}
	m.wg.Go(func() { n.router.Serve(&frozen{far, m, to}, from) })
	return &frozen{near, m, from}, nil
}

// frozen is a stream of a node that may hang: then nothing that was sent to it is
// read any more.
type frozen struct {
	wire.Stream
	m    *mesh
	node string
}

func (f *frozen) thaw() chan struct{} {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.m.hung[f.node]
}

func (f *frozen) Read(b []byte) (int, error) {
	n, err := f.Stream.Read(b)
	if thaw := f.thaw(); thaw != nil {
		<-thaw
	}
	return n, err
}

func (f *frozen) Write(b []byte) (int, error) {
	if thaw := f.thaw(); thaw != nil {
		<-thaw
	}
	return f.Stream.Write(b)
}

func (f *frozen) Reset() error {
	if f.thaw() != nil {
		return nil
	}
	return f.Stream.Reset()
}

// hang stops a node without closing anything, until the test ends.
func (m *mesh) hang(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hung[name] = make(chan struct{})
}

// kill cuts every stream of a node at once, as the death of its process does.
func (m *mesh) kill(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down[name] = true
	for s, ends := range m.streams {
		if ends[0] == name || ends[1] == name {
			_ = s.Reset() // the other end learns of it at once
		}
	}
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

// ask sends one request of the plan protocol to a node.
func (m *mesh) ask(from, to string, req *weftv1.PlanRequest) *weftv1.PlanReply {
	m.t.Helper()
	near, far := wire.PipeStream()
	n := m.nodes[to]
	m.wg.Go(func() { n.worker.ServePlan(far, from) })
	r, err := worker.AskPlan(context.Background(), near, req, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

func reserve(p *weftv1.PlanSpec, stage int) *weftv1.PlanRequest {
	return &weftv1.PlanRequest{Body: &weftv1.PlanRequest_Reserve{Reserve: &weftv1.Reserve{Plan: p, Stage: uint32(stage)}}}
}

func commit(p *weftv1.PlanSpec) *weftv1.PlanRequest {
	return &weftv1.PlanRequest{Body: &weftv1.PlanRequest_Commit{Commit: &weftv1.Commit{Id: p.Id}}}
}

func release(p *weftv1.PlanSpec) *weftv1.PlanRequest {
	return &weftv1.PlanRequest{Body: &weftv1.PlanRequest_Release{Release: &weftv1.Release{Id: p.Id, Reason: "test"}}}
}

func lookup(p *weftv1.PlanSpec) *weftv1.PlanRequest {
	return &weftv1.PlanRequest{Body: &weftv1.PlanRequest_Lookup{Lookup: &weftv1.Lookup{Model: p.Id.Model, Profile: p.Id.Profile}}}
}

// load reserves and commits a plan on all of its nodes.
func (m *mesh) load(p *weftv1.PlanSpec) {
	m.t.Helper()
	for i, s := range p.Stages {
		if r := m.ask(p.Id.Owner, s.Peer, reserve(p, i)); r.State != weftv1.PlanReply_RESERVED {
			m.t.Fatalf("reserve at %s: %v", s.Peer, r)
		}
	}
	for _, s := range p.Stages {
		if r := m.ask(p.Id.Owner, s.Peer, commit(p)); r.State != weftv1.PlanReply_READY {
			m.t.Fatalf("commit at %s: %v", s.Peer, r)
		}
	}
}

// idle waits until no node has a session, a used block or a queued row.
func (m *mesh) idle() {
	m.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		busy := ""
		for _, n := range m.nodes {
			for _, p := range n.worker.Stats().Plans {
				if p.Sessions != 0 || p.KV.Used != 0 || p.KV.Reserved != 0 || p.QueuedRows != 0 {
					busy = fmt.Sprintf("%s: %d sessions, %+v, %d rows queued", n.name, p.Sessions, p.KV, p.QueuedRows)
				}
			}
		}
		if busy == "" {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("not at rest: %s", busy)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// unchained waits until no chain goes through a node.
func (m *mesh) unchained(name string) {
	m.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for m.nodes[name].worker.Stats().Plans[0].Chains != 0 {
		if time.Now().After(deadline) {
			m.t.Fatalf("%s still has chains", name)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
