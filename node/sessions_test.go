package node_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

func TestAChatsNextTurnComputesOnlyWhatIsNew(t *testing.T) {
	all, head, m := split(t, 2)
	prompt := sequence(5, 30)
	first, err := generate(t, head, greedy(m, prompt, 20))
	if err != nil {
		t.Fatal(err)
	}
	turn := append(slices.Concat(prompt, first.Tokens), sequence(6, 9)...)
	second, err := generate(t, head, greedy(m, turn, 8))
	if err != nil {
		t.Fatal(err)
	}
	// Of 49 computed positions the whole blocks of 16 stay.
	if second.Cached != 48 {
		t.Errorf("%d tokens of the first turn were used again, not 48", second.Cached)
	}
	cold := greedy(m, turn, 8)
	cold.NoPrefix = true
	want, err := generate(t, head, cold)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bytesIn(want), bytesIn(second)); diff != "" || want.Cached != 0 {
		t.Errorf("%d cached (-cold +warm):\n%s", want.Cached, diff)
	}
	nothingLeft(t, all...)
}

func TestTenantsDoNotSeeEachOthersPrefixes(t *testing.T) {
	all, head, m := split(t, 2)
	for _, c := range []struct {
		tenant string
		cached int
	}{{"aa", 0}, {"bb", 0}, {"aa", 32}, {"", 0}, {"bb", 32}, {"a tenant whose name is no hexadecimal number", 0}} {
		q := greedy(m, sequence(7, 40), 3)
		q.Tenant = c.tenant
		rep, err := generate(t, head, q)
		if err != nil {
			t.Fatal(err)
		}
		if rep.Cached != c.cached {
			t.Errorf("tenant %q finds %d tokens, not %d", c.tenant, rep.Cached, c.cached)
		}
	}
	nothingLeft(t, all...)
}

func TestRepliesBeyondTheKVWaitAndAreAllAnswered(t *testing.T) {
	nodes := together(t, api.Config{Name: "a", Memory: 1 << 30}, api.Config{Name: "b", Memory: 1 << 30})
	m := add(t, nodes[0], api.AddRequest{Path: tinyModels + "llama-Q4_0.gguf", Name: "m", Context: 256})
	seeModel(t, nodes[1], "m")
	head := nodes[1]
	// KV for two replies of 128 positions.
	node.Cut(head, 256, []node.Piece{{Node: "a", Layers: 1}, {Node: "b", Layers: 1}})
	want, err := generate(t, head, greedy(m.Name, sequence(8, 28), 100))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	waited := 0
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			queued := 0
			got, err := head.Node().Generate(t.Context(), greedy(m.Name, sequence(8, 28), 100), func(e api.Event) error {
				if e.Progress != nil && e.Progress.Phase == "queue" {
					queued++
				}
				return nil
			})
			if err != nil {
				t.Error(err)
				return
			}
			if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
				t.Errorf("(-alone +in the crowd):\n%s", diff)
			}
			if queued > 1 {
				t.Errorf("it was said %d times that a reply waits", queued)
			}
			if queued > 0 {
				mu.Lock()
				defer mu.Unlock()
				waited++
			}
		})
	}
	wg.Wait()
	if waited == 0 {
		t.Error("nobody had to wait")
	}
	// One that is cancelled while it waits leaves nothing, either.
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		wg.Go(func() { _, _ = generateIn(t, ctx, head, longReply("m")) })
	}
	rep, err := head.Node().Generate(ctx, longReply("m"), func(e api.Event) error {
		if e.Progress != nil && e.Progress.Phase == "queue" {
			cancel()
		}
		return nil
	})
	if err == nil && rep.FinishReason != "cancelled" && rep.FinishReason != "length" {
		t.Errorf("%+v", rep)
	}
	cancel()
	wg.Wait()
	nothingLeft(t, nodes...)
}

func TestAHeadReplacesAnothersPlanThatLostAStage(t *testing.T) {
	all, head, m := split(t, 3)
	want, err := generate(t, head, greedy(m, sequence(4, 20), 8))
	if err != nil {
		t.Fatal(err)
	}
	first, last := want.Plan.Stages[0].Name, want.Plan.Stages[1].Name
	other := running(t, all, first) // takes part in the plan, and asks for itself
	rep, err := generate(t, other, greedy(m, sequence(4, 20), 8))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Plan, rep.Plan); diff != "" {
		t.Errorf("the plan was not taken over:\n%s", diff)
	}
	rep, _, err = slowly(t, t.Context(), other, longReply(m), func() { _ = node.Crash(running(t, all, last)) })
	if err != nil || rep.Failovers != 1 {
		t.Fatalf("a crash of %s gives %v, %d failovers", last, err, rep.Failovers)
	}
	begin := time.Now()
	got, err := generate(t, other, greedy(m, sequence(4, 20), 8))
	if err != nil {
		t.Fatalf("after %v: %v", time.Since(begin), err)
	}
	if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if d := time.Since(begin); d > 8*time.Second {
		t.Errorf("the next prompt took %v", d)
	}
	if got, err = generate(t, head, greedy(m, sequence(4, 20), 8)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
		t.Errorf("at the first head (-before +after):\n%s", diff)
	}
	nothingLeft(t, other, head)
}
