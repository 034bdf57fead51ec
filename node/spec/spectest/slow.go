package spectest

import (
	"time"

	"github.com/weft-mesh/weft/node/spec"
)

// Slow is an Oracle that takes its time for each token, as a draft model does. It
// drafts in the pipe's virtual time, beside what the pipe does.
type Slow struct {
	*Oracle
	Each time.Duration // that a token takes

	m     *sim
	have  int // positions that were drafted, or given, at since
	aim   int // positions to draft up to
	since time.Duration
	due   time.Duration // when the pipe is told that the aim is reached
}

var _ spec.Background = (*Slow)(nil)

// Name implements spec.Source.
func (s *Slow) Name() string { return "model" }

// Cost implements spec.Source.
func (s *Slow) Cost() time.Duration { return s.Each }

// catchUp reckons what was drafted until now.
func (s *Slow) catchUp() {
	if s.have < s.aim && s.Each > 0 {
		n := min(int(max(0, s.m.now-s.since)/s.Each), s.aim-s.have)
		s.have += n
		s.since += time.Duration(n) * s.Each
	}
	if s.have >= s.aim || s.Each == 0 {
		s.have = max(s.have, s.aim)
		s.since = max(s.since, s.m.now)
	}
}

// Accept implements spec.Source.
func (s *Slow) Accept(tokens []int32) {
	s.catchUp()
	for i := range tokens {
		if at := s.at + i; at < s.have && !s.Right[at] {
			s.have, s.aim, s.since = s.at+len(tokens), 0, s.m.now
		}
	}
	s.Oracle.Accept(tokens)
	s.have = max(s.have, s.at)
}

// Draft implements spec.Source.
func (s *Slow) Draft(ahead []int32, n int) spec.Draft {
	s.catchUp()
	return s.Oracle.Draft(ahead, min(n, max(0, s.have-s.at-len(ahead))))
}

// Aim implements spec.Background.
func (s *Slow) Aim(ahead []int32, n int) {
	s.catchUp()
	from := s.at + len(ahead)
	if s.have < from {
		s.have, s.since = from, s.m.now
	}
	s.aim = min(from+n, len(s.Truth))
	if d := s.rest(); d > 0 && s.due != s.m.now+d {
		s.due = s.m.now + d
		s.m.after(d, func() {})
	}
}

// rest is how long it takes until the aim is reached.
func (s *Slow) rest() time.Duration {
	if s.have >= s.aim {
		return 0
	}
	return s.since + time.Duration(s.aim-s.have)*s.Each - s.m.now
}

// Await implements spec.Background.
func (s *Slow) Await(ahead []int32, n int) {
	s.Aim(ahead, n)
	s.m.free = max(s.m.free, s.m.now) + max(0, s.rest())
	s.have, s.since = max(s.have, s.aim), s.m.free
}

// Wake implements spec.Background; the pipe asks anew after every event.
func (s *Slow) Wake() <-chan struct{} { return nil }
