package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/scheduler"
)

// TestTheSearchIsCloseToExhaustiveSearch forces the search that is meant for
// many nodes on problems small enough to try everything. They are the same at
// every run: the search promises good plans, not the best one.
func TestTheSearchIsCloseToExhaustiveSearch(t *testing.T) {
	type problem struct {
		s scheduler.Snapshot
		m scheduler.Model
	}
	problems := rapid.Custom(func(t *rapid.T) problem {
		s, m := draw(t, 5)
		return problem{s, m}
	})
	for name, change := range map[string]func(m *scheduler.Model){
		"dense": func(*scheduler.Model) {}, "experts": func(m *scheduler.Model) { mix(m, 3e6, 2e6) },
	} {
		tried, exact, worst := 0, 0, 1.0
		for seed := range 600 {
			x := problems.Example(seed)
			change(&x.m)
			p, err := scheduler.Search(x.s, x.m)
			best, found := exhaust(x.s, x.m)
			if (err == nil) != found {
				t.Fatalf("problem %d: the search says %v; exhaustive search found a plan: %v", seed, err, found)
			}
			if err != nil {
				continue
			}
			keeps(t, x.s, x.m, p)
			tried++
			if float64(p.TPOT) <= float64(best)*scheduler.Slack+float64(time.Microsecond) {
				exact++
			}
			worst = max(worst, float64(p.TPOT)/float64(best))
		}
		t.Logf("%s: %d of %d plans are within the slack of the best; the worst takes %.2f of it", name, exact, tried, worst)
		if tried < 200 || exact*100 < tried*98 || worst > 1.5 {
			t.Errorf("%s: %d of %d plans are within the slack of the best; the worst takes %.2f of it", name, exact, tried, worst)
		}
	}
}

// large is a mesh of n nodes in sites of ten: fast links within, slow ones
// between, and a model of 126 layers that needs a few of them.
func large(n int) (scheduler.Snapshot, scheduler.Model) {
	rng := rand.New(rand.NewPCG(7, 7))
	s := scheduler.Snapshot{Head: "12D3KooWnode-0000", Links: map[[2]string]scheduler.Link{}}
	id := func(i int) string { return fmt.Sprintf("12D3KooWnode-%04d", i) }
	for i := range n {
		s.Nodes = append(s.Nodes, scheduler.Node{
			ID: id(i), Name: fmt.Sprint("n", i), MemFree: int64(8+rng.IntN(57)) << 30, DecodeBps: float64(10+rng.IntN(90)) * 1e9, PrefillOps: float64(50+rng.IntN(950)) * 1e9,
		})
		for j := range i {
			switch {
			case i/10 == j/10:
				s.Links[[2]string{id(j), id(i)}] = scheduler.Link{RTT: time.Duration(100+rng.IntN(400)) * time.Microsecond, Bandwidth: 1e8}
			case j < 10 || rng.IntN(50) == 0: // others were not measured
				s.Links[[2]string{id(j), id(i)}] = scheduler.Link{RTT: time.Duration(8+rng.IntN(40)) * time.Millisecond, Bandwidth: 5e6}
			}
		}
	}
	m := scheduler.Model{Name: "405b", EmbedBytes: 1 << 30, HeadBytes: 2 << 30, KVBytes: 4096, StepBytes: 512 << 20, HiddenBytes: 64 << 10, Context: 8192}
	for range 126 {
		m.LayerBytes = append(m.LayerBytes, 1800e6)
		m.LayerMacs = append(m.LayerMacs, 3200e6)
	}
	return s, m
}

// TestAThousandNodesArePlannedInTime bounds the time generously: the machine may
// be busy. The benchmark has the figure.
func TestAThousandNodesArePlannedInTime(t *testing.T) {
	s, m := large(1000)
	begin := time.Now()
	p, err := scheduler.Make(s, m)
	took := time.Since(begin)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v, %d stages, TPOT %v", took, len(p.Stages), p.TPOT)
	if took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	// No site alone has a better plan.
	for site := 0; site < 100; site += 9 {
		in := s
		in.Nodes = s.Nodes[10*site : 10*site+10]
		if q, err := scheduler.Make(in, m); err == nil && float64(q.TPOT)*scheduler.Slack < float64(p.TPOT) {
			t.Errorf("the plan takes %v a token, one in site %d %v: %+v", p.TPOT, site, q.TPOT, p.Stages)
		}
	}
	slices.Reverse(s.Nodes)
	again, err := scheduler.Make(s, m)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, again); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyAClearGainIsWorthASplit(t *testing.T) {
	link := scheduler.Link{RTT: 20 * time.Microsecond, Bandwidth: 1e10}
	for _, c := range []struct {
		slow   float64 // of the one that holds everything, beside two fast ones
		stages int
	}{{19.7e9, 1}, {10e9, 2}} {
		s := scheduler.Snapshot{Head: "big", Links: map[[2]string]scheduler.Link{}, Nodes: []scheduler.Node{node("big", 1e9, c.slow), node("x", 100e6, 20e9), node("y", 100e6, 20e9)}}
		for _, p := range [][2]string{{"big", "x"}, {"big", "y"}, {"x", "y"}} {
			s.Links[p] = link
		}
		p, err := scheduler.Make(s, model(12))
		if err != nil || len(p.Stages) != c.stages {
			t.Errorf("beside a node of %v: %v %+v", c.slow, err, p.Stages)
		}
	}
}

func TestAcceptedDraftsMakeTheSlowestStageCount(t *testing.T) {
	s := scheduler.Snapshot{Head: "a", Links: map[[2]string]scheduler.Link{{"a", "b"}: {RTT: 2 * time.Millisecond, Bandwidth: 1e8}}, Nodes: []scheduler.Node{node("a", 1e9, 10e9), node("b", 1e9, 10e9)}}
	for _, c := range []struct {
		acceptance float64
		stages     int
	}{{0, 1}, {0.3, 1}, {0.9, 2}, {1, 2}} {
		s.Acceptance = c.acceptance
		p, err := scheduler.Make(s, model(12))
		if err != nil || len(p.Stages) != c.stages {
			t.Errorf("at %v: %v %+v", c.acceptance, err, p.Stages)
		}
	}
	s.Acceptance = 1.2
	if _, err := scheduler.Make(s, model(12)); err == nil {
		t.Error("an acceptance rate of 1.2 is accepted")
	}
}

func TestANodeThatIsSlowerThanItSaysGetsLess(t *testing.T) {
	s := scheduler.Snapshot{Head: "head", Nodes: []scheduler.Node{node("a", 100e6, 20e9), node("b", 120e6, 20e9)}}
	layers := func() int {
		p, err := scheduler.Make(s, model(12))
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range p.Stages {
			if st.Node == "b" {
				return st.Last - st.First + 1
			}
		}
		return 0
	}
	before := layers()
	s.Nodes[1].Correction = 5
	if after := layers(); after >= before {
		t.Errorf("it gets %d layers after %d", after, before)
	}
}

func BenchmarkMakeThousandNodes(b *testing.B) {
	s, m := large(1000)
	for b.Loop() {
		if _, err := scheduler.Make(s, m); err != nil {
			b.Fatal(err)
		}
	}
}
