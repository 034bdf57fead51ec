package scheduler_test

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/scheduler"
)

// model is a shape with n equal layers of 10 MB.
func model(n int) scheduler.Model {
	m := scheduler.Model{Name: "m", EmbedBytes: 5e6, HeadBytes: 5e6, KVBytes: 1000, StepBytes: 1e6, HiddenBytes: 4000, Context: 1000}
	for range n {
		m.LayerBytes = append(m.LayerBytes, 10e6)
		m.LayerMacs = append(m.LayerMacs, 20e6)
	}
	return m
}

func node(id string, mem int64, bps float64) scheduler.Node {
	return scheduler.Node{ID: id, Name: id, MemFree: mem, DecodeBps: bps, PrefillOps: bps * 10}
}

func TestOneNodeThatHoldsTheModelIsThePlanWhenItIsFastest(t *testing.T) {
	s := scheduler.Snapshot{Head: "head", Nodes: []scheduler.Node{node("a", 1e9, 10e9), node("b", 1e9, 30e9), node("c", 1e9, 20e9)}}
	p, err := scheduler.Make(s, model(12))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Stages) != 1 || p.Stages[0].Node != "b" || p.Stages[0].Last != 11 {
		t.Fatalf("stages %+v", p.Stages)
	}
	if !strings.Contains(strings.Join(p.Why, "\n"), "fastest") || !strings.Contains(strings.Join(p.Why, "\n"), "splitting over 2 nodes would be slower") {
		t.Fatalf("why: %q", p.Why)
	}
}

func TestAModelTooLargeForOneNodeIsSplitBySpeed(t *testing.T) {
	s := scheduler.Snapshot{Head: "head", Nodes: []scheduler.Node{node("a", 100e6, 10e9), node("b", 100e6, 10e9), {ID: "head", Name: "head"}}}
	p, err := scheduler.Make(s, model(12))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Stages) != 2 || p.Stages[0].Last != 5 {
		t.Fatalf("equal nodes do not get half each: %+v", p.Stages)
	}
	if !slices.ContainsFunc(p.Why, func(w string) bool { return strings.Contains(w, "head is not used") }) {
		t.Fatalf("why: %q", p.Why)
	}
}

func TestSmallFastNodesBeatALargeSlowOne(t *testing.T) {
	s := scheduler.Snapshot{Head: "a", Nodes: []scheduler.Node{node("slow", 1e9, 1e9), node("a", 100e6, 50e9), node("b", 100e6, 50e9)}}
	p, err := scheduler.Make(s, model(12))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Stages) != 2 || p.Stages[0].Node == "slow" || p.Stages[1].Node == "slow" {
		t.Fatalf("stages %+v", p.Stages)
	}
}

