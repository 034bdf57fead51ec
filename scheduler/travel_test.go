package scheduler_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/scheduler"
)

func TestWeightsTravelOverTheBestLinkOfAHolder(t *testing.T) {
	s := scheduler.Snapshot{Head: "a", Nodes: []scheduler.Node{node("a", 1e9, 1e9), node("b", 1e9, 1e9), node("c", 1e9, 1e9), node("d", 1e9, 1e9)}, Links: map[[2]string]scheduler.Link{
		{"a", "c"}: {RTT: time.Millisecond, Bandwidth: 10e6},
		{"b", "c"}: {RTT: time.Millisecond, Bandwidth: 100e6},
		{"c", "d"}: {RTT: time.Millisecond, Bandwidth: 1e6},
	}}
	p := scheduler.Plan{Stages: []scheduler.Stage{{Node: "c", Bytes: 200e6}, {Node: "d", Bytes: 25e6}}}
	for name, c := range map[string]struct {
		holders string
		want    time.Duration
		ok      bool
	}{
		"both hold it":             {"cd", 0, true},
		"two can give it":          {"abd", 4 * time.Second, true},
		"one can, over a slow one": {"ad", 40 * time.Second, true},
		"a link that is not known": {"abc", 4 * time.Second, true},
		"nobody has it":            {"", 0, false},
	} {
		holds := func(id string) bool {
			for _, h := range c.holders {
				if string(h) == id {
					return true
				}
			}
			return false
		}
		got, ok := scheduler.Travel(s, p, holds)
		if ok != c.ok || (got-c.want).Abs() > time.Millisecond {
			t.Errorf("%s: %v %v, want %v", name, got, ok, c.want)
		}
	}
	s.Links = nil
	if got, ok := scheduler.Travel(s, p, func(id string) bool { return id == "a" }); !ok || got != 36*time.Second {
		t.Errorf("over links that nobody measured: %v %v", got, ok)
	}
}

// TestATravelCostsAtMostTwiceWhatItHadToCost has loads of all lengths: whatever
// comes, what replies lose and the way take at most twice what the better of
// never and at once would have, but for the reply that tips the scales.
func TestATravelCostsAtMostTwiceWhatItHadToCost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		way := time.Duration(rapid.IntRange(0, 100_000).Draw(t, "way")) * time.Millisecond
		var w scheduler.Want
		var lost, most, all time.Duration
		now, paid := time.Unix(0, 0), time.Duration(-1)
		for range rapid.IntRange(0, 50).Draw(t, "replies") {
			now = now.Add(time.Duration(rapid.IntRange(0, 59).Draw(t, "gap")) * time.Second)
			sooner := time.Duration(rapid.IntRange(1, 10_000).Draw(t, "sooner")) * time.Millisecond
			all += sooner
			if paid >= 0 {
				continue // it is there, and nothing is lost
			}
			lost, most = lost+sooner, max(most, sooner)
			if w.Add(sooner, 1, now); w.Pays(way) {
				paid = way
			}
		}
		if cost, least := lost+max(0, paid), min(all, way); cost > 2*least+most {
			t.Fatalf("it cost %v, the least was %v", cost, least)
		}
		if paid >= 0 && lost < way {
			t.Fatalf("the weights travel %v for %v that were lost", way, lost)
		}
	})
}

func TestALoadThatIsOverCountsNoMore(t *testing.T) {
	var w scheduler.Want
	now := time.Unix(1000, 0)
	if w.Pays(0) {
		t.Error("nobody wants it, and weights travel")
	}
	w.Add(3*time.Second, 3, now)
	if !w.Pays(9*time.Second) || w.Pays(10*time.Second) {
		t.Errorf("three replies of three seconds: %+v", w)
	}
	w.Add(-time.Hour, 1, now)
	w.Add(time.Second, -5, now)
	if !w.Pays(9 * time.Second) {
		t.Error("what is no loss counts as a gain")
	}
	w.Add(time.Second, 1, now.Add(2*time.Minute))
	if w.Pays(2*time.Second) || !w.Pays(time.Second) {
		t.Errorf("after the load was over: %+v", w)
	}
}
