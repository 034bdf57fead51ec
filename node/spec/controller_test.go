package spec_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/spec"
	"github.com/weft-mesh/weft/node/spec/spectest"
)

const ms = time.Millisecond

// point is a simulated plan and how good the drafts are for it.
type point struct {
	accept float64
	hop    time.Duration // one way
	stages int
	cost   string
}

func (p point) String() string {
	return fmt.Sprintf("acceptance %.2f, hop %v, %d stages, %s", p.accept, p.hop, p.stages, p.cost)
}

// step is how long all stages together take for one row.
const step = 8 * ms

// costs are how a step grows with its rows, as a share of one row's step.
var costs = map[string]func(rows int) float64{
	"wide is free":        func(rows int) float64 { return 1 },
	"wide is cheap":       func(rows int) float64 { return 1 + 0.06*float64(rows-1) },
	"wide is dear":        func(rows int) float64 { return 1 + 0.35*float64(rows-1) },
	"wide costs in full":  func(rows int) float64 { return float64(rows) },
	"free up to 4, dear":  func(rows int) float64 { return max(1, 1+0.4*float64(rows-4)) },
	"a step from 1 to 2":  func(rows int) float64 { return min(float64(rows), 2) + 0.05*float64(rows-1) },
	"in blocks of 8 rows": func(rows int) float64 { return float64((rows+7)/8) + 0.02*float64(rows) },
}

func (p point) pipe() spectest.Pipe {
	grow := costs[p.cost]
	return spectest.Pipe{
		Stages: p.stages,
		Step: func(i, rows int) time.Duration {
			return time.Duration(float64(step) / float64(p.stages) * grow(rows))
		},
		Hop: func(int) time.Duration { return p.hop },
	}
}

func (p point) reply(t *testing.T, n int, o spec.Options) spectest.Outcome {
	t.Helper()
	truth := spectest.Truth(n, 3)
	o.Sources = []spec.Source{spectest.NewOracle(truth, 5, func(int) float64 { return p.accept })}
	out, err := p.pipe().Reply(truth, 1, spec.New(o))
	if err != nil {
		t.Fatalf("%v: %v", p, err)
	}
	return out
}

// known are costs that know what the planner predicts of one row.
func (p point) known() *spec.Costs {
	one := step / time.Duration(p.stages)
	return spec.NewCosts(step, one, time.Duration(p.stages+1)*p.hop)
}

// search finds the best window that is the same for every run.
func (p point) search(t *testing.T, n int) (best spec.Window, least time.Duration) {
	t.Helper()
	try := func(w spec.Window) {
		o := p.reply(t, n, spec.Options{Fixed: w})
		if least == 0 || o.Time < least {
			best, least = w, o.Time
		}
	}
	try(spec.Window{Width: 1, Runs: 1})
	for _, w := range []int{2, 3, 4, 6, 8, 12, 16, 24, 32, 48} {
		try(spec.Window{Width: w, Runs: 1})
	}
	for _, m := range []int{1, 2, 3, 4, 6, 8, 12} {
		for _, r := range []int{2, 3, 4, 6, 8, 12, 24} {
			try(spec.Window{Width: m, Runs: r})
		}
	}
	return best, least
}

func points() []point {
	var out []point
	names := []string{"wide is free", "wide is cheap", "wide is dear", "wide costs in full", "free up to 4, dear", "a step from 1 to 2", "in blocks of 8 rows"}
	accepts := []float64{0, 0.2, 0.4, 0.6, 0.75, 0.9, 0.97}
	hops := []time.Duration{50 * time.Microsecond, ms / 2, 5 * ms / 2, 5 * ms, 10 * ms, 20 * ms}
	stages := []int{1, 2, 4}
	for i := range 42 {
		out = append(out, point{accepts[i%7], hops[(i/7+i)%6], stages[(i/2)%3], names[(i*3+i/7)%7]})
	}
	return out
}

