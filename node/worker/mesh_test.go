package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
