package spec_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/node/spec"
)

// fixedSource always drafts the same.
type fixedSource struct {
	name   string
	tokens []int32
	match  int
	begun  int
}

func (f *fixedSource) Name() string        { return f.name }
func (f *fixedSource) Cost() time.Duration { return 0 }
func (f *fixedSource) Begin([]int32)       { f.begun++ }
func (f *fixedSource) Accept([]int32)      {}
func (f *fixedSource) Draft(_ []int32, n int) spec.Draft {
	return spec.Draft{Tokens: f.tokens[:min(n, len(f.tokens))], Match: f.match}
}

func TestTheLongestConfidentDraftIsTaken(t *testing.T) {
	short := &fixedSource{name: "short", tokens: []int32{1, 2, 3}, match: 30}
	doubtful := &fixedSource{name: "doubtful", tokens: []int32{4, 5, 6, 7, 8, 9, 10, 11}, match: 1}
	long := &fixedSource{name: "long", tokens: []int32{12, 13, 14, 15, 16}, match: 30}
	s := spec.New(spec.Options{Sources: []spec.Source{short, doubtful, long}, Fixed: spec.Window{Width: 9, Runs: 1}})
	s.Begin([]int32{0})
	if d := s.Draft(nil, 0, 100); !slices.Equal(d, long.tokens) {
		t.Errorf("took %v", d)
	}
	if d := s.Draft(nil, 0, 2); len(d) != 2 {
		t.Errorf("took %v into room for 2", d)
	}
}

func TestOffAsksNoSource(t *testing.T) {
	src := &fixedSource{name: "s", tokens: []int32{1}, match: 30}
	s := spec.New(spec.Options{Mode: spec.ModeOff, Sources: []spec.Source{src}, Costs: spec.NewCosts(ms, ms, 0)})
	s.Begin([]int32{1, 2})
	if d := s.Draft(nil, 0, 10); len(d) != 0 || src.begun != 0 {
		t.Errorf("drafted %v, begun %d times", d, src.begun)
	}
	s.Sent(0)
	s.Commit([]int32{3}, nil)
	if r := s.Report(); r.Runs != 1 || r.Tokens != 1 || r.Drafted != 0 {
		t.Errorf("report %+v", r)
	}
}

func TestSynchronousModeNeverRunsAhead(t *testing.T) {
	src := &fixedSource{name: "s", tokens: []int32{1, 2, 3, 4}, match: 30}
	s := spec.New(spec.Options{Mode: spec.ModeSync, Sources: []spec.Source{src}, Costs: spec.NewCosts(ms, ms/2, 50*ms)})
	s.Begin([]int32{0})
	d := slices.Clone(s.Draft(nil, 0, 10))
	if len(d) == 0 {
		t.Fatal("nothing drafted")
	}
	if more := s.Draft(d, 1, 10); len(more) != 0 {
		t.Errorf("drafted %v with a run in flight", more)
	}
}

func TestModesAreReadByName(t *testing.T) {
	for _, m := range []spec.Mode{spec.ModeAuto, spec.ModeOff, spec.ModeSync, spec.ModeAsync} {
		if got, err := spec.ParseMode(m.String()); err != nil || got != m {
			t.Errorf("%v is read as %v, %v", m, got, err)
		}
	}
	if m, err := spec.ParseMode(""); err != nil || m != spec.ModeAuto {
		t.Errorf("nothing is read as %v, %v", m, err)
	}
	if _, err := spec.ParseMode("fast"); err == nil {
		t.Error("fast is taken for a mode")
	}
}

func TestScoresFollowWhatHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s spec.Scores
		match := rapid.IntRange(0, 60).Draw(t, "match")
		i := rapid.IntRange(0, 20).Draw(t, "position")
		for range 400 {
			s.Note("a", match, i, true)
		}
		if p := s.Likely("a", match, i); p < 0.9 || p >= 1 {
			t.Fatalf("%v after always right", p)
		}
		before := s.Likely("a", match, i)
		s.Note("a", match, i, false)
		if p := s.Likely("a", match, i); p >= before {
			t.Fatalf("%v after a wrong one, %v before", p, before)
		}
		for range 1500 {
			s.Note("a", match, i, false)
		}
		if p := s.Likely("a", match, i); p > 0.1 {
			t.Fatalf("%v after always wrong", p)
		}
	})
}

func TestCostsLieOnTheLineBetweenMeasurements(t *testing.T) {
	c := spec.NewCosts(10*ms, 5*ms, 20*ms)
	if l := c.Latency(8); l != 30*ms {
		t.Errorf("before measurements a run of 8 takes %v; as one of 1 was expected", l)
	}
	for range 20 {
		c.Answered(spec.Answer{Rows: 1, Compute: 8 * ms, Slowest: 4 * ms, Latency: 28 * ms})
		c.Answered(spec.Answer{Rows: 5, Compute: 16 * ms, Slowest: 8 * ms, Latency: 36 * ms})
	}
	near := func(name string, got, want time.Duration) {
		if d := got - want; d < -ms/10 || d > ms/10 {
			t.Errorf("%s takes %v; %v was expected", name, got, want)
		}
	}
	near("1", c.Latency(1), 28*ms)
	near("3", c.Latency(3), 32*ms)
	near("5", c.Latency(5), 36*ms)
	near("9", c.Latency(9), 40*ms) // half as steep beyond
	c.Answered(spec.Answer{Rows: 1, Compute: 8000 * ms, Slowest: 4000 * ms})
	if l := c.Latency(1); l > 35*ms {
		t.Errorf("one pause makes a run take %v", l)
	}
}

func TestACostFromABadMomentIsCaughtByItsNeighbours(t *testing.T) {
	c := spec.NewCosts(ms, ms, 0)
	for _, a := range []struct {
		rows int
		took time.Duration
	}{{2, 170 * ms}, {5, 36 * ms}, {9, 500 * ms}, {1, 20 * ms}} {
		c.Answered(spec.Answer{Rows: a.rows, Compute: a.took, Slowest: a.took})
	}
	for _, want := range []struct {
		rows int
		most time.Duration
	}{{1, 20 * ms}, {2, 36 * ms}, {5, 36 * ms}, {9, 65 * ms}, {20, 150 * ms}} {
		if l := c.Latency(want.rows); l > want.most {
			t.Errorf("%d rows take %v, at most %v was expected", want.rows, l, want.most)
		}
	}
}

// BenchmarkDraftingOfAToken is what speculation costs the head for each token of
// a reply about a text of a megabyte, all of it: sources, scores, window.
func BenchmarkDraftingOfAToken(b *testing.B) {
	tokens := words(b, 1<<20)
	prompt := tokens[:200_000]
	lib := spec.NewLibrary(0)
	s := spec.New(spec.Options{Sources: []spec.Source{spec.NewAutomaton(0), lib.Open("a", "m")}, Costs: spec.NewCosts(8*ms, 4*ms, 20*ms)})
	s.Begin(prompt)
	ahead := []int32(nil)
	i := len(prompt)
	for b.Loop() {
		if i == len(tokens) {
			i = len(prompt)
		}
		d := s.Draft(nil, 0, 64)
		s.Sent(len(d))
		ahead = append(ahead[:0], d...)
		s.Commit(tokens[i:i+1], ahead) // as if only one were committed each time
		s.Drop()
		s.Answered(spec.Answer{Rows: 1 + len(d), Compute: 8 * ms, Slowest: 4 * ms, Latency: 28 * ms})
		i++
	}
}
