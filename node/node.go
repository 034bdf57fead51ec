package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/devices"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/node/spec"
	"github.com/weft-mesh/weft/node/speed"
	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/wire"
	"github.com/weft-mesh/weft/shard/store"
)

// WireVersion numbers the protocols between nodes.
const WireVersion = 1

// missedBeats is how many heartbeats of 100 ms a busy peer may leave unanswered.
// Only a hung process or a cut link needs them to be noticed; five were too few
// for machines that compute more than they have cores.
const missedBeats = 10

// Node is a running daemon; see Start.
type Node struct {
	cfg    api.Config
	log    *slog.Logger
	now    func() time.Time
	begin  time.Time
	store  *store.Store
	lock   *store.HomeLock // nil for a run without a daemon
	device kernels.Device  // the processor
	// threads are how many compute on it.
	threads int
	cards   cards
	// backends find cards.
	backends []devices.Backend
	blind    bool                                                 // the system shows no card
	patience func(waits int, longest time.Duration) time.Duration // with them; nil: the usual
	speed    speed.Speed
	facts    machine.Info // at start
	probe    *machine.Probe
	told     steady // what the record tells of them
	offer    int64  // bytes that stages may take
	lib      *library
	load     *loader
	router   *worker.Router
	worker   *worker.Worker
	plans    *planner
	mesh     *mesh // nil for a run without a daemon
	front    *front
	// suspects are nodes that were lost a moment ago.
	suspects suspects
	// aside are nodes that sent wrong weights, moved what weights crossed the links.
	aside    aside
	moved    moved
	provider provider

	ctx    context.Context // ends when the node stops
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // background goroutines
	done   chan struct{}  // closed when everything has ended

	hubPace   *worker.Pacer // of what comes from the hub
	sessions  atomic.Int64  // replies of this head
	generated atomic.Int64  // tokens of this head
	failovers atomic.Int64  // replies of this head that went on under another plan
	replies   replies
	drafted   atomic.Int64 // tokens that were sent as drafts
	accepted  atomic.Int64 // of those
	runs      atomic.Int64 // decode runs of this head
	grams     *spec.Library
	drafts    *drafts
	bySource  bySource // accepted tokens
	stopOnce  sync.Once
	stopErr   error
}

// Start starts a node and returns when it serves. It blocks while the machine's
// speed is measured the first time, and while a mesh is joined.
func Start(ctx context.Context, c api.Config, progress func(api.Progress)) (api.Running, error) {
	return startWith(ctx, c, progress, func(n *Node) { n.backends, n.blind = devices.Backends(), !machine.GraphicsPresent() })
}

