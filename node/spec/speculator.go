package spec

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Mode is how a reply may be speculated.
type Mode uint8

// The modes.
const (
	ModeAuto  Mode = iota // as the measurements say
	ModeOff               // not at all
	ModeSync              // one run at a time, always with what drafts there are
	ModeAsync             // runs in flight, always with what drafts there are
)

var modes = [...]string{"auto", "off", "sync", "async"}

func (m Mode) String() string { return modes[m] }

// ParseMode reads a mode's name; "" is auto.
func ParseMode(s string) (Mode, error) {
	for i, name := range modes {
		if s == name {
			return Mode(i), nil
		}
	}
	if s == "" {
		return ModeAuto, nil
	}
	return ModeAuto, fmt.Errorf("speculation %q is unknown; off, sync, async and auto are possible", s)
}

// Options are what a Speculator is made of.
type Options struct {
	Mode    Mode
	Sources []Source
	Costs   *Costs // of the plan
	// Others is how many other replies share the plan's stages; nil: none ever do.
	Others func() int
	// Fixed, when its Width is not 0, is the window of every run, whatever
	// Mode says: for tests and measurements.
	Fixed Window
}

// Speculator drafts for one reply. It is told what is committed and answered,
// and gives each run's drafts. It is for one goroutine.
type Speculator struct {
	o      Options
	scores Scores
	made   []made    // drafts whose tokens are not decided yet
	free   [][]int32 // memory of those that are
	drafts []Draft   // of the sources, in order
	likely []float64 // of the tokens ahead, in order
	try    []float64 // of the draft at hand
	at     int       // index of the next token to commit
	window Window    // of the last run that began a pipe
	since  int       // runs since a draft was sent
	wait   int       // runs to the next probe
	report Report
	crowd  average // rows of others in the steps of this reply's runs
	chain  int     // drafted tokens in a row that the token to be committed ends
	by     map[string]int
}

// made is a draft that a source made.
type made struct {
	source string
	match  int
	from   int // index of its first token
	tokens []int32
}

// Bounds of a Speculator.
const (
	maxMade  = 64 // drafts that wait for a decision
	maxChain = 16 // positions that are told apart in reports
	// A probe tries a width that is believed not to pay. The less it is found
	// to, the rarer it is.
	firstProbe = 64
	lastProbe  = 1024
)

// Report is what speculation did for a reply.
type Report struct {
	Source   string // the source of most accepted tokens, "" when none was
	Drafted  int    // tokens sent as drafts
	Accepted int    // of those, how many were the target's own
	// ByPosition counts the accepted tokens by how many drafted ones stood
	// before them in a row; the last place is for all beyond.
	ByPosition []int
	Runs       int // decode runs
	Tokens     int // committed by them
}

// New makes a speculator; Begin comes next.
func New(o Options) *Speculator {
	return &Speculator{o: o, wait: firstProbe, by: map[string]int{}}
}

// Begin takes the prompt in, or after a loss everything that is known: what was
// ahead is forgotten.
func (s *Speculator) Begin(tokens []int32) {
	if !s.active() {
		return
	}
	for _, src := range s.o.Sources {
		src.Begin(tokens)
	}
	s.at = len(tokens)
	s.Drop()
}

// active says whether anything is ever drafted.
func (s *Speculator) active() bool {
	if s.o.Fixed.Width > 0 {
		return s.o.Fixed != off && len(s.o.Sources) > 0
	}
	return s.o.Mode != ModeOff && len(s.o.Sources) > 0
}

// Drop forgets what was ahead, and the drafts that went on from it.
func (s *Speculator) Drop() {
	s.likely = s.likely[:0]
	s.made = slices.DeleteFunc(s.made, func(m made) bool { return m.from >= s.at })
}

// Draft gives the drafted tokens of a run to be sent now. ahead are the tokens
// that were drafted and sent and are not committed yet; runs are in flight, and
// room tokens are possible. With none in flight the run is due anyway, and no
// draft means a plain one; otherwise no draft means that the next answer is
// awaited. The result is valid until the next call.
func (s *Speculator) Draft(ahead []int32, runs, room int) []int32 {
	if !s.active() || room <= 0 {
		return nil
	}
	s.likely = s.likely[:min(len(s.likely), len(ahead))] // the session may have cut a draft
	if runs > 0 {
		return s.further(ahead, runs, room)
	}
	return s.first(room)
}

// first makes the draft of a run that nothing is in flight before. What is not
// sent is remembered too: it tells how good the sources are.
func (s *Speculator) first(room int) []int32 {
	n := min(room, MaxWidth-1)
	if w := s.o.Fixed.Width; w > 0 {
		n = min(n, w-1)
	}
	best, name := s.ask(nil, n)
	s.weigh(name, best)
	s.window = s.choose()
	n = min(s.window.Width-1, len(best.Tokens))
	s.launch(n)
	for i, src := range s.o.Sources {
		d := s.drafts[i]
		s.keep(src.Name(), d.Match, s.at, d.Tokens)
	}
	return best.Tokens[:n]
}

