package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/draft"
	"github.com/weft-mesh/weft/node/session"
	"github.com/weft-mesh/weft/node/spec"
	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/shard/vocab"
)

const (
	// draftWait is how long a reply whose plan is ready waits for its draft model
	// to be loaded; it goes on without.
	draftWait = 5 * time.Second
	// draftReply is how many tokens of a reply are drafted for at most.
	draftReply = 2048
	// draftKV is how many positions a draft model has KV for, its replies
	// together, unless its context is longer.
	draftKV = 8192
)

// drafts are the draft models that this node has loaded for replies that it
// heads. One stays for restTime after its last reply.
type drafts struct {
	n    *Node
	load func(context.Context, worker.StageSpec, func(worker.Phase, uint64, uint64)) (*worker.Loaded, error)

	mu     sync.Mutex // guards what follows, and engine and err of drafting
	byKey  map[string]*drafting
	warned map[string]bool
}

// drafting is a draft model that is loaded, or is being.
type drafting struct {
	m      *opened
	needs  worker.Needs
	loaded chan struct{} // closed when engine or err is set
	engine *draft.Engine
	free   func()
	err    error
}

func newDrafts(n *Node) *drafts {
	return &drafts{n: n, byKey: map[string]*drafting{}, warned: map[string]bool{}}
}

// find gives the draft model of a reply; nil when there is none. What the request
// names and cannot be is an error, what the node's setting names is only warned
// about.
func (d *drafts) find(ctx context.Context, r api.GenerateRequest, target *opened, mode spec.Mode, progress func(api.Progress)) (*opened, error) {
	ref := r.DraftModel
	if ref == "" {
		ref = d.n.cfg.DraftModel
	}
	if ref == "" || ref == "none" || mode == spec.ModeOff {
		return nil, nil
	}
	m, err := d.n.lib.open(ctx, ref, progress)
	if err != nil {
		return nil, d.refuse(r, target, fmt.Errorf("draft model %s: %w", ref, err))
	}
	if err := compatible(target, m); err != nil {
		return nil, d.refuse(r, target, err)
	}
	return m, nil
}

// refuse gives an error to a request that names a draft model, and logs it once
// where the node's setting does.
func (d *drafts) refuse(r api.GenerateRequest, target *opened, err error) error {
	if r.DraftModel != "" {
		kind := api.KindInvalid
		var e *api.Error
		if errors.As(err, &e) {
			kind = e.Kind
		}
		return &api.Error{Kind: kind, Param: "draft_model", Message: err.Error()}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if key := keyOf(target.entry); !d.warned[key] {
		d.warned[key] = true
		d.n.log.Warn("replies go on without the draft model", "model", target.entry.Name, "reason", err)
	}
	return nil
}

// compatible says whether a draft model's tokens are its target's, and if not
// which is the first that differs.
func compatible(target, m *opened) error {
	a, b := target.vocab, m.vocab
	if a.Hash() == b.Hash() {
		return nil
	}
	for id := range int32(min(a.Size(), b.Size())) {
		if x, y := tokenKind(a, id), tokenKind(b, id); x != y {
			return fmt.Errorf("%s cannot draft for %s: token %d is %s in its vocabulary and %s in that of %s; choose a draft model of the same family", m.entry.Name, target.entry.Name, id, y, x, target.entry.Name)
		}
	}
	if a.Size() != b.Size() {
		return fmt.Errorf("%s cannot draft for %s: its vocabulary has %d tokens and that of %s has %d; choose a draft model of the same family", m.entry.Name, target.entry.Name, b.Size(), target.entry.Name, a.Size())
	}
	return nil
}

// tokenKind is what a token is, in words.
func tokenKind(v *vocab.Vocab, id int32) string {
	kind := ""
	switch {
	case v.IsControl(id):
		kind = "the control token "
	case v.IsByte(id):
		kind = "the byte "
	}
	return fmt.Sprintf("%s%q", kind, v.Entry(id))
}

// enter finds the draft model or begins to load it.
func (d *drafts) enter(m *opened) *drafting {
	key := slotOf(m.entry.Model, m.entry.Profile)
	d.mu.Lock()
	defer d.mu.Unlock()
	if g := d.byKey[key]; g != nil {
		return g
	}
	g := &drafting{m: m, loaded: make(chan struct{})}
	g.needs = needsOf(m, m.config.All(), g.positions())
	d.byKey[key] = g
	d.n.background(func() {
		d.fetch(g)
		d.watch(key, g)
	})
	return g
}

// positions is what the draft model has KV for.
func (g *drafting) positions() int { return max(draftKV, g.m.entry.Profile.Context) }

// fetch loads the draft model.
func (d *drafts) fetch(g *drafting) {
	engine, free, err := d.start(g)
	d.mu.Lock()
	defer d.mu.Unlock()
	g.engine, g.free, g.err = engine, free, err
	close(g.loaded)
}

func (d *drafts) start(g *drafting) (*draft.Engine, func(), error) {
	n, e := d.n, g.m.entry
	// What is asked for by name is the user's own wish where nothing is offered.
	if lacks := d.bytes() + n.inUse() - n.offer; n.offer > 0 && lacks > 0 {
		return nil, nil, api.Errorf(api.KindNoCapacity, "draft model %s takes %d MiB of memory, %d MiB more than is left; offer more with --memory", e.Name, g.needs.Total()>>20, lacks>>20+1)
	}
	l, err := d.load(n.ctx, worker.StageSpec{
		Model: e.Model, Profile: profileProto(e.Profile), Name: e.Name, Last: g.m.config.Layers - 1, Layers: g.m.config.Layers,
		KVPositions: g.positions(), Owner: n.plans.self, Reserved: g.needs,
	}, func(worker.Phase, uint64, uint64) {})
	if err != nil {
		return nil, nil, fmt.Errorf("load draft model %s: %w", e.Name, err)
	}
	n.log.Info("draft model is loaded", "model", e.Name, "bytes", g.needs.Total())
	return draft.New(draft.Options{Stage: l.Stage, Device: l.Device, Vocab: min(g.m.vocab.Size(), l.Vocab), Context: e.Profile.Context, MaxRows: l.MaxRows}), l.Free, nil
}

// watch drops the draft model once no reply has used it for restTime. One that
// could not be loaded is tried again after a while.
func (d *drafts) watch(key string, g *drafting) {
	t := time.NewTicker(restEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-d.n.ctx.Done():
			return
		}
		if d.drop(key, g, restTime) {
			return
		}
	}
}