// startWith is Start with a node that is made ready by prepare.
func startWith(ctx context.Context, c api.Config, progress func(api.Progress), prepare func(*Node)) (api.Running, error) {
	if c.Home == "" {
		return nil, errors.New("start node: no state directory")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if progress == nil {
		progress = func(api.Progress) {}
	}
	if err := os.MkdirAll(c.Home, 0o700); err != nil {
		return nil, fmt.Errorf("start node: %w; choose another directory with WEFT_HOME", err)
	}
	if _, err := spec.ParseMode(c.Speculate); err != nil {
		return nil, api.Errorf(api.KindInvalid, "%w", err)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	n := &Node{cfg: c, log: c.Log, now: c.Now, begin: c.Now(), done: make(chan struct{}), grams: spec.NewLibrary(0)}
	n.hubPace = worker.NewPacer(n.hubBound)
	prepare(n)
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	if err := n.start(ctx, progress); err != nil {
		n.stop(err)
		return nil, err
	}
	return n, nil
}

func (n *Node) start(ctx context.Context, progress func(api.Progress)) error {
	var err error
	if !n.cfg.Solo {
		if n.lock, err = store.Lock(n.cfg.Home); err != nil {
			return err
		}
	}
	if n.store, err = store.Open(n.cfg.Home, store.Options{Logger: n.log, Budget: uint64(max(n.cfg.Disk, 0))}); err != nil {
		return err
	}
	n.provider.n = n
	if n.lock != nil {
		n.sweep()
	}
	if err := n.startDevice(ctx, progress); err != nil {
		return err
	}
	n.lib = &library{store: n.store, cache: map[string]*opened{}}
	n.drafts = newDrafts(n)
	n.load = &loader{lib: n.lib, store: n.store, device: n.device, node: n, dropIdle: n.dropIdle, fetch: n.fetchTensors, log: n.log}
	n.drafts.load = n.load.Load
	n.suspects.answers, n.suspects.meets = n.answers, n.meets
	n.plans = &planner{snapshot: n.snapshot, known: n.known, name: n.nodeName, peers: n.planPeers, computes: n.computes, changed: n.changed, ownStep: n.ownStep, holds: n.holds, log: n.log, suspects: &n.suspects, ctx: n.ctx, plans: map[string]*active{}}
	self := "solo"
	if !n.cfg.Solo {
		if n.mesh, err = n.startMesh(ctx, progress); err != nil {
			return err
		}
		self = n.mesh.host.ID().String()
		n.lib.fetch, n.lib.offered, n.lib.refresh = n.mesh.fetchManifest, n.mesh.models, n.mesh.gossip.Refresh
		n.lib.learn, n.plans.refresh = n.mesh.learn, n.mesh.gossip.Refresh
	}
	n.cards.opened = make(chan struct{})
	if err := n.startWorker(self, n.load); err != nil {
		return err
	}
	n.plans.self, n.plans.asker, n.plans.opener = self, n, n
	n.plans.awaits, n.plans.relaid = n.awaitDevices, n.relaid
	if err := n.openDevices(ctx, progress); err != nil {
		return err
	}
	if n.mesh != nil {
		n.mesh.serve()
		n.wg.Go(n.publish)
		n.wg.Go(n.keepRoster)
		n.wg.Go(n.tidy)
	}
	if n.front, err = n.startFront(); err != nil {
		return err
	}
	return nil
}

// sweep deletes what a crash left in the store. That it cannot is no reason not
// to start.
func (n *Node) sweep() {
	freed, err := n.store.Sweep()
	if err != nil {
		n.log.Warn("store was not swept", "error", err)
	}
	if freed > 0 {
		n.log.Info("removed leftovers from the store", "bytes", freed)
	}
}

// startDevice opens the compute device and finds out how fast it is.
func (n *Node) startDevice(ctx context.Context, progress func(api.Progress)) error {
	n.probe = machine.NewProbe(n.cfg.Home)
	n.facts = n.probe.Facts(ctx)
	threads := n.cfg.Threads
	if threads == 0 {
		threads = n.facts.Cores
	}
	if threads < 0 || threads > 1024 {
		return api.Errorf(api.KindInvalid, "%d threads were asked for; this machine has %d cores", threads, n.facts.Cores)
	}
	dev, err := cpu.New(cpu.Options{Threads: threads, Tier: n.cfg.Tier})
	if err != nil {
		return fmt.Errorf("start device: %w", err)
	}
	n.device, n.threads = dev, threads
	n.offer = n.cfg.Memory
	switch {
	case n.offer < 0:
		n.offer = 0
	case n.offer == 0:
		n.offer = n.facts.MemFree / 4 * 3
	}
	if n.cfg.Solo || n.offer == 0 {
		// Nobody plans with its speed; any figure serves the one-node plan.
		n.speed = speed.Speed{DecodeBps: 20e9, PrefillOps: 100e9}
		return nil
	}
	progress(api.Progress{Phase: "measure", Text: "measuring this machine's speed"})
	n.speed, err = n.ownSpeed()
	return err
}

// ownSpeed measures the processor, once for a build.
func (n *Node) ownSpeed() (speed.Speed, error) {
	key := fmt.Sprintf("%s|%s|%d|%s|%s", n.facts.CPU, n.device.Name(), n.threads, n.cfg.Version, runtime.Version())
	return speed.Cached(n.cfg.Home, key, n.threads, n.facts.MemFree, n.device)
}

func (n *Node) startWorker(self string, load *loader) error {
	rc := worker.RouterConfig{Self: self, OpenStream: n.openRun, DropPeer: n.dropPeer, Link: wire.Config{Missed: missedBeats}, Log: n.log}
	n.router = worker.NewRouter(rc)
	var err error
	n.worker, err = worker.New(worker.Config{
		Router: n.router, Loader: load, Offered: func() uint64 { return uint64(n.offered()) }, Room: n.roomOn,
		Alive: n.peerAlive, Changed: n.changed, Log: n.log,
	})
	return err
}

// alive gives a context that ends with ctx or with the node.
func (n *Node) alive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(n.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// background runs f on a goroutine that Close waits for.
func (n *Node) background(f func()) {
	if n.ctx.Err() == nil {
		n.wg.Go(f)
	}
}

// Node implements api.Running.
func (n *Node) Node() api.Node { return n }

// Socket implements api.Running.
func (n *Node) Socket() string { return n.front.socket() }

// HTTPAddr implements api.Running.
func (n *Node) HTTPAddr() string { return n.front.addr() }

// Done implements api.Running.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err implements api.Running.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.stopErr
	default:
		return nil
	}
}

// Close implements api.Running: it ends replies, gives stages back, says
// goodbye to the mesh and waits for all goroutines.
func (n *Node) Close() error {
	n.stop(nil)
	<-n.done
	return n.stopErr
}

// stop ends everything once, in the order of who uses whom.
func (n *Node) stop(cause error) {
	n.stopOnce.Do(func() {
		defer close(n.done)
		n.stopErr = cause
		n.cancel(cause)
		if n.front != nil {
			n.front.close()
		}
		if n.plans != nil {
			n.plans.close()
		}
		if n.worker != nil {
			n.worker.Close()
		}
		if n.mesh != nil {
			n.mesh.close()
		}
		if n.router != nil {
			n.router.Close()
		}
		n.wg.Wait()
		if n.drafts != nil {
			n.drafts.close()
		}
		n.stopErr = errors.Join(n.stopErr, n.cards.get().Close())
		if n.device != nil {
			n.stopErr = errors.Join(n.stopErr, n.device.Close())
		}
		if n.lock != nil {
			n.stopErr = errors.Join(n.stopErr, n.lock.Unlock())
		}
	})
}
