package node

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// suspectTime is how long a node that was lost is left alone: until gossip has
// found out by itself whether it is alive.
const suspectTime = 5 * time.Second

// suspects are nodes that were lost a moment ago. Gossip needs seconds to
// notice a death; a reply that broke, or a question without an answer, tells it
// at once, so that the next prompt does not wait for the dead.
type suspects struct {
	// answers asks a node over a connection that stands; nil: nobody does. It
	// blocks for answerTime at most.
	answers func(id string) bool
	// meets asks a node that does not answer over a connection of its own; nil:
	// nobody does. It blocks for answerTime at most.
	meets func(id string) bool

	mu sync.Mutex // guards at
	at map[string]time.Time
}

// report notes what others say about a node, or what a broken stream does. A
// node that answers a question is well: it may have given a plan back, or only
// the way between two others is cut.
func (s *suspects) report(id string, at time.Time) {
	if s.answers == nil || !s.answers(id) {
		s.mark(id, at)
	}
}

// clear forgets a suspicion that is older than a question which was answered.
func (s *suspects) clear(id string, asked time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.at[id]; ok && t.Before(asked) {
		delete(s.at, id)
	}
}

// mark notes a loss.
func (s *suspects) mark(id string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[string]time.Time{}
	}
	now := time.Now()
	for p, t := range s.at {
		if now.Sub(t) > suspectTime {
			delete(s.at, p)
		}
	}
	if at.After(s.at[id]) {
		s.at[id] = at
	}
}

// recheck asks the suspects whether they are well, after all, when the mesh lacks
// room without them; true when one is.
func (s *suspects) recheck() bool {
	if s.answers == nil {
		return false
	}
	s.mu.Lock()
	list := slices.Sorted(maps.Keys(s.at))
	s.mu.Unlock()
	var well atomic.Bool
	var wg sync.WaitGroup
	for _, id := range list {
		wg.Go(func() {
			if asked := time.Now(); s.answers(id) || s.meets != nil && s.meets(id) {
				s.clear(id, asked)
				well.Store(true)
			}
		})
	}
	wg.Wait()
	return well.Load()
}

// has says whether a node was lost a moment ago and has not come back since;
// came is when it joined.
func (s *suspects) has(id string, came time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.at[id]
	return ok && time.Since(t) <= suspectTime && !came.After(t)
}

// lost says whether a node was lost a moment ago and has not come back since.
func (n *Node) lost(id string) bool {
	pid, err := peer.Decode(id)
	if err != nil || n.mesh == nil {
		return false
	}
	m, _ := n.mesh.gossip.Member(pid)
	return n.suspects.has(id, m.Since)
}

// answerTime is how long a node may take to answer whether it is well.
const answerTime = time.Second

// answers says whether a node answers over a connection that stands; this one does.
func (n *Node) answers(id string) bool {
	if n.plans != nil && id == n.plans.self {
		return true
	}
	pid, err := peer.Decode(id)
	if err != nil || n.mesh == nil {
		return false
	}
	return n.asks(func(ctx context.Context) (wire.Stream, error) {
		return n.mesh.host.OpenStranger(ctx, pid, planProtocol)
	})
}

// meets says whether a live member answers over a connection that is made for it.
// What it has is closed first: of a node that has moved, an old connection may
// stand for long and take all that is sent.
func (n *Node) meets(id string) bool {
	pid, err := peer.Decode(id)
	if err != nil || n.mesh == nil {
		return false
	}
	if _, ok := n.mesh.gossip.Member(pid); !ok {
		return false
	}
	n.dropPeer(id)
	return n.asks(func(ctx context.Context) (wire.Stream, error) { return n.mesh.open(ctx, id, planProtocol) })
}

// asks says whether a question over the stream that open gives is answered.
func (n *Node) asks(open func(context.Context) (wire.Stream, error)) bool {
	ctx, cancel := context.WithTimeout(n.ctx, answerTime)
	defer cancel()
	s, err := open(ctx)
	if err != nil {
		return false
	}
	_, err = worker.AskPlan(ctx, s, &weftv1.PlanRequest{Body: &weftv1.PlanRequest_Lookup{Lookup: &weftv1.Lookup{}}}, nil)
	return err == nil
}
