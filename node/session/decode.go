package session

import (
	"fmt"
	"slices"
)

// decode makes the run that is due when none is in flight, of the last committed
// token and what is drafted behind it, and those that go ahead of the answer, of
// drafted tokens alone.
func (s *Session) decode() []Run {
	var runs []Run
	s.runBuf = s.runBuf[:0]
	for {
		due := len(s.flights) == 0
		drafted := s.drafted()
		if !due && len(drafted) == 0 {
			return runs
		}
		from := len(s.runBuf)
		if due {
			s.runBuf = append(s.runBuf, s.tokens[len(s.tokens)-1])
		}
		s.runBuf = append(s.runBuf, drafted...)
		s.tail = append(s.tail, drafted...)
		tokens := s.runBuf[from:]
		r := Run{Epoch: s.epoch, Base: s.sent, Tokens: tokens, Sample: len(tokens), WantHash: s.p.WantHash}
		s.launch(r)
		runs = append(runs, r)
		if s.p.Drafter != nil {
			s.p.Drafter.Sent(len(drafted))
		}
	}
}

// drafted asks for drafted tokens. What follows a drafted end of generation could
// not be committed, so neither it nor the end is used.
func (s *Session) drafted() []int32 {
	room := s.room()
	if s.p.Drafter == nil || room == 0 {
		return nil
	}
	d := s.p.Drafter.Draft(s.tail, len(s.flights), room)
	d = d[:min(len(d), room)]
	if s.p.EOG != nil {
		if i := slices.IndexFunc(d, s.p.EOG); i >= 0 {
			d = d[:i]
		}
	}
	return d
}

// room is how many drafted tokens the next decode run may carry.
func (s *Session) room() int {
	n := min(s.left()-1-len(s.tail), maxVerify, s.p.Credit-(s.sent-s.acked))
	if len(s.flights) == 0 {
		n = min(n, maxVerify-1, s.p.Credit-1) // beside the last committed token
	}
	return max(0, n)
}

// drew commits drawn tokens and decides what follows.
func (s *Session) drew(f flight, r Result) {
	s.acked = f.base + f.count - f.sample + 1 + r.Accepted
	s.phase = decoding
	if n := r.Accepted; n > len(s.tail) || !slices.Equal(r.Drawn[:n], s.tail[:n]) {
		s.Fail(fmt.Errorf("%w: tokens at %d that were not drafted are said to be accepted", ErrProtocol, len(s.tokens)))
		return
	}
	ahead, from := s.tail, len(s.tokens)
	for _, t := range r.Drawn {
		s.commit(t)
		if s.phase == ending {
			s.flights = s.flights[:0] // nothing that is in flight can be of the reply
			break
		}
	}
	if s.p.Drafter != nil {
		s.p.Drafter.Commit(s.tokens[from:], ahead)
	}
	n := len(s.tokens) - from
	switch {
	case s.phase == ending:
		s.tail = nil
	case len(r.Drawn) < f.sample || len(ahead) >= n && ahead[n-1] != s.tokens[from+n-1]:
		s.refuse()
	default:
		s.tail = ahead[min(n, len(ahead)):]
	}
}

func (s *Session) commit(t int32) {
	s.tokens = append(s.tokens, t)
	s.fresh = append(s.fresh, t)
	switch {
	case s.p.EOG != nil && s.p.EOG(t):
		s.end(FinishStop)
	case len(s.tokens)-s.prompt >= s.p.MaxTokens:
		s.end(FinishLength)
	case len(s.tokens) >= s.p.Context:
		s.end(FinishContext)
	}
}

// refuse begins a new epoch behind what is acknowledged: drafted tokens were not
// those that were drawn.
func (s *Session) refuse() {
	s.epoch++
	s.flights = s.flights[:0]
	s.forget()
	s.sent = s.acked
	s.told = min(s.told, s.acked)
	s.trunc = &Truncation{Epoch: s.epoch, Keep: s.acked}
}

// forget drops what was ahead.
func (s *Session) forget() {
	s.tail = nil
	if s.p.Drafter != nil {
		s.p.Drafter.Drop()
	}
}
