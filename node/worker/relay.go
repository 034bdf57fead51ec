package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
)

// relay is a stage's part in one chain: the stream from its predecessor, the
// stream onward, and the sessions that were opened over them.
type relay struct {
	w     *Worker
	s     *served
	head  string
	class weftv1.Class
	index int // of the stage
	up    wire.Link
	down  wire.Link     // nil while it is being opened
	gone  chan struct{} // closed when the relay has ended
	// ctx ends when the relay does: it stops the opening of the onward stream.
	ctx    context.Context
	cancel context.CancelFunc

	// buf is used by sends; sendMu guards it.
	sendMu sync.Mutex
	buf    []byte

	// mu guards ended and, until the relay reads, down.
	mu    sync.Mutex
	ended bool
}

// serveChain takes a stream whose sender greeted this node as a stage.
func (w *Worker) serveChain(link wire.Link, hello *weftv1.ChainHello) {
	r, err := w.attach(link, hello)
	if err != nil {
		w.cfg.Log.Warn("chain refused", "peer", link.Peer(), "head", hello.Head, "error", err)
		refuse(link, w.self, reasonOf(err))
		return
	}
	defer w.detach(r)
	if err := r.connect(hello); err != nil {
		r.fail(r.next(), "it cannot be reached: "+reasonOf(err))
		return
	}
	read := make(chan struct{})
	if !w.cfg.Router.spawn(func() { defer close(read); r.readDown() }) {
		r.fail(w.self, ErrRouterClosed.Error())
		return
	}
	r.readUp()
	<-read
}

// Errors about chains through this node.
var (
	errNoPlan    = errors.New("this node holds no such plan; propose it again")
	errStranger  = errors.New("chain does not come from the plan's predecessor")
	errTooMany   = errors.New("too many chains through this stage")
	errPlanState = errors.New("the plan is not ready on this node")
)

