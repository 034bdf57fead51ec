package node

import (
	"sync"
	"time"
)

// suspectTime is how long a node that was lost is left alone: until gossip has
// found out by itself whether it is alive.
const suspectTime = 5 * time.Second

// suspects are nodes that were lost a moment ago. Gossip needs seconds to
// notice a death; a reply that broke, or a question without an answer, tells it
// at once, so that the next prompt does not wait for the dead.
type suspects struct {
	mu sync.Mutex // guards at
	at map[string]time.Time
}

// mark notes a loss.
func (s *suspects) mark(peer string) {
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
	s.at[peer] = now
}

// has says whether a node was lost a moment ago.
func (s *suspects) has(peer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.at[peer]
	return ok && time.Since(t) <= suspectTime
}
