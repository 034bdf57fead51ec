package worker

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// ChainHandler takes what comes back over a chain. OpenReply, Result and
// CloseReply are called from one goroutine in the order of arrival; Lost from
// another. None may wait: the chain's reader stands still meanwhile. The
// messages are the handler's to keep.
type ChainHandler interface {
	OpenReply(*weftv1.OpenReply)
	Result(*weftv1.Result)
	CloseReply(*weftv1.CloseReply)
	// Lost is called at most once, when the chain is of no more use: the stage
	// that has gone and why. It is not called after Close.
	Lost(*weftv1.Lost)
}

// LostError is a chain that broke, or could not be opened.
type LostError struct{ Lost *weftv1.Lost }

func (e *LostError) Error() string {
	return fmt.Sprintf("stage %d at %s is lost: %s", e.Lost.Stage, e.Lost.Peer, e.Lost.Reason)
}

// ErrChainClosed is what a chain returns after Close.
var ErrChainClosed = errors.New("chain is closed")

// closeWait bounds how long a closed chain waits for its stages to close.
const closeWait = 2 * time.Second

// Chain is the head's end of a chain of stages: what is sent goes to the first
// stage, results come from the last. Methods may be called from anywhere.
type Chain struct {
	r       *Router
	id      uint64
	plan    *weftv1.PlanSpec
	class   weftv1.Class
	handler ChainHandler
	down    wire.Link     // to the first stage
	ready   chan struct{} // closed when the last stage has greeted
	failed  chan struct{} // closed when err is set
	done    chan struct{}
	wg      sync.WaitGroup

	// mu guards everything below.
	mu     sync.Mutex
	up     wire.Link // from the last stage
	err    error
	opened bool // OpenChain has returned it: Lost goes to the handler
	timer  *time.Timer
}

// OpenChain opens a chain through the stages of plan and waits until the last
// one has greeted. A stage that refuses or cannot be reached is a *LostError.
func (r *Router) OpenChain(ctx context.Context, plan *weftv1.PlanSpec, class weftv1.Class, handler ChainHandler) (*Chain, error) {
	if err := checkPlan(plan); err != nil {
		return nil, fmt.Errorf("open chain: %w", err)
	}
	c := &Chain{
		r: r, plan: proto.CloneOf(plan), class: class, handler: handler,
		ready: make(chan struct{}), failed: make(chan struct{}), done: make(chan struct{}),
	}
	if err := r.addChain(c); err != nil {
		return nil, err
	}
	if err := c.open(ctx); err != nil {
		c.fail(err)
		c.wg.Wait()
		r.removeChain(c)
		return nil, err
	}
	return c, nil
}

// addChain gives c an id and registers it for the last stage's hello.
func (r *Router) addChain(c *Chain) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrRouterClosed
	}
	for c.id == 0 || r.heads[c.id] != nil {
		var b [8]byte
		rand.Read(b[:])
		c.id = binary.LittleEndian.Uint64(b[:])
	}
	r.heads[c.id] = c
	return nil
}

func (r *Router) removeChain(c *Chain) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.heads, c.id)
}

// open greets the first stage and waits for the last.
func (c *Chain) open(ctx context.Context) error {
	first := c.plan.Stages[0].Peer
	down, err := c.r.dial(ctx, first, &weftv1.ChainHello{
		Plan: c.plan.Id, Head: c.r.cfg.Self, Chain: c.id, Class: c.class, From: 0, To: 1,
	})
	if err != nil {
		return &LostError{&weftv1.Lost{Peer: first, Reason: err.Error()}}
	}
	c.mu.Lock()
	c.down = down
	failed := c.err
	c.mu.Unlock()
	if failed != nil { // the last stage greeted and failed before the first was noted
		down.Close(failed)
		return failed
	}
	c.wg.Add(1)
	if !c.r.spawn(func() { defer c.wg.Done(); c.readDown() }) {
		c.wg.Done()
		down.Close(ErrRouterClosed)
		return ErrRouterClosed
	}
	select {
	case <-c.ready:
	case <-c.failed:
		return c.Err()
	case <-ctx.Done():
		return fmt.Errorf("open chain: %w", context.Cause(ctx))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.opened = true
	c.wg.Add(1)
	if !c.r.spawn(func() { defer c.wg.Done(); c.awaitEnd() }) {
		c.wg.Done()
		return ErrRouterClosed
	}
	return nil
}

// awaitEnd closes Done when both links have ended.
func (c *Chain) awaitEnd() {
	<-c.down.Done()
	<-c.failed
	<-c.up.Done()
	c.r.removeChain(c)
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	close(c.done)
}

// Plan is the plan that the chain runs through. It must not be changed.
func (c *Chain) Plan() *weftv1.PlanSpec { return c.plan }

// Class is the chain's class.
func (c *Chain) Class() weftv1.Class { return c.class }

// Send queues a frame for the first stage without waiting.
func (c *Chain) Send(f *weftv1.Frame, payload []byte) error {
	if err := c.Err(); err != nil {
		return err
	}
	return c.down.Send(f, payload)
}

// Busy counts open sessions up or down; while there are any, heartbeats run.
func (c *Chain) Busy(delta int) {
	c.down.Busy(delta)
	c.up.Busy(delta)
}

// Close ends the chain in order: the stages close its sessions. It does not wait.
func (c *Chain) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = ErrChainClosed
	close(c.failed)
	_ = c.down.Send(endFrame(), nil)
	c.down.Close(nil)
	// The end travels through the stages and comes back on the result stream.
	up := c.up
	c.timer = time.AfterFunc(closeWait, func() { up.Close(ErrChainClosed) })
}

