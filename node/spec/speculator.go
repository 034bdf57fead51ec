package spec

import (
	"fmt"
	"maps"
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
	Source   string         // the source of most accepted tokens, "" when none was
	By       map[string]int // accepted tokens by source
	Drafted  int            // tokens sent as drafts
	Accepted int            // of those, how many were the target's own
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

// launch notes that the first n tokens of the draft at hand are sent.
func (s *Speculator) launch(n int) {
	s.likely = append(s.likely, s.try[:n]...)
}

// Wake implements the wish of a session to know when Draft may give more.
func (s *Speculator) Wake() <-chan struct{} {
	for _, src := range s.o.Sources {
		if b := background(src); b != nil && s.active() {
			return b.Wake()
		}
	}
	return nil
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
	r.By = maps.Clone(s.by)
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
