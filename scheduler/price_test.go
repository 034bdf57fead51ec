package scheduler_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/scheduler"
)

func TestAPlansPriceIsWhatTheOracleSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, m := draw(t, 4)
		drawMixed(t, &m)
		p, err := scheduler.Make(s, m)
		if err != nil {
			return
		}
		var order []scheduler.Node
		var last []int
		for _, st := range p.Stages {
			for _, n := range s.Nodes {
				if n.ID == st.Node {
					order, last = append(order, n), append(last, st.Last)
				}
			}
		}
		want, ok := price(s, m, order, last)
		got, err := scheduler.Price(s, m, p.Stages)
		if !ok || err != nil || (got.TPOT-want).Abs() > 10*time.Microsecond || (got.TPOT-p.TPOT).Abs() > time.Microsecond {
			t.Fatalf("price %v %v, oracle %v %v, plan %v", got.TPOT, err, want, ok, p.TPOT)
		}
		if diff := cmp.Diff(p.Stages, got.Stages); diff != "" {
			t.Fatalf("(-planned +priced):\n%s", diff)
		}
	})
}

func TestPriceRefusesWhatIsNoPlan(t *testing.T) {
	s := scheduler.Snapshot{Head: "a", Nodes: []scheduler.Node{node("a", 1e9, 1e9), {ID: "new", MemFree: 1e9}}}
	for name, stages := range map[string][]scheduler.Stage{
		"nothing":      nil,
		"a gap":        {{Node: "a", First: 1, Last: 11}},
		"too few":      {{Node: "a", First: 0, Last: 10}},
		"too many":     {{Node: "a", First: 0, Last: 12}},
		"backwards":    {{Node: "a", First: 0, Last: -1}},
		"a stranger":   {{Node: "x", First: 0, Last: 11}},
		"not measured": {{Node: "new", First: 0, Last: 11}},
	} {
		if p, err := scheduler.Price(s, model(12), stages); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestCorrectionsMakePredictionsTrue lets nodes be slower or faster than they
// say by factors that nobody knows, and learns them from what plans took.
func TestCorrectionsMakePredictionsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claimed, m := draw(t, 4)
		claimed.Acceptance = 0
		truth := claimed
		truth.Nodes = append([]scheduler.Node(nil), claimed.Nodes...)
		for i := range truth.Nodes {
			claimed.Nodes[i].Sessions, claimed.Nodes[i].Correction = 0, 0
			truth.Nodes[i].Sessions = 0
			truth.Nodes[i].Correction = rapid.Float64Range(0.3, 5).Draw(t, "factor")
		}
		// Plans are made and measured one after the other.
		for range 12 {
			p, err := scheduler.Make(claimed, m)
			if err != nil {
				return
			}
			real, err := scheduler.Price(truth, m, p.Stages)
			if err != nil {
				t.Fatal(err)
			}
			by, _, err := scheduler.Correct(claimed, m, scheduler.Measure{Stages: p.Stages, Step: real.TPOT})
			if err != nil {
				t.Fatal(err)
			}
			for i := range claimed.Nodes {
				if c, ok := by[claimed.Nodes[i].ID]; ok {
					claimed.Nodes[i].Correction = c
				}
			}
			again, err := scheduler.Price(claimed, m, p.Stages)
			if err != nil {
				t.Fatal(err)
			}
			if r := float64(again.TPOT) / float64(real.TPOT); r < 0.97 || r > 1.03 {
				t.Fatalf("after it was measured the plan is predicted at %v and takes %v", again.TPOT, real.TPOT)
			}
		}
	})
}

func TestWhatTheHeadKnowsIsNotBlamedOnOthers(t *testing.T) {
	s := scheduler.Snapshot{Head: "a", Nodes: []scheduler.Node{node("a", 100e6, 20e9), node("b", 100e6, 20e9)}}
	p, err := scheduler.Make(s, model(12))
	if err != nil {
		t.Fatal(err)
	}
	known, step := map[string]time.Duration{}, p.Back
	for _, st := range p.Stages {
		step += st.Hop
		if took := st.Step; st.Node == "a" {
			known["a"] = 3 * took
			step += 3 * took
		} else {
			step += took
		}
	}
	by, _, err := scheduler.Correct(s, model(12), scheduler.Measure{Stages: p.Stages, Step: step, Known: known})
	if err != nil || by["a"] < 2.8 || by["a"] > 3.2 || by["b"] < 0.95 || by["b"] > 1.05 {
		t.Errorf("%v %v", by, err)
	}
}