// Done is closed when the chain has ended and its goroutines with it.
func (c *Chain) Done() <-chan struct{} { return c.done }

// Err is why the chain ended, nil while it is up.
func (c *Chain) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Stats are the counters of the streams to the first and from the last stage.
func (c *Chain) Stats() (down, up wire.Stats) { return c.down.Stats(), c.up.Stats() }

// fail ends the chain for a fault.
func (c *Chain) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	close(c.failed)
	opened, down, up := c.opened, c.down, c.up
	c.mu.Unlock()
	if down != nil {
		down.Close(err)
	}
	if up != nil {
		up.Close(err)
	}
	var lost *LostError
	if opened && errors.As(err, &lost) {
		c.r.cfg.Log.Warn("chain lost", "peer", lost.Lost.Peer, "stage", lost.Lost.Stage, "reason", lost.Lost.Reason)
		c.handler.Lost(lost.Lost)
	}
}

// readDown reads the reverse direction of the stream to the first stage.
func (c *Chain) readDown() {
	f, _, err := c.down.Recv()
	if err != nil {
		c.fail(&LostError{&weftv1.Lost{Peer: c.plan.Stages[0].Peer, Reason: reasonOf(err)}})
		return
	}
	lost := f.GetLost()
	if lost == nil {
		c.protocol(c.down, 0)
		return
	}
	c.fail(c.lost(lost))
}

// serveResults reads the stream from the last stage; it owns link.
func (c *Chain) serveResults(link wire.Link, hello *weftv1.ChainHello) {
	if err := c.attach(link, hello); err != nil {
		c.r.cfg.Log.Warn("result stream refused", "peer", link.Peer(), "error", err)
		link.Close(err)
		return
	}
	// Also when the chain is closed already and what comes is of no interest.
	defer link.Close(nil)
	last := len(c.plan.Stages) - 1
	for {
		f, _, err := link.Recv()
		if err != nil {
			c.fail(&LostError{&weftv1.Lost{Peer: c.plan.Stages[last].Peer, Stage: uint32(last), Reason: reasonOf(err)}})
			return
		}
		switch b := f.Body.(type) {
		case *weftv1.Frame_Result:
			c.handler.Result(b.Result)
		case *weftv1.Frame_OpenReply:
			c.handler.OpenReply(b.OpenReply)
		case *weftv1.Frame_CloseReply:
			c.handler.CloseReply(b.CloseReply)
		case *weftv1.Frame_Lost:
			c.fail(c.lost(b.Lost))
			return
		case *weftv1.Frame_End:
			c.fail(&LostError{&weftv1.Lost{Peer: link.Peer(), Stage: uint32(last), Reason: "it ended the chain"}})
			return
		default:
			c.protocol(link, last)
			return
		}
	}
}

// attach takes the last stage's stream, if it is that.
func (c *Chain) attach(link wire.Link, hello *weftv1.ChainHello) error {
	last := c.plan.Stages[len(c.plan.Stages)-1].Peer
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case link.Peer() != last:
		return fmt.Errorf("%w: it comes from %s, not from the last stage %s", errHello, link.Peer(), last)
	case !proto.Equal(hello.Plan, c.plan.Id) || hello.Class != c.class:
		return fmt.Errorf("%w: another plan or class", errHello)
	case c.up != nil || c.err != nil:
		return fmt.Errorf("%w: the chain is complete or closed", errHello)
	}
	c.up = link
	close(c.ready)
	return nil
}

// lost bounds what a stage reports.
func (c *Chain) lost(l *weftv1.Lost) error {
	out := &weftv1.Lost{Peer: clip(l.Peer, maxPeer), Reason: clip(l.Reason, maxReason)}
	if out.Peer == c.r.cfg.Self && c.plan.Stages[0].Peer != out.Peer {
		// This node is well; its first stage has lost the connection.
		out.Peer, out.Reason = c.plan.Stages[0].Peer, clip("its connection broke: "+out.Reason, maxReason)
	}
	for i, s := range c.plan.Stages {
		if s.Peer == out.Peer {
			out.Stage = uint32(i)
		}
	}
	return &LostError{out}
}

// protocol ends the chain because a stage sent what it may not.
func (c *Chain) protocol(link wire.Link, stage int) {
	c.fail(&LostError{&weftv1.Lost{Peer: link.Peer(), Stage: uint32(stage), Reason: "it sent a frame that does not belong there"}})
}

// reasonOf says in words why a link ended.
func reasonOf(err error) string { return clip(err.Error(), maxReason) }
