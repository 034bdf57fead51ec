package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/kv"
)

// StageSpec is one stage to bring into being.
type StageSpec struct {
	Model       [32]byte // manifest hash
	Profile     *weftv1.Profile
	Name        string // the model's name, for people
	First, Last int    // layers, both inclusive
	Layers      int    // of the whole model, as the plan says; the Loader checks it
	KVPositions int    // positions to reserve KV for
	Owner       string // peer id of the head that proposed the plan
	Reserved    Needs  // what Loader.Needs said, once it is reserved
}

// Needs is the memory that a stage takes, in bytes, wherever it lies.
type Needs struct {
	Weights, KV, Activations uint64
	// Places say which layers lie on which device; none: all on the processor.
	Places []Place
}

// Processor is the machine's processor as the Device of a Place.
const Processor = -1

// Place is a run of a stage's layers on a device.
type Place struct {
	Device      int    // as the Loader numbers them, or Processor
	First, Last int    // layers, Last included
	Bytes       uint64 // of weights, KV and activations
	Own         bool   // the device has memory of its own: the machine's is not taken
}

// Total is the sum.
func (n Needs) Total() uint64 { return n.Weights + n.KV + n.Activations }

// Machine is what of it lies in the machine's own memory.
func (n Needs) Machine() uint64 {
	if len(n.Places) == 0 {
		return n.Total()
	}
	var sum uint64
	for _, p := range n.Places {
		if !p.Own {
			sum += p.Bytes
		}
	}
	return sum
}

// At is what of it lies on a device, in its own memory or the machine's.
func (n Needs) At(device int) uint64 {
	var sum uint64
	for _, p := range n.Places {
		if p.Device == device {
			sum += p.Bytes
		}
	}
	return sum
}

// On is what of it lies in a device's own memory.
func (n Needs) On(device int) uint64 {
	var sum uint64
	for _, p := range n.Places {
		if p.Own && p.Device == device {
			sum += p.Bytes
		}
	}
	return sum
}

// Stage is what a Worker needs of a *shard.Stage, which has these methods. One
// goroutine uses it.
type Stage interface {
	Open(shard.SessionSpec) (held int, err error)
	Start(id shard.SessionID, epoch uint64, base int) error
	Truncate(id shard.SessionID, epoch uint64, keep int) error
	Confirm(id shard.SessionID, n int) error
	CloseSession(id shard.SessionID)
	Step([]shard.Run) ([]shard.Result, error)
	Close() error
}

// Loaded is a stage in memory.
type Loaded struct {
	Stage   Stage
	Embd    int             // elements of a hidden state
	Vocab   int             // for checking what a session asks for
	Context int             // positions of a session at most
	MaxRows int             // rows of a step at most
	Blocks  int             // KV blocks of the stage
	KV      func() kv.Stats // counts them; it may wait for a step, and is called between steps
	// Device is held around every step, for a device is used by one goroutine
	// at a time; stages on one device share it. Nil: the device is the stage's.
	Device sync.Locker
	// Free gives back what the Loader holds for the stage; it is called once,
	// after Stage.Close. May be nil.
	Free func()
	// Needs, when not nil, is what the stage takes now that it is loaded, where that
	// is not what was reserved.
	Needs *Needs
}

// Phase is a part of a stage's loading.
type Phase uint8

// The phases.
const (
	Fetching Phase = iota // weights come from peers
	Loading               // weights are packed and mapped
)

// Loader brings stages into being. The daemon makes one of the store, the
// fetcher and the device.
type Loader interface {
	// Needs says what a stage takes, without loading it. It may fetch the
	// model's header from the owner. An error refuses the reservation.
	Needs(ctx context.Context, spec StageSpec) (Needs, error)
	// Load fetches what is missing and loads the stage, calling progress from
	// one goroutine at a time. It returns early when ctx ends.
	Load(ctx context.Context, spec StageSpec, progress func(phase Phase, done, total uint64)) (*Loaded, error)
}

// Config makes a Worker.
type Config struct {
	Router *Router
	Loader Loader
	// Offered is how much memory the user lets stages take, in bytes.
	Offered func() uint64
	// Room is how much memory of its own a device lets stages take, in bytes. Nil:
	// none has any.
	Room func(device int) uint64
	// Alive says whether a node is a live member: plans of the dead do not stand
	// in the way. Nil: all are.
	Alive func(peer string) bool
	// ReserveTime is how long a reservation waits for its commit. Default 30 s.
	ReserveTime time.Duration
	// OrphanTime is how long a plan that nobody uses outlives its owner.
	// Default 60 s.
	OrphanTime time.Duration
	// MaxSessions bounds the sessions of one stage. Default 256.
	MaxSessions int
	// MaxChains bounds the chains through one stage. Default 128.
	MaxChains int
	// PrefillTime is how long the prefill rows of a step may take while other
	// sessions decode. Default 30 ms.
	PrefillTime time.Duration
	// NeedsTime bounds Loader.Needs. Default 15 s.
	NeedsTime time.Duration
	// Changed is called, from any goroutine and without waiting, when a plan of
	// this node has changed its state. May be nil.
	Changed func()
	// Log may be nil.
	Log *slog.Logger
}

