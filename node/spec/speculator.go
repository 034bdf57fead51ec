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
	ModeSync              // always with what drafts there are, one run at a time
	ModeAsync             // always with what drafts there are, in as many runs as pay
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
	// Ahead says that the head's own computing slows no stage down: a background
	// source may draft while a run that it drafted is verified.
	Ahead bool
	// Fixed, when its Width is not 0, is the window of every run, whatever
	// Mode says: for tests and measurements.
	Fixed Window
}

// Speculator drafts for one reply. It is told what is committed and answered,
// and gives each run's drafts. It is for one goroutine.
type Speculator struct {
	o      Options
	scores Scores
	made   []made       // drafts whose tokens are not decided yet
	free   [][]int32    // memory of those that are
	drafts []Draft      // of the sources, in order
	likely []float64    // of the tokens ahead, in order
	try    []float64    // of the draft at hand
	likes  [2][]float64 // of the proposals
	seq    []int32
	at     int    // index of the next token to commit
	window Window // of the last run that began a pipe
	since  int    // runs since a draft was sent
	wait   int    // runs to the next probe
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
	sent   int // of its tokens
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
		o := offer{likely: likely, cost: cost.Seconds(), ready: len(s.drafts[i].Tokens), room: room}
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

// weigh adds the likelihoods of a draft's first n tokens to a list.
func (s *Speculator) weigh(list []float64, from int, d Draft, n int) []float64 {
	for i := range min(n, len(d.Tokens)) {
		list = append(list, s.scores.Likely(s.o.Sources[from].Name(), d.Match, i))
	}
	return list
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

// choose gives the window for an offer; running says that runs are in flight.
func (s *Speculator) choose(o offer, running bool) chosen {
	if s.o.Fixed.Width > 0 {
		return chosen{s.o.Fixed, 0}
	}
	if s.o.Costs == nil {
		return chosen{off, 0}
	}
	v, ok := s.o.Costs.view()
	if !ok && s.o.Mode == ModeAuto {
		return chosen{off, 0}
	}
	return choose(&v, o, s.others(), s.o.Mode, running)
}

// others is how many other replies share the stages.
func (s *Speculator) others() int {
	n := int(s.crowd.v + 0.5)
	if s.o.Others != nil {
		n = max(n, s.o.Others())
	}
	return n
}

// probe gives the window of a proposal, or now and then a width that is believed
// not to pay: what a wide run costs may have changed, or was measured in a bad
// moment.
func (s *Speculator) probe(p proposal) Window {
	if p.Window != off || len(p.likely) == 0 || p.likely[0] < 0.5 || s.others() > 0 {
		s.since = 0
		return p.Window
	}
	if s.since++; s.since < s.wait {
		return off
	}
	s.since, s.wait = 0, min(2*s.wait, lastProbe)
	return Window{Width: min(3, 1+len(p.likely)), Runs: 1}
}

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
