package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// RouterConfig makes a Router.
type RouterConfig struct {
	// Self is this node's peer id.
	Self string
	// OpenStream opens a run stream to a member; it must end with ctx.
	OpenStream func(ctx context.Context, peer string, class weftv1.Class) (wire.Stream, error)
	// DropPeer closes every connection to a peer that hangs. May be nil.
	DropPeer func(peer string)
	// Link configures the links; OnHung and Alive in it are the router's.
	Link wire.Config
	// HelloTimeout bounds how long a new stream may stay silent, and how long
	// opening an onward stream may take. Default 10 s.
	HelloTimeout time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Router joins the streams of chains: it takes those that other nodes open, opens
// those that this node needs, and joins ends that both lie on this node by pipes.
// Whether a stage's neighbour is this node or another makes no other difference.
type Router struct {
	cfg RouterConfig
	ctx context.Context // ends with Close
	end context.CancelFunc
	wg  sync.WaitGroup

	// mu guards everything below.
	mu     sync.Mutex
	closed bool
	links  map[wire.Link]struct{}
	heads  map[uint64]*Chain // chains of this node as head, by chain id
	alive  map[string]*atomic.Uint64
	// budgets bound what a peer may have under way on all of its links.
	budgets map[string]*wire.Budget
	stages  stageServer
}

// stageServer takes the streams of chains in which this node is a stage.
type stageServer interface {
	// serveChain owns link and returns when it has ended.
	serveChain(link wire.Link, hello *weftv1.ChainHello)
}

// Errors about streams of chains.
var (
	// ErrRouterClosed is returned once this node is shutting down.
	ErrRouterClosed = errors.New("node is shutting down")
	errHello        = errors.New("stream does not begin with a valid hello")
)

// NewRouter makes a router. Close ends it.
func NewRouter(cfg RouterConfig) *Router {
	if cfg.HelloTimeout <= 0 {
		cfg.HelloTimeout = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Router{
		cfg:   cfg,
		links: map[wire.Link]struct{}{}, heads: map[uint64]*Chain{}, alive: map[string]*atomic.Uint64{}, budgets: map[string]*wire.Budget{},
	}
	r.ctx, r.end = context.WithCancel(context.Background())
	return r
}

// Self is this node's peer id.
func (r *Router) Self() string { return r.cfg.Self }

// Serve takes an incoming run stream of an authenticated member over and returns
// when it has ended. Call it from the protocol's stream handler.
func (r *Router) Serve(stream wire.Stream, peer string) {
	link, err := r.newLink(func(cfg wire.Config) wire.Link { return wire.NewLink(stream, peer, cfg) }, peer)
	if err != nil {
		_ = stream.Reset()
		return
	}
	r.serveLink(link)
}

// Close ends every link and chain and waits for their goroutines.
func (r *Router) Close() {
	r.mu.Lock()
	r.closed = true
	links := make([]wire.Link, 0, len(r.links))
	for l := range r.links {
		links = append(links, l)
	}
	r.mu.Unlock()
	r.end()
	for _, l := range links {
		l.Close(ErrRouterClosed)
	}
	r.wg.Wait()
}

// setStages says who serves chains in which this node is a stage.
func (r *Router) setStages(s stageServer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stages = s
}

// spawn runs f on a goroutine that Close waits for; false when closed.
func (r *Router) spawn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.wg.Go(f)
	return true
}

// newLink makes a link that Close ends and waits for.
func (r *Router) newLink(make func(wire.Config) wire.Link, peer string) (wire.Link, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrRouterClosed
	}
	cfg := r.cfg.Link
	cfg.Log = r.cfg.Log
	cfg.OnHung = r.cfg.DropPeer
	cfg.Alive = r.alive[peer]
	if cfg.Alive == nil {
		cfg.Alive = new(atomic.Uint64)
		r.alive[peer] = cfg.Alive
	}
	if cfg.Budget = r.budgets[peer]; cfg.Budget == nil {
		cfg.Budget = wire.NewBudget(peerBytes)
		r.budgets[peer] = cfg.Budget
	}
	return r.track(make(cfg)), nil
}

// track registers a link until it has ended; mu is held.
func (r *Router) track(l wire.Link) wire.Link {
	r.links[l] = struct{}{}
	r.wg.Go(func() {
		<-l.Done()
		r.mu.Lock()
		delete(r.links, l)
		r.mu.Unlock()
	})
	return l
}

