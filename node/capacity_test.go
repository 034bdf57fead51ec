package node

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/p2p/gossip"
)

func TestFiguresThatWanderMakeNoNewRecords(t *testing.T) {
	var s steady
	facts := func(mem, disk int64, busy float64, vram int64) machine.Info {
		return s.settle(machine.Info{MemTotal: 6400, MemFree: mem, DiskTotal: 64_000, DiskFree: disk, Busy: busy, GPUs: []machine.GPU{{VRAMTotal: 640, VRAMFree: vram}}})
	}
	first := facts(3050, 32_500, 0.42, 77)
	if first.MemFree != 3000 || first.DiskFree != 32_000 || first.Busy != 0.4 || first.GPUs[0].VRAMFree != 70 {
		t.Errorf("%+v", first)
	}
	for _, f := range []machine.Info{facts(3190, 33_000, 0.55, 88), facts(3000, 32_000, 0.40, 70), facts(3199, 33_999, 0.59, 89)} {
		if d := cmp.Diff(first, f); d != "" {
			t.Errorf("noise is told: %s", d)
		}
	}
	if low := facts(2950, 31_000, 0.1, 10); low.MemFree != 2900 || low.DiskFree != 31_000 || low.Busy != 0.1 || low.GPUs[0].VRAMFree != 10 {
		t.Errorf("what is less is not told: %+v", low)
	}
	if high := facts(6000, 64_000, 1, 640); high.MemFree != 6000 || high.DiskFree != 64_000 || high.Busy != 1 || high.GPUs[0].VRAMFree != 640 {
		t.Errorf("what is much more is not told: %+v", high)
	}
}

func TestTotalsBecomeRates(t *testing.T) {
	var r rate
	at := time.Unix(100, 0)
	for i, c := range []struct {
		after time.Duration
		total float64
		want  float64
	}{
		{0, 1000, 0},
		{100 * time.Millisecond, 1100, 0}, // too soon to tell
		{2 * time.Second, 1050, 25},
		{3 * time.Second, 1150, 100},
		{4 * time.Second, 0, 0}, // a stage was given back
	} {
		if got := r.look(at.Add(c.after), c.total); got != c.want {
			t.Errorf("look %d: %v, want %v", i, got, c.want)
		}
	}
	for v, want := range map[float64]float64{0: 0, 0.04: 0, 3.14159: 3.1, 123.4: 120, 99.9: 100} {
		if got := coarse(v); got < want*0.9999 || got > want*1.0001 {
			t.Errorf("%v told as %v", v, got)
		}
	}
}

func TestRunningRepliesAreListed(t *testing.T) {
	var r replies
	at := time.Unix(100, 0)
	a := r.begin("big", 10, at)
	b := r.begin("small", 3, at.Add(time.Second))
	a.wait()
	b.wait()
	if r.queued() != 2 {
		t.Errorf("%d wait", r.queued())
	}
	a.add(1, at.Add(2*time.Second))
	a.add(20, at.Add(4*time.Second))
	want := []api.ReplyState{
		{Model: "big", PromptTokens: 10, Tokens: 21, Age: 5 * time.Second, TokensPerS: 10, Silent: time.Second},
		{Model: "small", PromptTokens: 3, Queued: true, Age: 4 * time.Second},
	}
	if d := cmp.Diff(want, r.state(at.Add(5*time.Second))); d != "" {
		t.Error(d)
	}
	a.end()
	b.end()
	if left := r.state(at); len(left) != 0 {
		t.Errorf("%+v are left", left)
	}
}

func TestTransfersShowWhatALinkCanDo(t *testing.T) {
	now := time.Unix(100, 0)
	var got []float64
	tr := &traffic{now: func() time.Time { return now }, observe: func(peer string, rate float64) {
		if peer != "p" {
			t.Errorf("peer %q", peer)
		}
		got = append(got, rate)
	}}
	// Two requests at once share the link; the time between requests is nobody's.
	a, b := tr.begin("p"), tr.begin("p")
	now = now.Add(100 * time.Millisecond)
	a(1 << 20)
	now = now.Add(100 * time.Millisecond)
	b(1 << 20)
	now = now.Add(time.Hour)
	c := tr.begin("p")
	now = now.Add(200 * time.Millisecond)
	c(2 << 20)
	if d := cmp.Diff([]float64{(4 << 20) / 0.4}, got); d != "" {
		t.Error(d)
	}
	if len(tr.by) != 0 {
		t.Error("a peer that sends nothing is kept")
	}
	// A request that failed says nothing about the link.
	tr.begin("p")(3 << 20)
	f := tr.begin("p")
	now = now.Add(time.Minute)
	f(0)
	tr.begin("p")(2 << 20)
	if len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestMixedVersionsSayWhoMustUpgrade(t *testing.T) {
	own := versions{wire: 2, contract: 3, software: "weft v2"}
	for name, c := range map[string]struct {
		r           gossip.Record
		state, note string
	}{
		"same":            {gossip.Record{Wire: 2, Contract: 3, Software: "weft v2"}, "", ""},
		"another build":   {gossip.Record{Wire: 2, Contract: 3, Software: "weft v3"}, "", "runs weft v3, this node weft v2: they work together"},
		"old protocols":   {gossip.Record{Wire: 1, Contract: 3}, "it speaks wire version 1, this node 2: upgrade box", ""},
		"new protocols":   {gossip.Record{Wire: 3, Contract: 3}, "it speaks wire version 3, this node 2: upgrade this node", ""},
		"old arithmetic":  {gossip.Record{Wire: 2, Contract: 2}, "it computes by contract 2, this node by 3, so its bits would differ: upgrade box", ""},
		"new arithmetic":  {gossip.Record{Wire: 2, Contract: 4}, "it computes by contract 4, this node by 3, so its bits would differ: upgrade this node", ""},
		"each has an old": {gossip.Record{Wire: 1, Contract: 4}, "it speaks wire version 1, this node 2, and computes by contract 4, this node by 3: run one weft version on both", ""},
	} {
		v := versions{wire: c.r.Wire, contract: c.r.Contract, software: c.r.Software}
		if state, note := own.gap("box", v), own.note(v); state != c.state || note != c.note {
			t.Errorf("%s: %q, %q", name, state, note)
		}
	}
}

func TestValuesThatAreOldByThisClockAreStale(t *testing.T) {
	now := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		f     gossip.Freshness
		stale bool
		age   time.Duration
	}{
		"new":       {gossip.Freshness{Received: now.Add(-time.Second)}, false, time.Second},
		"silent":    {gossip.Freshness{Received: now.Add(-recordStale - 1)}, true, recordStale + 1},
		"announced": {gossip.Freshness{Received: now.Add(-time.Second), Behind: now.Add(-time.Second)}, false, time.Second},
		"behind":    {gossip.Freshness{Received: now.Add(-time.Minute), Behind: now.Add(-recordBehind - 1)}, true, time.Minute},
	} {
		p := api.Peer{}
		age(&p, c.f, now)
		if p.Stale != c.stale || p.Age != c.age {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
