package spec

// keep remembers a draft, of which so many tokens are sent, until its tokens are
// decided.
func (s *Speculator) keep(name string, d Draft, from, sent int) {
	if len(d.Tokens) == 0 || len(s.made) >= maxMade {
		return
	}
	var room []int32
	if n := len(s.free); n > 0 {
		room, s.free = s.free[n-1][:0], s.free[:n-1]
	}
	s.made = append(s.made, made{source: name, match: d.Match, from: from, sent: sent, tokens: append(room, d.Tokens...)})
}

// Commit takes newly committed tokens in. ahead are the tokens that were ahead
// of the first of them: a run's results are committed before what they refuse
// is forgotten.
func (s *Speculator) Commit(tokens, ahead []int32) {
	s.report.Tokens += len(tokens)
	if !s.active() {
		return
	}
	for i, t := range tokens {
		right := i < len(ahead) && ahead[i] == t
		s.count(right)
		s.judge(t)
		if i < len(ahead) && !right {
			ahead = nil
		}
		if right && len(s.likely) > 0 {
			s.likely = s.likely[1:]
		}
		s.at++
	}
	for _, src := range s.o.Sources {
		src.Accept(tokens)
	}
}

// count notes whether a committed token was drafted.
func (s *Speculator) count(right bool) {
	if !right {
		s.chain = 0
		return
	}
	s.report.Accepted++
	at := min(s.chain, maxChain-1)
	for len(s.report.ByPosition) <= at {
		s.report.ByPosition = append(s.report.ByPosition, 0)
	}
	s.report.ByPosition[at]++
	s.chain++
}

// judge holds the drafts that were made against the token at s.at.
func (s *Speculator) judge(t int32) {
	rest := s.made[:0]
	for _, m := range s.made {
		i := s.at - m.from
		if i >= 0 && i < len(m.tokens) {
			right := m.tokens[i] == t
			s.scores.Note(m.source, m.match, i, right)
			if right && i < m.sent {
				s.by[m.source]++
			}
			if !right {
				i = len(m.tokens)
			}
		}
		if i+1 >= len(m.tokens) {
			s.free = append(s.free, m.tokens)
			continue
		}
		rest = append(rest, m)
	}
	s.made = rest
}
