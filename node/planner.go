package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/session"
	"github.com/weft-mesh/weft/node/spec"
	"github.com/weft-mesh/weft/node/worker"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

// Bounds of making a plan ready.
const (
	planTries  = 6                // proposals before giving up; with their pauses longer than gossip needs to notice a death
	askTimeout = 20 * time.Second // one request to a stage
	probeTime  = 30 * time.Second // for a probe token to cross the stages
	pollEvery  = 150 * time.Millisecond
	// releaseTime bounds the giving back of a plan.
	releaseTime = 3 * time.Second
)

// stageAsker sends one request of the plan protocol to a node, itself included.
type stageAsker interface {
	Ask(ctx context.Context, peer string, req *weftv1.PlanRequest, progress func(*weftv1.PlanReply)) (*weftv1.PlanReply, error)
}

// pathOpener opens both chains of a plan.
type pathOpener interface {
	OpenPath(ctx context.Context, spec *weftv1.PlanSpec) (*session.Path, error)
}

// active is one model's plan as this head uses it, or the making of one.
type active struct {
	model   *opened
	ready   chan struct{} // closed when path or err is set
	changed func()        // as of planner
	source  *copySource   // of a plan that was made a copy; else nil
	key     string        // in planner.plans, "" for its slot; planner.mu guards it
	// dropped is done when the plan broke and was given back.
	dropped sync.Once

	// mu guards everything below.
	mu       sync.Mutex
	state    string // as users see it
	note     api.Progress
	spec     *weftv1.PlanSpec
	plan     scheduler.Plan
	path     *session.Path
	err      error
	ttft     ema
	tpot     ema
	costs    *spec.Costs // see measuredCosts
	lastUsed time.Time
	users    int       // replies of this head that use it or wait for it
	peaks    []peak    // of users, of late: see load
	since    time.Time // when the plan became ready
}

// ema is a moving average of milliseconds.
type ema struct{ v float64 }

func (e *ema) add(ms float64) {
	if e.v == 0 {
		e.v = ms
		return
	}
	e.v += 0.3 * (ms - e.v)
}

// planner makes plans ready and keeps them while they are.
type planner struct {
	self     string
	asker    stageAsker
	opener   pathOpener
	snapshot func(m *opened) scheduler.Snapshot
	// known lists the plans of a model that the mesh has, by any node's record.
	known func(m *opened) []knownPlan
	name  func(peer string) string
	// peers lists the other nodes that can be asked for plans.
	peers func() []string
	// computes is why a node may not be a stage, nil if it may.
	computes func(peer string) error
	log      *slog.Logger
	// changed tells the mesh that a plan's state has changed; it does not wait.
	changed func()
	// awaits waits until this node knows its own devices; nil: it does.
	awaits func(ctx context.Context)
	// relaid says whether a plan could have more layers on devices than it has;
	// nil: it could not.
	relaid func(a *active) bool
	// holds says whether a node has all of a model on its disk.
	holds func(m *opened, peer string) bool
	// ownStep is how long this node's own stage of a plan takes, 0: not known.
	ownStep func(a *active) time.Duration
	// tempo is how the nodes keep what their speed promises.
	tempo tempo
	// suspects get what this planner finds out about nodes.
	suspects *suspects
	// refresh asks the other nodes for their records of this moment; nil: nobody
	// is asked. It blocks until ctx ends at most.
	refresh func(ctx context.Context)

	ctx context.Context // ends with the node
	wg  sync.WaitGroup
	// giving is held for reading while a plan is given back.
	giving sync.RWMutex

	// mu guards everything below.
	mu         sync.Mutex
	plans      map[string]*active
	generation uint64
	dropped    time.Time // when a plan was given back last
	closed     bool
	failures   map[string]failed      // by slot
	gaveWay    map[string][]time.Time // when plans gave way to better ones, by slot
	growths    map[string]*growth     // of copies, by slot
	copied     int                    // copies that were begun
	// choose makes a plan of a snapshot: nil for scheduler.Make.
	choose func(scheduler.Snapshot, scheduler.Model) (scheduler.Plan, error)
}

// settleTime is how long records may still count what a plan had after it was
// given back.
const settleTime = 3 * time.Second

// settling says that records may be behind.
func (p *planner) settling() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.dropped) < settleTime
}

// get gives a model's ready plan, making it if need be. Waiting ends with ctx;
// the making goes on for those who come later.
func (p *planner) get(ctx context.Context, m *opened, progress func(api.Progress)) (*active, error) {
	for {
		a, err := p.enter(m)
		if err != nil {
			return nil, err
		}
		if err := a.wait(ctx, progress); err != nil {
			return nil, err
		}
		switch err := a.use(); {
		case err == nil:
			return a, nil
		case errors.Is(err, session.ErrPathClosed):
			p.forget(a) // it rests; its stages may still be there
		default:
			p.drop(a)
		}
	}
}

// enter finds the plan of a model or begins to make one.
func (p *planner) enter(m *opened) (*active, error) {
	key := slotOf(m.entry.Model, m.entry.Profile)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, api.Errorf(api.KindUnavailable, "the node is shutting down")
	}
	if a := p.plans[key]; a != nil {
		return a, nil
	}
	if a := p.promote(key); a != nil {
		return a, nil
	}
	a := &active{model: m, ready: make(chan struct{}), state: statePlanning, changed: p.changed}
	p.plans[key] = a
	p.wg.Go(func() { p.build(a) })
	return a, nil
}

