package scheduler_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/scheduler"
)

const msec = time.Millisecond

func drawCopies(t *rapid.T) ([]scheduler.Copy, scheduler.Reply) {
	list := make([]scheduler.Copy, rapid.IntRange(1, 8).Draw(t, "copies"))
	for i := range list {
		tpot := time.Duration(rapid.IntRange(1, 200).Draw(t, "tpot")) * msec
		list[i] = scheduler.Copy{
			TTFT: time.Duration(rapid.IntRange(0, 2000).Draw(t, "ttft")) * msec, TPOT: tpot,
			Row:     time.Duration(rapid.Float64Range(0, 1).Draw(t, "row") * float64(tpot)),
			Replies: rapid.IntRange(0, 10).Draw(t, "replies"), KV: rapid.IntRange(0, 8).Draw(t, "kv") * 1024,
		}
	}
	return list, scheduler.Reply{
		Prompt: rapid.IntRange(1, 4000).Draw(t, "prompt"), Tokens: rapid.IntRange(1, 500).Draw(t, "tokens"), Positions: rapid.IntRange(1, 4096).Draw(t, "positions"),
	}
}

func TestAReplyGoesToACopyThatIsNearlyTheQuickest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, r := drawCopies(t)
		least := list[0].Takes(r)
		for _, c := range list {
			least = min(least, c.Takes(r))
		}
		got := scheduler.Choose(list, r, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "draw") })
		bound := 1.1
		if got == 0 && list[0].Replies == 0 {
			bound = 1.15
		}
		if took := list[got].Takes(r); float64(took) > bound*float64(least)+1 {
			t.Fatalf("copy %d takes %v, the quickest %v: %+v", got, took, least, list)
		}
	})
}

func TestMoreRepliesOrLessRoomNeverMakeACopyQuicker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, r := drawCopies(t)
		more := list[0]
		more.Replies++
		if more.Takes(r) < list[0].Takes(r) {
			t.Fatalf("with one reply more %v, without %v: %+v", more.Takes(r), list[0].Takes(r), list[0])
		}
		long := r
		long.Tokens++
		if list[0].Takes(long) <= list[0].Takes(r) {
			t.Fatalf("a longer reply is done sooner: %+v", list[0])
		}
	})
}

// TestACopyPaysOnlyWhereItHelps makes a copy of every plan beside which it would
// be the quicker choice at once, and of no other.
func TestACopyPaysOnlyWhereItHelps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, r := drawCopies(t)
		made := list[0]
		made.Replies = 0
		if !scheduler.Pays(list, made, r) {
			return
		}
		if got := scheduler.Choose(append(list, made), r, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "draw") }); got != len(list) {
			t.Fatalf("a copy that pays was not chosen: %d of %+v", got, list)
		}
	})
	r := scheduler.Reply{Prompt: 100, Tokens: 100, Positions: 1024}
	idle := scheduler.Copy{TTFT: 50 * msec, TPOT: 10 * msec, Row: 4 * msec, KV: 4096}
	busy, full, slow := idle, idle, idle
	busy.Replies, full.Replies, slow.TPOT = 1, 4, 30*msec
	for name, c := range map[string]struct {
		have, made scheduler.Copy
		want       bool
	}{
		"beside an idle plan":                              {idle, idle, false},
		"beside a busy one":                                {busy, idle, true},
		"a slow node beside a busy one":                    {busy, slow, false},
		"a slow node beside one without room":              {full, slow, false},
		"a slow node beside one that is overrun":           {scheduler.Copy{TTFT: 50 * msec, TPOT: 10 * msec, Row: 4 * msec, KV: 1024, Replies: 4}, slow, true},
		"beside one whose replies cost each other nothing": {scheduler.Copy{TTFT: 50 * msec, TPOT: 10 * msec, Replies: 1, KV: 4096}, idle, false},
	} {
		if got := scheduler.Pays([]scheduler.Copy{c.have}, c.made, r); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestHeadsDoNotAllChooseTheSameCopy lets many heads that know the same old
// figures choose at once.
func TestHeadsDoNotAllChooseTheSameCopy(t *testing.T) {
	r := scheduler.Reply{Prompt: 10, Tokens: 100, Positions: 512}
	list := make([]scheduler.Copy, 8)
	for i := range list {
		list[i] = scheduler.Copy{TPOT: 10 * msec, Row: 5 * msec, Replies: 2, KV: 1 << 20}
	}
	list[0].Replies = 3 // clearly worse
	x := uint64(1)
	draw := func(n int) int { // a generator that gives the same on every run
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		return int(x % uint64(n))
	}
	chosen := map[int]int{}
	for range 700 {
		chosen[scheduler.Choose(list, r, draw)]++
	}
	if chosen[0] > 0 {
		t.Errorf("the busiest one was chosen: %v", chosen)
	}
	for i := 1; i < len(list); i++ {
		if n := chosen[i]; n < 50 || n > 150 {
			t.Errorf("of 700 replies copy %d got %d: %v", i, n, chosen)
		}
	}
}