// Of a model with experts a token reads a part, but all have to lie in memory, and a second
// reply takes other experts.
func TestExpertsCountInMemoryButNotInWhatATokenReads(t *testing.T) {
	s := scheduler.Snapshot{Head: "a", Nodes: []scheduler.Node{node("a", 100e6, 1e9), node("b", 100e6, 1e9)}}
	dense, mixed := model(12), model(12)
	mix(&mixed, 3e6, 2e6)
	for i := range s.Nodes {
		s.Nodes[i].PrefillOps = 1e13
	}
	of := func(m scheduler.Model) scheduler.Plan {
		p, err := scheduler.Make(s, m)
		if err != nil {
			t.Fatal(err)
		}
		p, err = scheduler.Price(s, m, p.Stages)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	d, x := of(dense), of(mixed)
	if len(d.Stages) != 2 || len(x.Stages) != 2 {
		t.Errorf("%d and %d stages; want 2, as memory has it", len(d.Stages), len(x.Stages))
	}
	// 84 MB less at 1 GB/s; a second reply 24 MB, and its multiply-adds.
	if saved := d.TPOT - x.TPOT; (saved - 84*time.Millisecond).Abs() > time.Millisecond {
		t.Errorf("a token takes %v less; want 84ms", saved)
	}
	if more := x.Row - d.Row; (more - 24*time.Millisecond).Abs() > time.Millisecond {
		t.Errorf("a second reply takes %v more; want 24ms", more)
	}
}

func TestNoRoomSaysHowMuchIsMissingAndWhere(t *testing.T) {
	s := scheduler.Snapshot{Head: "a", Nodes: []scheduler.Node{node("a", 30e6, 1e9), {ID: "gpu", Name: "gpu", Excluded: "weft cannot compute on it yet"}, {ID: "n", Name: "new", MemFree: 1e9}}}
	_, err := scheduler.Make(s, model(12))
	var e *scheduler.NoRoomError
	if !errors.As(err, &e) {
		t.Fatalf("err %v", err)
	}
	for _, want := range []string{"are missing", "a has 30 MB", "weft cannot compute on it yet", "not measured yet"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	// Enough in all, but no piece holds a layer and its KV.
	var many []scheduler.Node
	for i := range 40 {
		many = append(many, node(fmt.Sprint("n", i), 12e6, 1e9))
	}
	if _, err := scheduler.Make(scheduler.Snapshot{Nodes: many}, model(12)); err == nil {
		t.Fatal("a plan over nodes that hold no embedding")
	}
}

func TestHostileShapesAreRefused(t *testing.T) {
	m := model(3)
	m.LayerBytes[1] = -5
	reads := func(read, more []int64) scheduler.Model {
		m := model(2)
		m.LayerReads, m.LayerMore = read, more
		return m
	}
	for name, m := range map[string]scheduler.Model{
		"reads of one layer": reads([]int64{5}, []int64{0}), "reads beyond the layer": reads([]int64{5, 6e6}, []int64{0, 5e6}),
		"nothing read": reads([]int64{5, 0}, []int64{0, 0}), "less for a second token": reads([]int64{5, 5}, []int64{-1, 0}),
	} {
		if _, err := scheduler.Make(scheduler.Snapshot{Nodes: []scheduler.Node{node("a", 1e9, 1e9)}}, m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, m := range map[string]scheduler.Model{"no layers": {Context: 1}, "negative layer": m, "no context": {LayerBytes: []int64{1}, LayerMacs: []int64{1}}} {
		if _, err := scheduler.Make(scheduler.Snapshot{}, m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := scheduler.Make(scheduler.Snapshot{Nodes: []scheduler.Node{{}}}, model(3)); err == nil {
		t.Error("node without id: accepted")
	}
}

// draw makes a random problem of at most so many nodes.
func draw(t *rapid.T, most int) (scheduler.Snapshot, scheduler.Model) {
	m := model(rapid.IntRange(1, 7).Draw(t, "layers"))
	m.Tied = rapid.Bool().Draw(t, "tied")
	s := scheduler.Snapshot{Head: "n0", Links: map[[2]string]scheduler.Link{}}
	s.Acceptance = rapid.SampledFrom([]float64{0, 0, 0.3, 0.7, 0.95, 1}).Draw(t, "acceptance")
	n := rapid.IntRange(1, most).Draw(t, "nodes")
	for i := range n {
		s.Nodes = append(s.Nodes, node(fmt.Sprint("n", i), int64(rapid.IntRange(0, 90).Draw(t, "mem"))*1e6, float64(rapid.IntRange(1, 30).Draw(t, "speed"))*1e9))
		s.Nodes[i].Sessions = rapid.IntRange(0, 2).Draw(t, "sessions")
		s.Nodes[i].Correction = rapid.SampledFrom([]float64{0, 1, 1.5, 4}).Draw(t, "correction")
		s.Nodes[i].Devices = drawDevices(t)
		s.Nodes[i].Layer = drawLayer(t)
		s.Nodes[i].FarBps = s.Nodes[i].DecodeBps * rapid.SampledFrom([]float64{0, 0, 0.3, 0.8, 2}).Draw(t, "far")
		for j := range i {
			s.Links[[2]string{fmt.Sprint("n", j), fmt.Sprint("n", i)}] = scheduler.Link{RTT: time.Duration(rapid.IntRange(0, 5000).Draw(t, "rtt")) * time.Microsecond, Bandwidth: 1e8}
		}
	}
	return s, m
}

// drawMixed gives a model experts now and then.
func drawMixed(t *rapid.T, m *scheduler.Model) {
	if rapid.Bool().Draw(t, "experts") {
		for range m.LayerBytes {
			read := rapid.Int64Range(1, 9e6).Draw(t, "read")
			m.LayerReads, m.LayerMore = append(m.LayerReads, read), append(m.LayerMore, rapid.Int64Range(0, 10e6-read).Draw(t, "more"))
		}
	}
}

// mix gives a model experts, in all layers alike.
func mix(m *scheduler.Model, read, more int64) {
	for range m.LayerBytes {
		m.LayerReads, m.LayerMore = append(m.LayerReads, read), append(m.LayerMore, more)
	}
}

// idle is what a token does not read of some layers.
func idle(m scheduler.Model, first, last int) (bytes int64) {
	for l := first; l <= last && m.LayerReads != nil; l++ {
		bytes += m.LayerBytes[l] - m.LayerReads[l]
	}
	return bytes
}

// exhaust finds the least TPOT by trying every order and every cut with the
// planner's own public numbers for each forced plan.
func exhaust(s scheduler.Snapshot, m scheduler.Model) (best time.Duration, found bool) {
	var try func(order []scheduler.Node, used int)
	try = func(order []scheduler.Node, used int) {
		if len(order) > 0 {
			cuts(len(m.LayerBytes), len(order), func(last []int) {
				if t, ok := price(s, m, order, last); ok && (!found || t < best) {
					best, found = t, true
				}
			})
		}
		for i, n := range s.Nodes {
			if used&(1<<i) == 0 {
				try(append(slices.Clone(order), n), used|1<<i)
			}
		}
	}
	try(nil, 0)
	return best, found
}

func cuts(layers, stages int, f func([]int)) {
	var rec func(last []int, from int)
	rec = func(last []int, from int) {
		if len(last) == stages-1 {
			if from < layers {
				f(append(slices.Clone(last), layers-1))
			}
			return
		}
		for e := from; e < layers-1; e++ {
			rec(append(last, e), e+1)
		}
	}
	rec(nil, 0)
}

// price is an independent cost of one plan: section 9 of the design.
func price(s scheduler.Snapshot, m scheduler.Model, order []scheduler.Node, last []int) (time.Duration, bool) {
	hop := func(a, b string, size float64) time.Duration {
		if a == b {
			return 0
		}
		l := s.Links[[2]string{min(a, b), max(a, b)}]
		return 60*time.Microsecond + l.RTT/2 + time.Duration(size/l.Bandwidth*1e9)
	}
	var total, slowest time.Duration
	prev, first := s.Head, 0
	for k, n := range order {
		bytes, read := int64(0), int64(0)
		for _, b := range m.LayerBytes[first : last[k]+1] {
			bytes += b
		}
		read = bytes - idle(m, first, last[k])
		end := last[k] == len(m.LayerBytes)-1
		if first == 0 {
			bytes += m.EmbedBytes
		}
		if end {
			bytes += m.HeadBytes
			read += m.HeadBytes
			if m.Tied {
				read += m.EmbedBytes
				if first > 0 {
					bytes += m.EmbedBytes
				}
			}
		}
		if n.MemFree == 0 || len(n.Devices) == 0 && bytes+m.StepBytes+int64(last[k]-first+1)*m.KVBytes*int64(m.Context) > n.MemFree {
			return 0, false
		}
		size := float64(m.HiddenBytes)
		if k == 0 {
			size = 64
		}
		read += int64(last[k]-first+1) * m.KVBytes * 256 // keys and values of a session
		n = reads(n, m)
		step := 50*time.Microsecond + time.Duration((float64(read)/n.DecodeBps*1e9+float64(n.Layer)*float64(last[k]-first+1))*slower(n))
		if len(n.Devices) > 0 {
			var ok bool
			if step, ok = priceDevices(m, n, first, last[k]); !ok {
				return 0, false
			}
		}
		total += hop(prev, n.ID, size) + step
		slowest = max(slowest, step)
		prev, first = n.ID, last[k]+1
	}
	total += hop(prev, s.Head, 64)
	return time.Duration((1-s.Acceptance)*float64(total) + s.Acceptance*float64(slowest)), true
}

func TestPlanIsWithinSlackOfExhaustiveSearchAndKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, m := draw(t, 4)
		drawMixed(t, &m)
		p, err := scheduler.Make(s, m)
		best, found := exhaust(s, m)
		if (err == nil) != found {
			t.Fatalf("planner: %v; exhaustive search found a plan: %v", err, found)
		}
		if err != nil {
			return
		}
		if float64(p.TPOT) > float64(best)*scheduler.Slack+float64(time.Microsecond) {
			t.Fatalf("TPOT %v, best %v: %+v", p.TPOT, best, p.Stages)
		}
		keeps(t, s, m, p)
	})
}

// keeps fails unless a plan covers each layer once within every node's memory.
func keeps(t rapid.TB, s scheduler.Snapshot, m scheduler.Model, p scheduler.Plan) {
	next := 0
	seen := map[string]bool{}
	for _, st := range p.Stages {
		if st.First != next || st.Last < st.First || seen[st.Node] {
			t.Fatalf("gap, overlap or a node twice: %+v", p.Stages)
		}
		next, seen[st.Node] = st.Last+1, true
		i := slices.IndexFunc(s.Nodes, func(n scheduler.Node) bool { return n.ID == st.Node })
		if len(s.Nodes[i].Devices) > 0 {
			keepsDevices(t, m, &s.Nodes[i], st.First, st.Last, st.KVPositions, st.Parts)
		} else if st.Bytes+st.KVBytes+m.StepBytes > s.Nodes[i].MemFree {
			t.Fatalf("%s is overcommitted: %+v in %d", st.Node, st, s.Nodes[i].MemFree)
		}
		if st.KVPositions < m.Context {
			t.Fatalf("%s has no room for a session: %+v", st.Node, st)
		}
	}
	if next != len(m.LayerBytes) {
		t.Fatalf("layers %d to %d are missing", next, len(m.LayerBytes)-1)
	}
}

func TestTheOrderOfTheRecordsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, m := draw(t, 4)
		a, errA := scheduler.Make(s, m)
		s.Nodes = slices.Clone(s.Nodes)
		rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed"))).Shuffle(len(s.Nodes), func(i, j int) { s.Nodes[i], s.Nodes[j] = s.Nodes[j], s.Nodes[i] })
		b, errB := scheduler.Make(s, m)
		if (errA == nil) != (errB == nil) {
			t.Fatalf("%v / %v", errA, errB)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestStagesCanBeForced(t *testing.T) {
	s := scheduler.Snapshot{Head: "a", Stages: 3, Nodes: []scheduler.Node{node("a", 1e9, 3e9), node("b", 1e9, 2e9), node("c", 1e9, 1e9), node("d", 1e9, 1e9)}}
	p, err := scheduler.Make(s, model(12))
	if err != nil || len(p.Stages) != 3 {
		t.Fatalf("%v %+v", err, p.Stages)
	}
}

func TestManySmallNodesHoldALargeModel(t *testing.T) {
	var s scheduler.Snapshot
	for i := range 50 {
		s.Nodes = append(s.Nodes, node(fmt.Sprintf("n%02d", i), int64(60+i)*1e6, float64(1+i%7)*1e9))
	}
	p, err := scheduler.Make(s, model(80))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Stages) < 8 {
		t.Fatalf("%d stages", len(p.Stages))
	}
}