// wait waits until the plan is ready or has failed, reporting what happens.
func (a *active) wait(ctx context.Context, progress func(api.Progress)) error {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	var last api.Progress
	for {
		select {
		case <-a.ready:
			return a.err
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			a.mu.Lock()
			note := a.note
			a.mu.Unlock()
			if note != last && note.Text != "" {
				last = note
				progress(note)
			}
		}
	}
}

func (a *active) report(state string, pr api.Progress) {
	a.mu.Lock()
	news := rank(a.state) != rank(state) || percent(a.state)/10 != percent(state)/10
	a.state, a.note = state, pr
	a.mu.Unlock()
	if news && a.changed != nil {
		a.changed()
	}
}

// State is the plan's state as users see it.
func (a *active) State() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.path != nil {
		if err := a.path.Err(); err != nil {
			return stateDegraded + ": " + err.Error()
		}
	}
	return a.state
}

// build makes a plan ready or fails it; a failed one is forgotten.
func (p *planner) build(a *active) {
	ready := p.make
	if a.source != nil {
		ready = p.makeCopy
	}
	path, err := ready(p.ctx, a)
	a.mu.Lock()
	if err == nil {
		a.path, a.state, a.since = path, stateReady, time.Now()
	} else {
		a.err, a.state = err, "failed: "+err.Error()
	}
	a.lastUsed = time.Now()
	a.mu.Unlock()
	close(a.ready)
	if p.ctx.Err() == nil && a.source == nil {
		p.fail(a.model, err)
	}
	if err != nil {
		p.forget(a)
		p.changed()
		return
	}
	p.changed()
	p.wg.Go(func() { p.watch(a) })
}

func (p *planner) forget(a *active) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if key := a.place(); p.plans[key] == a {
		delete(p.plans, key)
	}
}

// make finds a plan of the mesh or proposes one, loads it, and probes it.
func (p *planner) make(ctx context.Context, a *active) (*session.Path, error) {
	var last error
	cleared := false // an idle plan has given way
	renewed := false // the nodes were asked what they have
	found := &findings{at: map[string]finding{}}
	for try := range planTries {
		if try > 0 {
			select {
			case <-time.After(time.Duration(try) * 300 * time.Millisecond):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		p.given()
		spec, err := p.adopt(ctx, a)
		if err == nil && spec == nil {
			spec, err = p.propose(ctx, a, found)
		}
		var room *scheduler.NoRoomError
		if errors.As(err, &room) {
			err = api.Errorf(api.KindNoCapacity, "%w", err)
			made := !(cleared && p.settling()) && p.makeRoom(a)
			cleared = cleared || made
			news := p.renew(ctx) && !renewed
			renewed = true
			well := !news && p.suspects.recheck()
			if !made && !news && !well && !p.settling() || try == planTries-1 {
				return nil, err
			}
		}
		if err != nil {
			p.log.Info("no plan yet", "model", a.model.entry.Name, "try", try+1, "error", err)
			last = err
			continue
		}
		path, err := p.connect(ctx, a, spec)
		if err == nil {
			return path, nil
		}
		p.log.Info("plan does not answer", "model", a.model.entry.Name, "try", try+1, "error", err)
		last = err
		// Whoever made it: stages that others use refuse.
		p.release(ctx, spec, "its probe failed")
	}
	return nil, api.Errorf(api.KindUnavailable, "no plan of %s became ready: %w", a.model.entry.Name, last)
}

// renewTime bounds the asking of all nodes for their records.
const renewTime = 500 * time.Millisecond

// renew asks the other nodes what they have now: what a plan took that was given
// back a moment ago still counts in records that are on their way. False when
// there is nobody to ask.
func (p *planner) renew(ctx context.Context) bool {
	if p.refresh == nil || len(p.peers()) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	p.refresh(ctx)
	return true
}

// connect opens the chains and sends a probe token across all stages.
func (p *planner) connect(ctx context.Context, a *active, spec *weftv1.PlanSpec) (*session.Path, error) {
	a.report(stateProbing, api.Progress{Phase: "probe", Text: "sending a probe token through the stages"})
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	path, err := p.opener.OpenPath(ctx, spec)
	if err != nil {
		var lost *worker.LostError
		if errors.As(err, &lost) && lost.Lost.Peer != p.self {
			p.suspects.report(lost.Lost.Peer, time.Now())
		}
		return nil, err
	}
	out, err := session.Drive(ctx, path, session.Spec{
		Params:    session.Params{Prompt: []int32{0}, MaxTokens: 1, Context: 2},
		Sampling:  &weftv1.Sampling{},
		NoPrefix:  true,
		Positions: 2,
	})
	var refused *session.RefusedError
	if errors.As(err, &refused) && refused.Busy {
		return path, nil // other heads' replies fill it: their tokens cross it
	}
	if err == nil && len(out.Tokens) != 1 {
		err = fmt.Errorf("the probe did not come back: %w", context.Cause(ctx))
	}
	if err != nil {
		path.Close()
		return nil, fmt.Errorf("probe the plan: %w", err)
	}
	return path, nil
}

// list gives the plans of this head.
func (p *planner) list() []*active {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*active
	for _, a := range p.plans {
		out = append(out, a)
	}
	return out
}

// close ends all paths and waits for plans in the making. The node's context
// has ended by then.
func (p *planner) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wg.Wait()
	for _, a := range p.list() {
		if a.path != nil {
			a.path.Close()
		}
	}
}