// serveLink reads the hello of an incoming link and hands the link on.
func (r *Router) serveLink(link wire.Link) {
	timer := time.AfterFunc(r.cfg.HelloTimeout, func() { link.Close(fmt.Errorf("%w: nothing came", errHello)) })
	frame, _, err := link.Recv()
	timer.Stop()
	if err != nil {
		return
	}
	hello := frame.GetHello()
	if err := checkHello(hello); err != nil {
		r.cfg.Log.Warn("run stream refused", "peer", link.Peer(), "error", err)
		link.Close(err)
		return
	}
	chain, stages := r.routeOf(hello)
	switch {
	case chain != nil:
		chain.serveResults(link, hello)
	case stages != nil:
		stages.serveChain(link, hello)
	default:
		refuse(link, r.cfg.Self, "this node serves no stages")
	}
}

// routeOf says whom a hello is for: a chain of this node as head, or a stage.
func (r *Router) routeOf(hello *weftv1.ChainHello) (*Chain, stageServer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if hello.Head == r.cfg.Self {
		if c := r.heads[hello.Chain]; c != nil && int(hello.To) == len(c.plan.Stages)+1 {
			return c, nil
		}
	}
	return nil, r.stages
}

// checkHello bounds what a hello says; who may say it is the receiver's matter.
func checkHello(h *weftv1.ChainHello) error {
	switch {
	case h == nil:
		return errHello
	case len(h.GetPlan().GetModel()) != hashBytes:
		return fmt.Errorf("%w: model of %d bytes", errHello, len(h.GetPlan().GetModel()))
	case h.Plan.Profile == nil:
		return fmt.Errorf("%w: no profile", errHello)
	case len(h.Head) == 0 || len(h.Head) > maxPeer || len(h.Plan.Owner) > maxPeer:
		return fmt.Errorf("%w: head or owner", errHello)
	case h.Class != weftv1.Class_CLASS_DECODE && h.Class != weftv1.Class_CLASS_PREFILL:
		return fmt.Errorf("%w: class %d", errHello, h.Class)
	case h.To == 0 || h.To > maxStages+1 || h.From != h.To-1:
		return fmt.Errorf("%w: from %d to %d", errHello, h.From, h.To)
	}
	return nil
}

// dial opens a link to peer, over a pipe when that is this node, and greets.
func (r *Router) dial(ctx context.Context, peer string, hello *weftv1.ChainHello) (wire.Link, error) {
	link, err := r.connect(ctx, peer, hello.Class)
	if err != nil {
		return nil, err
	}
	err = link.Send(&weftv1.Frame{Body: &weftv1.Frame_Hello{Hello: hello}}, nil)
	if err != nil {
		link.Close(err)
		return nil, err
	}
	return link, nil
}

func (r *Router) connect(ctx context.Context, peer string, class weftv1.Class) (wire.Link, error) {
	if peer == r.cfg.Self {
		return r.pipe()
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.HelloTimeout)
	defer cancel()
	stop := context.AfterFunc(r.ctx, cancel)
	defer stop()
	stream, err := r.cfg.OpenStream(ctx, peer, class)
	if err != nil {
		return nil, fmt.Errorf("open run stream to %s: %w", peer, err)
	}
	link, err := r.newLink(func(cfg wire.Config) wire.Link { return wire.NewLink(stream, peer, cfg) }, peer)
	if err != nil {
		_ = stream.Reset()
	}
	return link, err
}

// pipe joins this node with itself: it returns the near end and serves the far
// one.
func (r *Router) pipe() (wire.Link, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrRouterClosed
	}
	cfg := r.cfg.Link
	cfg.Log = r.cfg.Log
	near, far := wire.Pipe(r.cfg.Self, r.cfg.Self, cfg)
	r.track(near)
	r.track(far)
	r.wg.Go(func() { r.serveLink(far) })
	return near, nil
}

// refuse tells the other side why and ends the link.
func refuse(link wire.Link, self, reason string) {
	_ = link.Send(lostFrame(&weftv1.Lost{Peer: self, Reason: reason}), nil)
	link.Close(nil)
}

func lostFrame(l *weftv1.Lost) *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_Lost{Lost: l}}
}

func endFrame() *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_End{End: &weftv1.End{}}}
}

// peerBytes is what bodies of one peer may take in parts at once: a stage's
// predecessor has a link or two with at most maxCredit each.
const peerBytes = 4 * maxCredit

// maxReason bounds a reason that another node gave.
const maxReason = 512

// clip bounds text from another node.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