// drop gives a draft model back that no reply has used for so long; false when it
// is in use.
func (d *drafts) drop(key string, g *drafting, idle time.Duration) bool {
	d.mu.Lock()
	if d.byKey[key] != g {
		d.mu.Unlock()
		return true
	}
	if g.err == nil && (g.engine == nil || !g.engine.Rests(idle)) {
		d.mu.Unlock()
		return false
	}
	delete(d.byKey, key)
	d.mu.Unlock()
	g.end(d.n)
	d.n.changed()
	return true
}

// end frees a draft model's memory.
func (g *drafting) end(n *Node) {
	if g.engine == nil {
		return
	}
	if err := g.engine.Close(); err != nil {
		n.log.Warn("draft model is not closed", "model", g.m.entry.Name, "error", err)
	}
	g.free()
}

// giveWay gives back what no reply uses when stages and draft models together
// have more than this node offers.
func (d *drafts) giveWay() {
	d.mu.Lock()
	all := maps.Clone(d.byKey)
	d.mu.Unlock()
	for key, g := range all {
		if d.n.offer == 0 || d.bytes()+d.n.inUse() <= d.n.offer {
			return
		}
		d.drop(key, g, 0)
	}
}

// used says whether replies use a draft model, or it is being loaded for one.
func (g *drafting) used() bool { return g.engine == nil || !g.engine.Rests(0) }

// await gives the reply's source of the draft model, which the caller closes; nil
// when there is none or it is not loaded soon. It is called once the reply has its
// plan, which comes first where memory is short.
func (d *drafts) await(ctx context.Context, m *opened, s session.Spec, r api.GenerateRequest, progress func(api.Progress)) (*draft.Source, error) {
	if m == nil {
		return nil, nil
	}
	g := d.enter(m)
	select {
	case <-g.loaded:
	default:
		progress(api.Progress{Phase: "load", Text: "loading the draft model " + g.m.entry.Name})
		t := time.NewTimer(draftWait)
		defer t.Stop()
		select {
		case <-g.loaded:
		case <-t.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	d.mu.Lock()
	engine, err := g.engine, g.err
	if err == nil && d.byKey[slotOf(g.m.entry.Model, g.m.entry.Profile)] == g {
		defer d.mu.Unlock()
		return engine.Open(min(s.Positions, len(s.Prompt)+draftReply), s.Salt, !s.NoPrefix), nil
	}
	d.mu.Unlock()
	if err != nil {
		return nil, d.refuse(r, g.m, err)
	}
	return nil, nil // dropped a moment ago
}

// bytes is the memory of all draft models.
func (d *drafts) bytes() int64 { return d.count(func(*drafting) bool { return true }) }

// count is the memory of the draft models that match says.
func (d *drafts) count(match func(*drafting) bool) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := uint64(0)
	for _, g := range d.byKey {
		if g.err == nil && match(g) {
			n += g.needs.Total()
		}
	}
	return int64(n)
}

// close drops all draft models; no reply is left.
func (d *drafts) close() {
	d.mu.Lock()
	all := slices.Collect(maps.Values(d.byKey))
	clear(d.byKey)
	d.mu.Unlock()
	for _, g := range all {
		g.end(d.n)
	}
}

// offered is what stages may take beside this node's draft models. Those that no
// reply uses give way.
func (n *Node) offered() int64 {
	return max(0, n.offer-n.drafts.count((*drafting).used))
}

// bySource counts accepted tokens by who drafted them.
type bySource struct {
	mu sync.Mutex // guards n
	n  map[string]int64
}

func (b *bySource) add(by map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n == nil {
		b.n = map[string]int64{}
	}
	for name, n := range by {
		b.n[name] += int64(n)
	}
}

// draftFigures tell of drafts by source, and of the draft models.
func (n *Node) draftFigures() []gauge {
	out := []gauge{{name: "weft_draft_model_bytes", help: "Memory of draft models.", kind: prometheus.GaugeValue, value: float64(n.drafts.bytes())}}
	n.bySource.mu.Lock()
	defer n.bySource.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(n.bySource.n)) {
		out = append(out, gauge{
			name: "weft_accepted_draft_tokens_by_source_total", help: "Drafted tokens that were accepted, by who drafted them.",
			kind: prometheus.CounterValue, labels: []string{"source"}, values: []string{name}, value: float64(n.bySource.n[name]),
		})
	}
	return out
}