func (c *Config) fill() error {
	if c.Router == nil || c.Loader == nil || c.Offered == nil {
		return errors.New("start worker: a router, a loader and the offered memory are needed")
	}
	if c.Alive == nil {
		c.Alive = func(string) bool { return true }
	}
	if c.Room == nil {
		c.Room = func(int) uint64 { return 0 }
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.ReserveTime, 30*time.Second)
	setDefault(&c.OrphanTime, time.Minute)
	setDefault(&c.PrefillTime, 30*time.Millisecond)
	setDefault(&c.NeedsTime, 15*time.Second)
	setDefault(&c.MaxSessions, 256)
	setDefault(&c.MaxChains, 128)
	return nil
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// maxAsking bounds the proposals that are looked at together: each may fetch a
// model's header from whoever proposes it.
const maxAsking = 4

// Worker holds this node's stages. Methods may be called from anywhere.
type Worker struct {
	cfg  Config
	self string
	ctx  context.Context
	end  context.CancelFunc
	wg   sync.WaitGroup
	// asking holds a place for each proposal whose needs are being found out.
	asking chan struct{}

	// mu guards everything below, and the fields of plan that say so.
	mu     sync.Mutex
	closed bool
	book   book
}

// ErrClosed is returned by a worker that has been closed.
var ErrClosed = errors.New("worker is closed")

// New makes a worker that takes the chains of its router. Close it before the
// router.
func New(cfg Config) (*Worker, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	w := &Worker{cfg: cfg, self: cfg.Router.Self(), asking: make(chan struct{}, maxAsking)}
	w.book = book{plans: map[slotKey]*plan{}}
	w.ctx, w.end = context.WithCancel(context.Background())
	w.wg.Go(w.sweep)
	cfg.Router.setStages(w)
	return w, nil
}

// Close releases every plan, ends its chains and waits for all goroutines.
func (w *Worker) Close() {
	w.mu.Lock()
	w.closed = true
	var all []*plan
	for _, p := range w.book.plans {
		all = append(all, p)
	}
	w.mu.Unlock()
	w.end()
	for _, p := range all {
		w.release(p, "the node is shutting down")
	}
	w.wg.Wait()
}

// spawn runs f on a goroutine that Close waits for; false when closed.
func (w *Worker) spawn(f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.wg.Go(f)
	return true
}

// sweepEvery is how often expired reservations and orphans are looked for.
const sweepEvery = time.Second

// brokenTime is how long a plan that nobody uses outlives one of its nodes: a node
// that stood still while its head gave such a plan back would keep its memory from
// the next plan for as long as the head lives.
const brokenTime = 2 * time.Second

// sweep releases reservations that were not committed, and plans that nobody uses
// and whose owner or one of whose nodes has gone.
func (w *Worker) sweep() {
	t := time.NewTicker(min(sweepEvery, w.cfg.ReserveTime/2, w.cfg.OrphanTime/2))
	defer t.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case now := <-t.C:
			for p, reason := range w.overdue(now) {
				w.release(p, reason)
			}
		}
	}
}

// overdue lists the plans that have outlived their use.
func (w *Worker) overdue(now time.Time) map[*plan]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[*plan]string{}
	for _, p := range w.book.plans {
		patience, reason := w.cfg.OrphanTime, "its owner has gone and nobody uses it"
		broken := p.state != loading && p.broken(w.cfg.Alive)
		if broken {
			patience, reason = min(patience, brokenTime), "a node of it has gone and nobody uses it"
		}
		switch {
		case p.state == reserved && now.Sub(p.since) > w.cfg.ReserveTime:
			out[p] = fmt.Sprintf("it was not committed within %s", w.cfg.ReserveTime)
		case p.state == reserved || p.attached > 0 || w.cfg.Alive(p.spec.Id.Owner) && !broken:
			p.orphan = time.Time{}
		case p.orphan.IsZero():
			p.orphan = now
		case now.Sub(p.orphan) > patience:
			out[p] = reason
		}
	}
	return out
}
