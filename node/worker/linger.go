package worker

import "time"

// A stage that holds a whole model computes the runs of two replies one after the
// other for ever, once they have fallen out of step: while it is at the one, its
// head thinks about the other. Each then waits for a step that reads all weights
// again. So a step of decode runs waits a moment for sessions that are about to come
// back, by how long they took of late, and takes them along. Where more stages follow
// another one computes meanwhile, and nothing waits.

const (
	// lingerPart is the part of a step's time that it may wait: by far less than
	// what a second step would take.
	lingerPart = 4
	// lingerLeast is the part of that for which even a session is waited for that
	// comes back at once.
	lingerLeast = 8
)

// turn is how a session comes back with its next decode run after a result.
type turn struct {
	gave  time.Time     // its last result; zero while a run of it is here
	back  time.Duration // from a result to the next run, a moving average
	known bool          // back is
}

// given notes a result.
func (t *turn) given(now time.Time) { t.gave = now }

// came notes a run.
func (t *turn) came(now time.Time) {
	if t.gave.IsZero() {
		return
	}
	if took := now.Sub(t.gave); t.known {
		t.back += (took - t.back) / 8
	} else {
		t.back, t.known = took, true
	}
	t.gave = time.Time{}
}

// wait is how much longer a step may wait for the session, of limit in all: twice
// as long as it takes as a rule, and not at all where that is too long.
func (t *turn) wait(now time.Time, limit time.Duration) time.Duration {
	if !t.known || t.gave.IsZero() || 2*t.back > limit {
		return 0
	}
	return max(0, max(2*t.back, limit/lingerLeast)-now.Sub(t.gave))
}

// linger is how long the next step should wait for sessions that are about to
// come back; 0 when it has nothing to gain. mu is held.
func (s *served) linger(now time.Time) time.Duration {
	if !s.last || s.queue.onward || s.plan.stage > 0 || len(s.queue.decode) == 0 {
		return 0
	}
	limit := s.meter.narrow() / lingerPart
	wait := time.Duration(0)
	for _, ses := range s.sessions {
		if !ses.closed && !ses.failed && ses.inflight == 0 {
			wait = max(wait, ses.turn.wait(now, limit))
		}
	}
	return wait
}

// hold waits for sessions that are about to come back; false when there is nothing
// to wait for.
func (s *served) hold() bool {
	s.mu.Lock()
	wait := s.linger(time.Now())
	s.mu.Unlock()
	if wait <= 0 {
		return false
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.wake:
	case <-s.stop:
	}
	return true
}

// narrow is the time of the narrowest steps that were measured; 0 for none.
func (m *meter) narrow() time.Duration {
	for _, t := range m.byWidth {
		if t > 0 {
			return t
		}
	}
	return 0
}
