package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/node/worker"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// Heads that ask for a model at once may each propose a plan of it. Where their
// plans meet on a node, that node lets one of them in. Where they do not meet, the
// heads agree by what they see of each other: each reserves its stages first and
// looks for the others' afterwards, so that of two heads at least one sees the
// other. Who sees a plan that has gone past its reservation yields, as that plan's
// head has looked already; of plans that are all reserved the first by generation
// and owner goes on, once the later ones are gone or have gone past.

const (
	// settleAsk bounds how long nodes are asked for plans before a plan is loaded:
	// one that is busy may hold another head's.
	settleAsk = 3 * time.Second
	// settleWait is how long a plan that is first waits for later ones to make up
	// their minds.
	settleWait = 5 * time.Second
)

// rival is another head's plan of the same model.
type rival struct {
	spec   *weftv1.PlanSpec
	holder string // a node that takes part in it, one that is ahead if there is any
	copy   bool
	ahead  bool // a stage of it is being loaded or ready
}

// won says that the rival's plan is used.
func (r *rival) won() *supersededError { return &supersededError{by: r.spec, holder: r.holder} }

// rivals asks every live node, this one too, for the plan of the model that it
// takes part in, for as long as patience at most, and gives the plans that are
// neither own nor meet it on a node: copies last, then by generation and owner.
// Copies are given where they are ready and own is nil.
func (p *planner) rivals(ctx context.Context, a *active, own *weftv1.PlanSpec, patience time.Duration) []*rival {
	// Cancelled, not timed out: a node that is slow to answer is not lost.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(patience, cancel).Stop()
	var mu sync.Mutex // guards out
	var out []*rival
	var wg sync.WaitGroup
	for _, peer := range append(p.peers(), p.self) {
		wg.Go(func() {
			r, err := p.asker.Ask(ctx, peer, lookupOf(a.model), nil)
			spec := r.GetExisting()
			if err != nil || spec.GetId() == nil || r.State == weftv1.PlanReply_FAILED || p.check(a.model, spec, peer) != nil || meet(spec, own) {
				return
			}
			if spec.Copy && (own != nil || r.State != weftv1.PlanReply_READY) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ahead := r.State != weftv1.PlanReply_RESERVED
			for _, o := range out {
				if proto.Equal(o.spec.Id, spec.Id) {
					if ahead && !o.ahead {
						o.ahead, o.holder = true, peer
					}
					return
				}
			}
			out = append(out, &rival{spec: spec, holder: peer, copy: spec.Copy, ahead: ahead})
		})
	}
	wg.Wait()
	slices.SortFunc(out, func(x, y *rival) int {
		switch {
		case x.copy != y.copy && y.copy:
			return -1
		case x.copy != y.copy:
			return 1
		}
		return worker.ComparePlans(x.spec.Id, y.spec.Id)
	})
	return out
}

// meet says whether two plans have a node in common: that node knows which of
// them stands.
func meet(a, b *weftv1.PlanSpec) bool {
	return slices.ContainsFunc(a.GetStages(), func(x *weftv1.StageSpec) bool {
		return slices.ContainsFunc(b.GetStages(), func(y *weftv1.StageSpec) bool { return x.Peer == y.Peer })
	})
}

// foremost is the rival that is to be used by who has no plan of its own: the
// first one ahead, a copy only where there is nothing else; nil for none.
func foremost(rivals []*rival) *rival {
	for _, r := range rivals {
		if r.ahead && (!r.copy || rivals[0].copy) {
			return r
		}
	}
	return nil
}

// settle decides, after a plan was reserved and before it is loaded, whether it
// goes on: nil, or the rival that is used instead.
func (p *planner) settle(ctx context.Context, a *active, own *weftv1.PlanSpec) *supersededError {
	for begin := time.Now(); time.Since(begin) < settleWait; {
		rivals := p.rivals(ctx, a, own, settleAsk)
		if r := foremost(rivals); r != nil {
			return r.won()
		}
		if len(rivals) == 0 {
			return nil
		}
		if before(rivals[0].spec.Id, own.Id) {
			return rivals[0].won()
		}
		select {
		case <-time.After(pollEvery / 3):
		case <-ctx.Done():
			return nil // the next request says so
		}
	}
	return nil
}

// before says whether a comes first.
func before(a, b *weftv1.PlanID) bool { return worker.ComparePlans(a, b) < 0 }
