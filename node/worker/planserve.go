package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const (
	// planTimeout bounds each message of the plan protocol.
	planTimeout = 20 * time.Second
	// progressEvery is the least time between two progress replies, and
	// progressQuiet the most.
	progressEvery = 200 * time.Millisecond
	progressQuiet = 2 * time.Second
)

// ServePlan answers one request of the plan protocol from member peer and ends
// the stream. Call it from the protocol's stream handler.
func (w *Worker) ServePlan(stream wire.Stream, peer string) {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	x := wire.NewExchange(ctx, stream, planTimeout)
	var req weftv1.PlanRequest
	if err := x.Receive(&req); err != nil {
		x.Abort()
		return
	}
	if err := w.answer(ctx, x, peer, &req); err != nil {
		x.Abort()
		return
	}
	_ = x.Close()
}

func (w *Worker) answer(ctx context.Context, x *wire.Exchange, peer string, req *weftv1.PlanRequest) error {
	switch b := req.Body.(type) {
	case *weftv1.PlanRequest_Reserve:
		return x.Send(w.reserve(ctx, peer, b.Reserve))
	case *weftv1.PlanRequest_Commit:
		p, reply := w.commit(peer, b.Commit.GetId())
		if reply != nil {
			return x.Send(reply)
		}
		return w.follow(ctx, x, p)
	case *weftv1.PlanRequest_Release:
		return x.Send(w.releaseBy(peer, b.Release))
	case *weftv1.PlanRequest_Lookup:
		return x.Send(w.lookup(b.Lookup))
	}
	return x.Send(refused("this node does not know the request; update it"))
}

// follow reports a plan's progress until it is ready, failed or released.
func (w *Worker) follow(ctx context.Context, x *wire.Exchange, p *plan) error {
	quiet := time.NewTicker(progressQuiet)
	defer quiet.Stop()
	for {
		w.mu.Lock()
		reply, changed := p.reply(), p.changed
		if p.state == released {
			if m := w.missing(p.spec.Id); m.Existing != nil {
				reply = m
			}
		}
		w.mu.Unlock()
		if err := x.Send(reply); err != nil {
			return err
		}
		if !underWay(reply.State) {
			return nil
		}
		select {
		case <-changed:
		case <-quiet.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		pause(ctx, progressEvery, p.stopped)
	}
}

// pause waits d, or until the load has ended.
func pause(ctx context.Context, d time.Duration, stopped <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-stopped:
	case <-ctx.Done():
	}
}

func underWay(s weftv1.PlanReply_State) bool {
	return s == weftv1.PlanReply_FETCHING || s == weftv1.PlanReply_LOADING
}

// AskPlan sends one request of the plan protocol over stream and returns the last
// reply. progress, which may be nil, gets the replies of a commit before it. The
// stream is closed. An error means that the node could not be asked.
func AskPlan(ctx context.Context, stream wire.Stream, req *weftv1.PlanRequest, progress func(*weftv1.PlanReply)) (*weftv1.PlanReply, error) {
	x := wire.NewExchange(ctx, stream, planTimeout)
	if err := x.Send(req); err != nil {
		x.Abort()
		return nil, fmt.Errorf("ask for a plan: %w", err)
	}
	for {
		reply := &weftv1.PlanReply{}
		if err := x.Receive(reply); err != nil {
			x.Abort()
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("ask for a plan: %w", err)
		}
		// Only a commit is followed; a lookup may well be told of a plan under way.
		if req.GetCommit() == nil || !underWay(reply.State) {
			_ = x.Close()
			return reply, nil
		}
		if progress != nil {
			progress(reply)
		}
	}
}

// Ask is AskPlan for this very node, without a stream.
func (w *Worker) Ask(ctx context.Context, req *weftv1.PlanRequest, progress func(*weftv1.PlanReply)) (*weftv1.PlanReply, error) {
	near, far := wire.PipeStream()
	if !w.spawn(func() { w.ServePlan(far, w.self) }) {
		_ = near.Reset()
		return nil, ErrClosed
	}
	return AskPlan(ctx, near, req, progress)
}
