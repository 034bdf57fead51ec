package node

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// suspectTime is how long a node that was lost is left alone: until gossip has
// found out by itself whether it is alive.
const suspectTime = 5 * time.Second

// suspects are nodes that were lost a moment ago. Gossip needs seconds to
// notice a death; a reply that broke, or a question without an answer, tells it
// at once, so that the next prompt does not wait for the dead.
type suspects struct {
	connected func(id string) bool // nil: nobody is

	mu sync.Mutex // guards at
	at map[string]time.Time
}

// report notes what others say about a node. One that is connected speaks for
// itself: it may have given a plan back and be well, and if it hangs, the next
// question to it tells.
func (s *suspects) report(id string, at time.Time) {
	if s.connected == nil || !s.connected(id) {
		s.mark(id, at)
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

// connected says whether a node is connected to this one, or is it.
func (n *Node) connected(id string) bool {
	if n.plans != nil && id == n.plans.self {
		return true
	}
	pid, err := peer.Decode(id)
	if err != nil || n.mesh == nil {
		return false
	}
	_, ok := n.mesh.host.Member(pid)
	return ok
}
