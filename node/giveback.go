package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weft-mesh/weft/node/session"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// drop forgets a plan that broke and tells its surviving stages, so that the
// next prompt is planned anew. Whoever calls it again waits for the first.
func (p *planner) drop(a *active) {
	a.dropped.Do(func() {
		p.giving.RLock()
		defer p.giving.RUnlock()
		p.forget(a)
		a.mu.Lock()
		path, spec := a.path, a.spec
		a.mu.Unlock()
		if path == nil {
			return
		}
		reason := "a stage was lost"
		if err := path.Err(); err != nil {
			reason = err.Error()
		}
		var lost *session.LostError
		if errors.As(path.Err(), &lost) {
			p.suspects.report(lost.Peer, path.Ended())
		}
		path.Close()
		p.giveBack(p.ctx, spec, reason)
	})
}

// release gives every stage of a plan back.
func (p *planner) release(ctx context.Context, spec *weftv1.PlanSpec, reason string) {
	p.giving.RLock()
	defer p.giving.RUnlock()
	p.giveBack(ctx, spec, reason)
}

// given waits until what is being given back is: a plan that is taken up again
// must not be met by an order to release it that was still on its way.
func (p *planner) given() {
	p.giving.Lock()
	defer p.giving.Unlock()
}

// giveBack releases every stage of a plan, but for those on nodes that were lost
// a moment ago; giving is held.
func (p *planner) giveBack(ctx context.Context, spec *weftv1.PlanSpec, reason string) {
	p.mu.Lock()
	p.dropped = time.Now()
	p.mu.Unlock()
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	for _, st := range spec.Stages {
		if p.suspects.has(st.Peer, time.Time{}) {
			continue
		}
		wg.Go(func() {
			_, _ = p.asker.Ask(ctx, st.Peer, &weftv1.PlanRequest{Body: &weftv1.PlanRequest_Release{Release: &weftv1.Release{Id: spec.Id, Reason: reason}}}, nil)
		})
	}
	wg.Wait()
}
