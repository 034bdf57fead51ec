package spec

import "math"

// proposal is what one source would have sent, and what is expected of it.
type proposal struct {
	from   int // index of the source
	likely []float64
	chosen
}

// first makes the draft of a run that nothing is in flight before. What is not
// sent is remembered too: it tells how good the sources are.
func (s *Speculator) first(room int) []int32 {
	n := min(room, MaxWidth-1)
	if w := s.o.Fixed.Width; w > 0 {
		n = min(n, w-1)
	}
	p := s.propose(nil, n, room, false)
	s.window = s.o.Fixed
	if s.o.Fixed.Width == 0 {
		s.window = s.probe(p)
	}
	n = min(n, s.window.Width-1)
	d := s.fetch(p, nil, n, true)
	n = min(n, len(d.Tokens))
	s.try = s.weigh(s.try[:0], p.from, d, n)
	s.launch(n)
	for i, src := range s.o.Sources {
		sent := 0
		if i == p.from {
			sent = n
		}
		s.keep(src.Name(), s.drafts[i], s.at, sent)
	}
	return d.Tokens[:n]
}

// propose asks all sources for what may follow ahead and gives the proposal of
// the least expected time per token; running says that runs are in flight.
func (s *Speculator) propose(ahead []int32, n, room int, running bool) proposal {
	s.drafts = s.drafts[:0]
	best, most := proposal{chosen: chosen{Window: off, time: math.Inf(1)}}, 0.0
	for i, src := range s.o.Sources {
		d := src.Draft(ahead, n)
		s.drafts = append(s.drafts, d)
		if background(src) != nil {
			continue
		}
		if e := s.expected(src.Name(), d); e > most {
			best.from, most = i, e
		}
	}
	if most > 0 {
		best.likely = s.weigh(s.likes[0][:0], best.from, s.drafts[best.from], n)
		s.likes[0] = best.likely
		best.chosen = s.choose(offer{likely: best.likely, room: room}, running)
	}
	return s.proposeSlow(best, n, room, running)
}

// maxSlow is how many tokens a background source is asked for at most.
const maxSlow = 32

// proposeSlow is the proposal of a background source where it is expected to be
// better than the best of the others.
func (s *Speculator) proposeSlow(best proposal, n, room int, running bool) proposal {
	for i, src := range s.o.Sources {
		cost := src.Cost()
		if background(src) == nil || cost < 0 || n == 0 {
			continue
		}
		likely := s.likes[1][:0]
		for k := range min(n, maxSlow) {
			likely = append(likely, s.scores.Likely(src.Name(), 0, k))
		}
		s.likes[1] = likely
		o := offer{likely: likely, cost: cost.Seconds(), room: room}
		if !running { // in a pipe what is at hand is only this run's
			o.ready = len(s.drafts[i].Tokens)
		}
		if c := s.choose(o, running); c.time < best.time || best.likely == nil {
			best = proposal{i, likely, c}
		}
	}
	return best
}

// background is a source as a background one, nil if it is none.
func background(src Source) Background {
	b, _ := src.(Background)
	return b
}

// fetch gives at most n tokens of a proposal. Those of a background source may
// have to be waited for: wait says that nothing else could be done meanwhile.
// They replace its draft in s.drafts.
func (s *Speculator) fetch(p proposal, ahead []int32, n int, wait bool) Draft {
	if p.likely == nil || n <= 0 {
		return Draft{}
	}
	src := background(s.o.Sources[p.from])
	if src == nil {
		d := s.drafts[p.from]
		d.Tokens = d.Tokens[:min(n, len(d.Tokens))]
		return d
	}
	if wait {
		src.Await(ahead, n)
	}
	d := src.Draft(ahead, n)
	if len(d.Tokens) < n && !wait {
		src.Aim(ahead, n)
		return Draft{}
	}
	if len(d.Tokens) > len(s.drafts[p.from].Tokens) {
		s.drafts[p.from] = d
	}
	s.onward(src, ahead, d.Tokens, n)
	return d
}

// onward lets a background source go on behind what is about to be sent: in a
// pipe the next run is wanted soon, and behind a single run what follows if all
// of it is right, the token included that its answer brings.
func (s *Speculator) onward(src Background, ahead, sent []int32, n int) {
	if s.window.Runs == 1 && !s.o.Ahead {
		return
	}
	if s.window.Runs == 1 {
		n++
	}
	s.seq = append(append(s.seq[:0], ahead...), sent...)
	src.Aim(s.seq, n)
}

// further makes the draft of a run behind others. As they prove right, or what
// follows is surer than what they began with, the window changes.
func (s *Speculator) further(ahead []int32, runs, room int) []int32 {
	if runs >= s.window.Runs {
		return nil
	}
	p := s.propose(ahead, min(room, MaxWidth), room, true)
	if p.likely == nil {
		return nil
	}
	if s.o.Fixed.Width == 0 {
		if p.Runs > 1 {
			s.window = p.Window
		} else {
			s.window.Runs = 1 // it runs dry
		}
		if runs >= s.window.Runs || !s.useful(runs) {
			return nil
		}
	}
	n := min(s.window.Width, room)
	d := s.fetch(p, ahead, n, false)
	n = min(n, len(d.Tokens))
	if n == 0 {
		return nil
	}
	s.keep(s.o.Sources[p.from].Name(), d, s.at+len(ahead), n)
	s.try = s.weigh(s.try[:0], p.from, d, n)
	s.launch(n)
	return d.Tokens[:n]
}

// useful says whether one more run behind those in flight should be sent now.
func (s *Speculator) useful(runs int) bool {
	if s.o.Costs == nil {
		return true
	}
	v, ok := s.o.Costs.view()
	reach := 1.0
	for _, p := range s.likely {
		reach *= p
	}
	return !ok || worthwhile(&v, reach, s.window.Width, runs)
}