func TestPlansDoNotFlap(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name string
		old  scheduler.Standing
		tpot time.Duration
		want bool
	}{
		{"clearly better", scheduler.Standing{TPOT: 100 * ms, Age: time.Hour}, 50 * ms, true},
		{"a little better", scheduler.Standing{TPOT: 100 * ms, Age: time.Hour}, 90 * ms, false},
		{"better, but too early", scheduler.Standing{TPOT: 100 * ms, Age: time.Second}, 50 * ms, false},
		{"replaced often", scheduler.Standing{TPOT: 100 * ms, Age: time.Hour, Replaced: 4}, 60 * ms, false},
		{"much better, though replaced often", scheduler.Standing{TPOT: 100 * ms, Age: time.Hour, Replaced: 4}, 10 * ms, true},
		{"worse", scheduler.Standing{TPOT: 100 * ms, Age: time.Hour}, 200 * ms, false},
		{"nothing to compare with", scheduler.Standing{TPOT: 100 * ms, Age: time.Hour}, 0, false},
	} {
		if got := scheduler.Replace(c.old, c.tpot); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	// Two plans whose figures swing by turns: the swing has to grow for each turn.
	rapid.Check(t, func(t *rapid.T) {
		swing := rapid.Float64Range(1, 3).Draw(t, "swing")
		replaced := 0
		for range 50 {
			if scheduler.Replace(scheduler.Standing{TPOT: time.Duration(swing * float64(10*ms)), Age: 2 * time.Minute, Replaced: replaced}, 10*ms) {
				replaced++
			}
		}
		if replaced > 8 {
			t.Fatalf("a swing of %.2f replaces the plan %d times", swing, replaced)
		}
	})
}

// TestStepsOfRealModelsArePredicted holds the price to decode steps that were
// measured on two cores of a Xeon with one thread: the least and the median of 64
// steps of each model's graph, beside the rates that package node/speed measured
// before them.
func TestStepsOfRealModelsArePredicted(t *testing.T) {
	xeon := node("xeon", 1<<33, 28e9)
	xeon.FarBps, xeon.Layer = 15.2e9, 14*time.Microsecond
	for _, c := range []struct {
		name          string
		layers        int
		bytes, embed  int64
		least, median time.Duration
	}{
		{"SmolLM2-135M Q4_1", 30, 96_400_000, 17_700_000, 4166 * time.Microsecond, 4455 * time.Microsecond},
		{"SmolLM2-135M Q4_0", 30, 89_800_000, 16_000_000, 4017 * time.Microsecond, 4508 * time.Microsecond},
		{"SmolLM2-135M Q8_0", 30, 142_900_000, 30_000_000, 8829 * time.Microsecond, 9503 * time.Microsecond},
		{"Qwen2.5-Coder 0.5B Q4_K_M", 24, 392_400_000, 145_000_000, 30235 * time.Microsecond, 32085 * time.Microsecond},
	} {
		m := scheduler.Model{Name: c.name, EmbedBytes: c.embed, Tied: true, Context: 1}
		for range c.layers {
			m.LayerBytes, m.LayerMacs = append(m.LayerBytes, (c.bytes-c.embed)/int64(c.layers)), append(m.LayerMacs, 1)
		}
		p, err := scheduler.Make(scheduler.Snapshot{Head: "xeon", Nodes: []scheduler.Node{xeon}}, m)
		if err != nil {
			t.Fatal(err)
		}
		if p.TPOT < c.least*85/100 || p.TPOT > c.median*115/100 {
			t.Errorf("%s: predicted %v, measured %v at least and %v at the median", c.name, p.TPOT, c.least, c.median)
		}
	}
}

// TestWhatCachesDoNotHoldIsReadSlower has a node whose rate falls with what a step
// reads: half a model takes less than half of its time, more layers never less, and
// that its halves would fit caches does not make two nodes of one.
func TestWhatCachesDoNotHoldIsReadSlower(t *testing.T) {
	plan := func(layers, nodes int) scheduler.Plan {
		s := scheduler.Snapshot{Head: "a", Links: map[[2]string]scheduler.Link{}}
		for i := range nodes {
			n := node(string(rune('a'+i)), 1e10, 20e9)
			n.FarBps = 5e9
			s.Nodes = append(s.Nodes, n)
			s.Links[[2]string{"a", n.ID}] = scheduler.Link{RTT: time.Microsecond, Bandwidth: 1e10}
		}
		p, err := scheduler.Make(s, model(layers))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	before := time.Duration(0)
	for layers := 1; layers < 60; layers++ {
		now := plan(layers, 1).TPOT
		if now < before {
			t.Errorf("%d layers take %v, one less %v", layers, now, before)
		}
		before = now
	}
	if whole, half := plan(24, 1).TPOT, plan(12, 1).TPOT; half*2 >= whole {
		t.Errorf("half takes %v, the whole %v", half, whole)
	}
	if p := plan(24, 2); len(p.Stages) != 1 {
		t.Errorf("it is split in %d, %v", len(p.Stages), p.Why)
	}
}

// TestANodeThatTellsNoMoreThanItsRateIsPlannedWith has what older nodes tell, and
// figures that are no measurement.
func TestANodeThatTellsNoMoreThanItsRateIsPlannedWith(t *testing.T) {
	price := func(far float64, layer time.Duration) time.Duration {
		n := node("a", 1e10, 20e9)
		n.FarBps, n.Layer = far, layer
		p, err := scheduler.Make(scheduler.Snapshot{Head: "a", Nodes: []scheduler.Node{n}}, model(24))
		if err != nil {
			t.Fatal(err)
		}
		return p.TPOT
	}
	old := price(0, 0)
	if want := 50*time.Microsecond + 251_144_000*time.Second/20e9; (old - want).Abs() > time.Microsecond {
		t.Errorf("%v, by the rate alone it is %v", old, want)
	}
	if got := price(40e9, 0); got != old {
		t.Errorf("a far rate above the near one: %v, without it %v", got, old)
	}
	if got := price(1e-300, time.Hour); got < time.Hour || got > 10_000*time.Hour {
		t.Errorf("the slowest node that can be told of: %v", got)
	}
}