func TestTheWindowIsWithinFivePercentOfTheBestFixedOne(t *testing.T) {
	for i, p := range points() {
		if testing.Short() && i%4 != 0 {
			continue
		}
		n := 600
		if p.accept >= 0.9 { // few runs, and a search would find luck
			n = 4000
		}
		t.Run(p.String(), func(t *testing.T) {
			best, least := p.search(t, n)
			plain := p.reply(t, n, spec.Options{Mode: spec.ModeOff}).Time
			got := p.reply(t, n, spec.Options{Costs: p.known()})
			t.Logf("%.2f times plain; best fixed %+v %.2f times", float64(plain)/float64(got.Time), best, float64(plain)/float64(least))
			if r := float64(got.Time) / float64(least); r > 1.05 {
				t.Errorf("%.3f times the time of the best fixed window %+v (%v a token, plain %v)", r, best, got.PerToken(), plain/time.Duration(n))
			}
			if r := float64(got.Time) / float64(plain); r > 1.005 {
				t.Errorf("%.3f times the time of plain decoding", r)
			}
		})
	}
}

func TestThePipelineComesNearItsBound(t *testing.T) {
	for _, c := range []struct {
		point
		least float64
	}{
		{point{0.5, 10 * ms, 2, "wide is cheap"}, 0.85},
		{point{0.7, 5 * ms, 2, "wide is cheap"}, 0.85},
		{point{0.8, 20 * ms, 4, "wide is dear"}, 0.85},
		{point{0.8, 10 * ms, 4, "free up to 4, dear"}, 0.85},
		{point{0.9, 20 * ms, 2, "wide costs in full"}, 0.85},
		{point{0.95, 20 * ms, 4, "wide is cheap"}, 0.85},
		{point{0.95, 5 * ms, 4, "wide is free"}, 0.85},
		// The bound takes its latency from runs of 1 and its rate from runs of
		// 16. Where both matter and wide steps are dear, no width has both.
		{point{0.9, 10 * ms, 2, "wide is dear"}, 0.72},
	} {
		got := c.reply(t, 4000, spec.Options{Costs: c.known(), Mode: spec.ModeAsync})
		share := float64(got.Bound) / float64(got.PerToken())
		t.Logf("%v: %.2f of the bound", c.point, share)
		if share < c.least {
			t.Errorf("%v: %v a token, %.2f of the bound %v", c.point, got.PerToken(), share, got.Bound)
		}
	}
}

func TestABusyPoolTurnsSpeculationOff(t *testing.T) {
	p := point{0.8, ms, 2, "wide is dear"}
	pipe := p.pipe()
	share := func(others int) float64 {
		pipe.Others = others
		truth := spectest.Truth(600, 3)
		o, err := pipe.Reply(truth, 1, spec.New(spec.Options{
			Sources: []spec.Source{spectest.NewOracle(truth, 5, func(int) float64 { return p.accept })},
			Costs:   p.known(), Others: func() int { return others },
		}))
		if err != nil {
			t.Fatal(err)
		}
		return float64(o.Report.Drafted) / float64(o.Report.Runs)
	}
	alone, some, many := share(0), share(3), share(15)
	if alone < 1 || some >= alone || many > 0.1 {
		t.Errorf("%.2f drafted tokens a run alone, %.2f beside 3 replies, %.2f beside 15", alone, some, many)
	}
}

func TestAReplyThatQuotesIsNoticed(t *testing.T) {
	p := point{0, 5 * ms, 2, "wide is dear"}
	truth := spectest.Truth(1200, 3)
	quoted := func(at int) bool { return at/300%2 == 1 }
	o := spectest.NewOracle(truth, 5, func(at int) float64 {
		if quoted(at) {
			return 0.97
		}
		return 0.05
	})
	o.Match = func(at int) int {
		if quoted(at) {
			return 1 + at%300
		}
		return 1
	}
	run := func(m spec.Mode) time.Duration {
		out, err := p.pipe().Reply(truth, 1, spec.New(spec.Options{Mode: m, Sources: []spec.Source{o}, Costs: p.known()}))
		if err != nil {
			t.Fatal(err)
		}
		return out.Time
	}
	// Half of the reply is plain, the other takes at most a fifth of its time.
	if auto, plain := run(spec.ModeAuto), run(spec.ModeOff); auto > plain*6/10 {
		t.Errorf("%v with speculation, %v without", auto, plain)
	}
}