// ask gives the draft that is expected to bring most, and its source's name.
func (s *Speculator) ask(ahead []int32, n int) (best Draft, name string) {
	s.drafts = s.drafts[:0]
	most := 0.0
	for _, src := range s.o.Sources {
		d := src.Draft(ahead, n)
		s.drafts = append(s.drafts, d)
		if e := s.expected(src.Name(), d); e > most {
			best, name, most = d, src.Name(), e
		}
	}
	return best, name
}

// further makes the draft of a run behind others.
func (s *Speculator) further(ahead []int32, runs, room int) []int32 {
	if runs >= s.window.Runs {
		return nil
	}
	best, name := s.ask(ahead, min(s.window.Width, room))
	if len(best.Tokens) == 0 || s.o.Fixed.Width == 0 && !s.useful(runs) {
		return nil
	}
	s.keep(name, best.Match, s.at+len(ahead), best.Tokens)
	s.weigh(name, best)
	s.launch(len(best.Tokens))
	return best.Tokens
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

// weigh sets try to the likelihoods of a draft's tokens.
func (s *Speculator) weigh(name string, d Draft) {
	s.try = s.try[:0]
	for i := range d.Tokens {
		s.try = append(s.try, s.scores.Likely(name, d.Match, i))
	}
}

// expected is how many of a draft's tokens are expected to be right.
func (s *Speculator) expected(name string, d Draft) float64 {
	reach, n := 1.0, 0.0
	for i := range d.Tokens {
		reach *= s.scores.Likely(name, d.Match, i)
		n += reach
	}
	return n
}

// choose gives the window for the draft whose likelihoods are in try.
func (s *Speculator) choose() Window {
	if s.o.Fixed.Width > 0 {
		return s.o.Fixed
	}
	if s.o.Costs == nil {
		return off
	}
	v, ok := s.o.Costs.view()
	if !ok && s.o.Mode == ModeAuto {
		return off
	}
	others := int(s.crowd.v + 0.5)
	if s.o.Others != nil {
		others = max(others, s.o.Others())
	}
	w := choose(&v, s.try, others, s.o.Mode)
	return s.probe(w, others)
}

// probe tries a width now and then that is believed not to pay: what a wide run
// costs may have changed, or was measured in a bad moment.
func (s *Speculator) probe(w Window, others int) Window {
	if w != off || len(s.try) == 0 || s.try[0] < 0.5 || others > 0 {
		s.since = 0
		return w
	}
	if s.since++; s.since < s.wait {
		return w
	}
	s.since, s.wait = 0, min(2*s.wait, lastProbe)
	return Window{Width: min(3, 1+len(s.try)), Runs: 1}
}

// keep remembers a draft until its tokens are decided.
func (s *Speculator) keep(name string, match, from int, tokens []int32) {
	if len(tokens) == 0 || len(s.made) >= maxMade {
		return
	}
	var room []int32
	if n := len(s.free); n > 0 {
		room, s.free = s.free[n-1][:0], s.free[:n-1]
	}
	s.made = append(s.made, made{source: name, match: match, from: from, tokens: append(room, tokens...)})
}

// launch notes that the first n tokens of the draft at hand are sent.
func (s *Speculator) launch(n int) {
	s.likely = append(s.likely, s.try[:n]...)
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
			if right {
				s.by[m.source]++
			} else {
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

// Sent notes a decode run with so many drafted tokens.
func (s *Speculator) Sent(drafted int) {
	s.report.Runs++
	s.report.Drafted += drafted
}

// Over changes the plan: the costs are those of another.
func (s *Speculator) Over(c *Costs) { s.o.Costs = c }

// Answered takes in what a run's answer tells about the plan.
func (s *Speculator) Answered(a Answer) {
	if a.Rows >= a.Width && a.Rows <= MaxWidth {
		s.crowd.add(float64(a.Rows-a.Width), 1)
	}
	if s.o.Costs != nil {
		s.o.Costs.Answered(a)
	}
}

// Report says what speculation did so far.
func (s *Speculator) Report() Report {
	r := s.report
	most := 0
	for _, src := range s.o.Sources {
		if n := s.by[src.Name()]; n > most && r.Accepted > 0 {
			r.Source, most = src.Name(), n
		}
	}
	return r
}

// Bound is the least time per token that section 7 of the design allows: with a
// the share of tokens that were drafted, (1−a)·L + a·min over m of t(m)/m. 0
// while nothing is known.
func (s *Speculator) Bound() time.Duration {
	if s.o.Costs == nil || s.report.Tokens == 0 {
		return 0
	}
	a := float64(s.report.Accepted) / float64(s.report.Tokens)
	l, t := s.o.Costs.Latency(1), s.o.Costs.PerPosition()
	return time.Duration(math.Round((1-a)*float64(l) + a*float64(t)))
}
