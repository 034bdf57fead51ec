package node

import (
	"testing"
	"time"

	"github.com/weft-mesh/weft/scheduler"
)

func TestCorrectionsAreAveragedAndForgotten(t *testing.T) {
	var c tempo
	now := time.Now()
	if c.of("a", "m", now) != 0 {
		t.Error("a node that was never measured is corrected")
	}
	c.note("a", "m", 2, now)
	c.note("a", "m", 4, now)
	if got := c.of("a", "m", now); got != 3 {
		t.Errorf("%v", got)
	}
	if c.of("a", "other", now) != 0 || c.of("b", "m", now) != 0 {
		t.Error("another model or node is corrected with it")
	}
	c.note("a", "", 5, now)
	if c.of("a", "other", now) != 5 || c.of("a", "m", now) != 3 {
		t.Error("what holds for any model is not used where nothing else is known")
	}
	if c.of("a", "m", now.Add(correctionTime+time.Second)) != 0 {
		t.Error("an old measurement still counts")
	}
}

// TestANodeThatLiesAboutItsSpeedGetsLessWork lets node a claim ten times what it
// does: it gets the whole model, until a reply was measured.
func TestANodeThatLiesAboutItsSpeedGetsLessWork(t *testing.T) {
	p := plannerOf(nil)
	p.ownStep = func(*active) time.Duration { return 0 }
	m := tinyModel(t)
	slot := slotOf(m.entry.Model, m.entry.Profile)
	snapshot := func(*opened) scheduler.Snapshot {
		s := scheduler.Snapshot{Head: "head", Nodes: []scheduler.Node{
			{ID: "a", Name: "a", MemFree: 1 << 40, DecodeBps: 1e8, PrefillOps: 1e12},
			{ID: "b", Name: "b", MemFree: 1 << 40, DecodeBps: 2e7, PrefillOps: 1e11},
		}}
		p.tempo.correct(&s, slot, time.Now())
		return s
	}
	p.snapshot = snapshot
	chosen := func() scheduler.Plan {
		plan, err := p.plan(snapshot(m), m)
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	first := chosen()
	if first.Stages[0].Node != "a" {
		t.Fatalf("%+v", first.Stages)
	}
	a := &active{model: m, spec: p.spec(m, first)}
	honest := first.TPOT - first.Stages[0].Step + 10*first.Stages[0].Step
	p.learn(a, 0) // nothing was measured
	if again := chosen(); again.Stages[0].Node != "a" {
		t.Fatalf("without a measurement: %+v", again.Stages)
	}
	p.learn(a, honest)
	if again := chosen(); len(again.Stages) != 1 || again.Stages[0].Node != "b" {
		t.Errorf("after it was measured: %+v", again.Stages)
	}
	now, err := p.price(a)
	if err != nil || now.TPOT < honest*7/10 {
		t.Errorf("its plan is priced at %v, %v; it takes %v", now.TPOT, err, honest)
	}
	a.spec.Stages[0].Peer = "gone"
	if _, err := p.price(a); err == nil {
		t.Error("a plan over a node that is not there has a price")
	}
}

func TestOnlyEnoughStepsTellAPlansTime(t *testing.T) {
	var s stepTimes
	for range fewSteps - 1 {
		s.add(time.Second)
	}
	if s.median() != 0 {
		t.Error("a few steps tell something")
	}
	for range 2 * mostKept {
		s.add(time.Millisecond)
	}
	if s.median() != time.Millisecond || len(s) != mostKept {
		t.Errorf("%v of %d", s.median(), len(s))
	}
}
