package session

// Tokens are the prompt and the committed tokens; the caller must not write.
func (s *Session) Tokens() []int32 { return s.tokens }

// Generated are the committed tokens; the caller must not write.
func (s *Session) Generated() []int32 { return s.tokens[s.prompt:] }

// Held is how many prompt positions came from the stages' prefix caches.
func (s *Session) Held() int { return s.held }

// Prefilled is how many of the known positions the stages have acknowledged,
// for progress.
func (s *Session) Prefilled() int { return min(s.acked, s.prompt) }

// Acked is how many positions the last stage has acknowledged.
func (s *Session) Acked() int { return s.acked }

// Ahead are the drafted tokens that were sent and are not decided yet: they may
// follow the committed ones. The caller must not write; they are valid until the
// session is fed again.
func (s *Session) Ahead() []int32 { return s.tail }

// Runs is how many runs are in flight.
func (s *Session) Runs() int { return len(s.flights) }

// InFlight is how many positions are sent and not acknowledged.
func (s *Session) InFlight() int {
	n := 0
	for _, f := range s.flights {
		n += f.count
	}
	return n
}

// finished says that the reply has ended and Ready would say so.
func (s *Session) finished() bool { return s.phase == ending && len(s.flights) == 0 }

// Epoch is the current epoch.
func (s *Session) Epoch() uint32 { return s.epoch }

// Drafts says whether tokens may be drafted for the reply, and whether any may
// have been.
func (s *Session) Drafts() bool { return s.p.Drafter != nil && len(s.tokens) > s.prompt }

// wake receives when more may be drafted; nil when nothing is.
func (s *Session) wake() <-chan struct{} {
	if s.p.Drafter == nil || s.phase != decoding {
		return nil
	}
	return s.p.Drafter.Wake()
}

// Plain ends drafting. It is called before Reopen: what is ahead of the committed
// tokens is lost with it.
func (s *Session) Plain() { s.p.Drafter = nil }

// Err is why the reply failed.
func (s *Session) Err() error { return s.err }
