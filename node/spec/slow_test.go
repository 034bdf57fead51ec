package spec_test

import (
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/spec"
	"github.com/weft-mesh/weft/node/spec/spectest"
)

// slowly is the reply of a point whose drafts take each a token.
func (p point) slowly(t *testing.T, n int, each time.Duration, o spec.Options) spectest.Outcome {
	t.Helper()
	truth := spectest.Truth(n, 3)
	slow := &spectest.Slow{Oracle: spectest.NewOracle(truth, 5, func(int) float64 { return p.accept }), Each: each}
	o.Sources = append(o.Sources, slow)
	pipe := p.pipe()
	pipe.Slow = slow
	out, err := pipe.Reply(truth, 1, spec.New(o))
	if err != nil {
		t.Fatalf("%v: %v", p, err)
	}
	return out
}

func TestWhatADraftCostsIsWeighed(t *testing.T) {
	const n = 800
	for _, each := range []time.Duration{ms / 4, 2 * ms, 5 * ms, 12 * ms} {
		for _, p := range []point{
			{0.3, ms / 2, 2, "wide is cheap"},
			{0.6, ms / 2, 1, "wide is cheap"},
			{0.6, 5 * ms, 2, "wide is cheap"},
			{0.8, 0, 1, "wide is cheap"},
			{0.8, ms / 2, 2, "wide is dear"},
			{0.8, 10 * ms, 2, "wide is cheap"},
			{0.8, 20 * ms, 4, "free up to 4, dear"},
			{0.9, 5 * ms, 2, "wide is cheap"},
			{0.95, 20 * ms, 4, "wide is cheap"},
		} {
			for _, ahead := range []bool{false, true} {
				plain := p.reply(t, n, spec.Options{Mode: spec.ModeOff}).Time
				got := p.slowly(t, n, each, spec.Options{Costs: p.known(), Ahead: ahead})
				best, least := spec.Window{Width: 1, Runs: 1}, plain
				for _, w := range []spec.Window{{2, 1}, {3, 1}, {4, 1}, {6, 1}, {8, 1}, {12, 1}, {16, 1}, {1, 2}, {2, 2}, {2, 4}, {4, 2}, {4, 4}, {1, 8}, {2, 8}, {4, 8}, {8, 4}, {1, 16}, {2, 16}} {
					if o := p.slowly(t, n, each, spec.Options{Fixed: w, Ahead: ahead}); o.Time < least {
						best, least = w, o.Time
					}
				}
				t.Logf("%v, %v a draft, ahead %v: %.2f times plain, best fixed %+v %.2f times", p, each, ahead, float64(plain)/float64(got.Time), best, float64(plain)/float64(least))
				if r := float64(got.Time) / float64(plain); r > 1.01 {
					t.Errorf("%v, %v a draft: %.3f times the time of plain decoding", p, each, r)
				}
				if r := float64(got.Time) / float64(least); r > 1.15 {
					t.Errorf("%v, %v a draft, ahead %v: %.3f times the time of the best fixed window %+v", p, each, ahead, r, best)
				}
			}
		}
	}
}

func TestADraftThatDoesNotPayIsNotMade(t *testing.T) {
	p := point{0.8, 0, 1, "wide is cheap"}
	got := p.slowly(t, 400, 20*ms, spec.Options{Costs: p.known()})
	if got.Report.Drafted > 4 {
		t.Errorf("%d tokens were drafted at more than they save", got.Report.Drafted)
	}
}

// TestACheapDraftGoesBeforeADearOne: where the automaton is as sure, nobody waits
// for the model.
func TestACheapDraftGoesBeforeADearOne(t *testing.T) {
	p := point{0.9, 5 * ms, 2, "wide is cheap"}
	truth := spectest.Truth(600, 3)
	cheap := spectest.NewOracle(truth, 5, func(int) float64 { return 0.9 })
	got := p.slowly(t, 600, 5*ms, spec.Options{Sources: []spec.Source{cheap}, Costs: p.known()})
	alone := p.reply(t, 600, spec.Options{Costs: p.known()})
	if got.Report.By["model"] > 10 || got.Time > alone.Time*105/100 {
		t.Errorf("accepted by source %v; %v with the model, %v without", got.Report.By, got.Time, alone.Time)
	}
}