// attach finds the stage that a hello asks for and checks who asks.
func (w *Worker) attach(link wire.Link, h *weftv1.ChainHello) (*relay, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.book.find(h.Plan)
	switch {
	case p == nil:
		return nil, errNoPlan
	case p.state != ready:
		return nil, errPlanState
	case int(h.To) != p.stage+1:
		return nil, fmt.Errorf("%w: it greets stage %d, this is %d", errHello, int(h.To)-1, p.stage)
	case p.attached >= w.cfg.MaxChains:
		return nil, errTooMany
	}
	before := h.Head
	if p.stage > 0 {
		before = p.spec.Stages[p.stage-1].Peer
	}
	if link.Peer() != before {
		return nil, fmt.Errorf("%w %s but from %s", errStranger, before, link.Peer())
	}
	r := &relay{w: w, s: p.served, head: h.Head, class: h.Class, index: p.stage, up: link, gone: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if !p.served.join(r) {
		r.cancel()
		return nil, errNoPlan
	}
	p.attached++
	return r, nil
}

func (w *Worker) detach(r *relay) {
	r.s.leave(r)
	if r.down != nil {
		<-r.down.Done()
	}
	<-r.up.Done()
	w.mu.Lock()
	r.s.plan.attached--
	if r.s.plan.attached == 0 {
		r.s.plan.idle = time.Now()
	}
	w.mu.Unlock()
	close(r.gone)
}

// next is the peer that the chain goes on to: the next stage, or the head.
func (r *relay) next() string {
	if stages := r.s.plan.spec.Stages; r.index+1 < len(stages) {
		return stages[r.index+1].Peer
	}
	return r.head
}

// connect opens the onward stream.
func (r *relay) connect(h *weftv1.ChainHello) error {
	down, err := r.w.cfg.Router.dial(r.ctx, r.next(), &weftv1.ChainHello{
		Plan: h.Plan, Head: h.Head, Chain: h.Chain, Class: h.Class, From: h.To, To: h.To + 1,
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
	if r.ended {
		down.Close(nil)
	}
	return nil
}

// fail ends the relay because peer is of no more use, and tells both sides.
func (r *relay) fail(peer, reason string) {
	lost := &weftv1.Lost{Peer: peer, Reason: clip(reason, maxReason)}
	for i, s := range r.s.plan.spec.Stages {
		if s.Peer == peer {
			lost.Stage = uint32(i)
		}
	}
	r.end(lost)
}

// end closes both links once, after lost, when there is one, was sent to both
// sides.
func (r *relay) end(lost *weftv1.Lost) {
	r.mu.Lock()
	first, down := !r.ended, r.down
	r.ended = true
	r.mu.Unlock()
	if !first {
		return
	}
	r.cancel()
	if lost != nil && r.w.ctx.Err() == nil { // not when this node itself stops
		r.w.cfg.Log.Warn("chain lost", "peer", lost.Peer, "reason", lost.Reason, "head", r.head)
	}
	for _, l := range []wire.Link{r.up, down} {
		if l == nil {
			continue
		}
		if lost != nil {
			_ = l.Send(lostFrame(lost), nil)
		}
		l.Close(nil)
	}
}

// readUp handles what the predecessor sends, in order, until the chain ends.
func (r *relay) readUp() {
	for {
		f, payload, err := r.up.Recv()
		if err != nil {
			r.fail(r.up.Peer(), reasonOf(err))
			return
		}
		if f.GetEnd() != nil {
			r.send(f, nil)
			r.end(nil)
			return
		}
		if lost := f.GetLost(); lost != nil {
			r.end(clipLost(lost))
			return
		}
		if err := r.handle(f, payload); err != nil {
			r.fail(r.up.Peer(), "protocol error: "+reasonOf(err))
			return
		}
	}
}

// readDown handles the reverse direction of the onward stream.
func (r *relay) readDown() {
	f, _, err := r.down.Recv()
	switch {
	case err != nil:
		r.fail(r.down.Peer(), reasonOf(err))
	case f.GetLost() != nil:
		r.end(clipLost(f.GetLost()))
	default:
		r.fail(r.down.Peer(), "protocol error: a frame that does not belong there")
	}
}

func clipLost(l *weftv1.Lost) *weftv1.Lost {
	return &weftv1.Lost{Peer: clip(l.Peer, maxPeer), Reason: clip(l.Reason, maxReason), Stage: l.Stage}
}

// handle takes one frame from the predecessor. An error is a protocol error.
func (r *relay) handle(f *weftv1.Frame, payload []byte) error {
	if run := f.GetRun(); run != nil {
		return r.s.run(r, run, payload)
	}
	if res := f.GetResult(); res != nil && r.index > 0 {
		// A failure of an earlier stage, on its way to the head.
		if res.Error == "" || len(res.Error) > maxReason || len(res.Drawn) > 0 || len(res.Session) != len(shard.SessionID{}) {
			return errors.New("a result that an earlier stage cannot give")
		}
		r.s.mark(r, res)
		r.send(f, nil)
		return nil
	}
	if r.class != weftv1.Class_CLASS_DECODE {
		return errors.New("only runs go on a prefill chain")
	}
	if r.s.backlogged() {
		return errors.New("more openings, closings and confirmations than the stage can follow")
	}
	switch b := f.Body.(type) {
	case *weftv1.Frame_Open:
		return r.s.open(r, b.Open, payload)
	case *weftv1.Frame_Truncate:
		return r.s.truncate(r, b.Truncate)
	case *weftv1.Frame_Confirm:
		return r.s.confirm(r, b.Confirm)
	case *weftv1.Frame_Close:
		return r.s.closeSession(r, b.Close)
	}
	return errors.New("a frame that does not belong there")
}

// send queues a frame for the next node of the chain. A link that has ended is
// noticed by its reader.
func (r *relay) send(f *weftv1.Frame, payload []byte) { _ = r.down.Send(f, payload) }

// sendHidden sends a frame with hidden states.
func (r *relay) sendHidden(f *weftv1.Frame, rows []float32) {
	r.sendMu.Lock()
	defer r.sendMu.Unlock()
	r.buf = wire.AppendFloats(r.buf[:0], rows)
	r.send(f, r.buf)
}

// busy counts the chain's sessions on its links.
func (r *relay) busy(delta int) {
	r.up.Busy(delta)
	r.down.Busy(delta)
}
