package node_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

// split starts nodes a, b, … that each offer one half of a model of two
// layers, and a head without weights, and adds the model to a.
func split(t *testing.T, halves int) (all []api.Running, head api.Running, model string) {
	t.Helper()
	path := tinyModels + "llama-Q4_0.gguf"
	solo := start(t, api.Config{Name: "solo", Solo: true})
	add(t, solo, api.AddRequest{Path: path, Name: "m", Context: 256})
	half, err := node.SplitMemory(solo, "m", 1)
	if err != nil {
		t.Fatal(err)
	}
	var configs []api.Config
	for i := range halves {
		configs = append(configs, api.Config{Name: string(rune('a' + i)), Memory: half})
	}
	all = together(t, append(configs, api.Config{Name: "head", Memory: -1})...)
	head = all[halves]
	for _, r := range all[:halves] { // so that no node's end takes the weights away
		add(t, r, api.AddRequest{Path: path, Name: "m", Context: 256})
	}
	seeModel(t, head, "m")
	return all, head, "m"
}

// long is a reply that goes on until its context is full.
func longReply(model string) api.GenerateRequest {
	r := greedy(model, sequence(4, 20), 0)
	return r
}

// slowly asks for a long reply and calls then once a few tokens have come; it
// gives what Generate gave and how long that took after then.
func slowly(t *testing.T, ctx context.Context, r api.Running, q api.GenerateRequest, then func()) (api.Reply, time.Duration, error) {
	t.Helper()
	return slowlyWith(t, ctx, r, q, then, func(api.Event) {})
}

// slowlyWith is slowly that shows every event to see.
func slowlyWith(t *testing.T, ctx context.Context, r api.Running, q api.GenerateRequest, then func(), see func(api.Event)) (api.Reply, time.Duration, error) {
	t.Helper()
	var once sync.Once
	var at time.Time
	seen := 0
	rep, err := r.Node().Generate(ctx, q, func(e api.Event) error {
		see(e)
		if seen += len(e.Tokens); seen >= 3 {
			once.Do(func() {
				at = time.Now()
				then()
			})
		}
		if seen > 0 {
			time.Sleep(5 * time.Millisecond) // a slow reader: the reply is still going on when it happens
		}
		return nil
	})
	if at.IsZero() {
		t.Fatalf("the reply ended before it had begun: %+v %v", rep, err)
	}
	return rep, time.Since(at), err
}

func running(t *testing.T, all []api.Running, name string) api.Running {
	t.Helper()
	for _, r := range all {
		s, err := r.Node().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Name == name {
			return r
		}
	}
	t.Fatalf("no node %s", name)
	return nil
}

func kindOf(err error) api.Kind {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

func TestWithoutASpareTheReplyEndsAndSaysWhoWasLostAndWhatIsMissing(t *testing.T) {
	all, head, m := split(t, 2)
	first, err := generate(t, head, greedy(m, sequence(4, 20), 4))
	if err != nil {
		t.Fatal(err)
	}
	name, left := first.Plan.Stages[1].Name, first.Plan.Stages[0].Name
	_, took, err := slowly(t, t.Context(), head, longReply(m), func() { _ = node.Crash(running(t, all, name)) })
	if kindOf(err) != api.KindStageLost {
		t.Fatalf("a crash of %s gives %v", name, err)
	}
	if took > 20*time.Second {
		t.Errorf("it was said after %v", took)
	}
	for _, part := range []string{"node " + name, "missing", left + " has", "--memory"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	_, err = generate(t, head, greedy(m, sequence(4, 20), 4))
	if kindOf(err) != api.KindNoCapacity || !strings.Contains(err.Error(), "missing") {
		t.Errorf("the next prompt gives %v", err)
	}
}

func TestAReplyGoesOnWhenAStageIsClosed(t *testing.T) {
	all, head, m := split(t, 3)
	q := greedy(m, sequence(4, 20), 100)
	want, err := generate(t, head, q)
	if err != nil {
		t.Fatal(err)
	}
	victim := running(t, all, want.Plan.Stages[1].Name)
	closed := make(chan error, 1)
	got, _, err := slowly(t, t.Context(), head, q, func() { go func() { closed <- victim.Close() }() })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
		t.Errorf("(-undisturbed +here):\n%s", diff)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := generate(t, head, greedy(m, sequence(4, 20), 4)); err != nil {
		t.Errorf("the next prompt: %v", err)
	}
}

func TestAHeadThatDiesLeavesNothingAtItsStages(t *testing.T) {
	all, head, m := split(t, 2)
	_, _, err := slowly(t, t.Context(), head, longReply(m), func() { _ = node.Crash(head) })
	if err == nil {
		t.Error("the reply of a head without network ended well")
	}
	nothingLeft(t, all[:2]...)
	// Another head takes the plan over or makes its own.
	if _, err := generate(t, all[0], greedy(m, sequence(4, 20), 4)); err != nil {
		t.Errorf("the next prompt elsewhere: %v", err)
	}
}

func TestClosingTheHeadMidReplyEndsTheReply(t *testing.T) {
	all, head, m := split(t, 2)
	closed := make(chan error, 1)
	_, took, err := slowly(t, t.Context(), head, longReply(m), func() { go func() { closed <- head.Close() }() })
	if kindOf(err) != api.KindUnavailable || !strings.Contains(err.Error(), "shutting down") {
		t.Errorf("the reply ended with %v", err)
	}
	if took > 5*time.Second {
		t.Errorf("it ended after %v", took)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	nothingLeft(t, all[:2]...)
}

func TestACancelledReplyFreesItsKV(t *testing.T) {
	all, head, m := split(t, 2)
	for i := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		rep, took, err := slowly(t, ctx, head, longReply(m), cancel)
		if err != nil || rep.FinishReason != "cancelled" {
			t.Fatalf("cancelled reply %d: %+v %v", i, rep.FinishReason, err)
		}
		if len(rep.Tokens) < 3 || took > time.Second {
			t.Errorf("%d tokens, ended after %v", len(rep.Tokens), took)
		}
		nothingLeft(t, all...)
	}
	// A caller whose writing fails cancels as well.
	seen := 0
	rep, err := head.Node().Generate(t.Context(), longReply(m), func(e api.Event) error {
		if seen += len(e.Tokens); seen > 2 {
			return errors.New("the client hung up")
		}
		return nil
	})
	t.Log(rep.FinishReason, err)
	nothingLeft(t, all...)
	if _, err := generate(t, head, greedy(m, sequence(4, 20), 4)); err != nil {
		t.Fatal(err)
	}
}

func TestTwoHeadsThatAskAtOnceShareOneGeneration(t *testing.T) {
	all, _, m := split(t, 4)
	seeModel(t, all[1], m)
	replies := make([]api.Reply, len(all))
	var wg sync.WaitGroup
	for i, r := range all {
		seeModel(t, r, m)
		wg.Go(func() {
			var err error
			if replies[i], err = generate(t, r, greedy(m, sequence(4, 20), 6)); err != nil {
				t.Errorf("head %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i, r := range replies[1:] {
		if diff := cmp.Diff(bytesIn(replies[0]), bytesIn(r)); diff != "" {
			t.Errorf("heads 0 and %d:\n%s", i+1, diff)
		}
	}
	// The nodes that are left may have a copy by now: five replies are a lot for one plan.
	first, stages := "", 0
	for i, r := range all {
		plans := node.StandingPlans(r)
		stages += len(plans)
		if plan := node.StandingPlan(r); plan != "" {
			plans = append(plans, plan)
		}
		for _, plan := range plans {
			if first == "" {
				first = plan
			}
			if plan != first {
				t.Errorf("node %d has to do with plan %s, one before it with plan %s", i, plan, first)
			}
		}
	}
	if stages != len(replies[0].Plan.Stages) {
		t.Errorf("%d stages are held, the plan has %d", stages, len(replies[0].Plan.Stages))
	}
	nothingLeft(t, all...)
}

func TestTwoModelsAreServedSideBySide(t *testing.T) {
	nodes := together(t, api.Config{Name: "a", Memory: 1 << 30}, api.Config{Name: "b", Memory: 1 << 30})
	files := map[string]string{"one": "llama-Q4_0", "two": "qwen3-Q4_K_M"}
	want := map[string]api.Reply{}
	solo := start(t, api.Config{Name: "solo", Solo: true})
	for name, file := range files {
		q := api.AddRequest{Path: tinyModels + file + ".gguf", Name: name, Context: 128}
		add(t, nodes[0], q)
		add(t, solo, q)
		seeModel(t, nodes[1], name)
		var err error
		if want[name], err = generate(t, solo, greedy(name, sequence(6, 20), 8)); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for name := range files {
		for _, r := range nodes {
			wg.Go(func() {
				got, err := generate(t, r, greedy(name, sequence(6, 20), 8))
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				if diff := cmp.Diff(bytesIn(want[name]), bytesIn(got)); diff != "" {
					t.Errorf("%s (-solo +mesh):\n%s", name, diff)
				}
			})
		}
	}
	wg.Wait()
	_, err := generate(t, nodes[1], greedy("", sequence(6, 20), 8))
	t.Log("no name:", err)
	nothingLeft(t, append(nodes, solo)...)
}

func TestNoNodeWithEnoughMemorySaysHowMuchIsMissing(t *testing.T) {
	nodes := together(t, api.Config{Name: "a", Memory: 300 << 10}, api.Config{Name: "head", Memory: -1})
	m := add(t, nodes[0], api.AddRequest{Path: tinyModels + "llama-Q4_0.gguf", Context: 256})
	seeModel(t, nodes[1], m.Name)
	begin := time.Now()
	_, err := generate(t, nodes[1], greedy(m.Name, sequence(4, 20), 4))
	if kindOf(err) != api.KindNoCapacity {
		t.Fatalf("%v", err)
	}
	for _, part := range []string{"are missing", "a is not used", "head", "--memory"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("said after %v", d)
	}
	if _, err := nodes[1].Node().Plan(t.Context(), api.PlanRequest{Model: m.Name}, func(api.Progress) {}); kindOf(err) != api.KindNoCapacity {
		t.Errorf("weft plan says %v", err)
	}
}

func TestAFullContextEndsTheReplyAndSaysSo(t *testing.T) {
	solo := start(t, api.Config{Name: "solo", Solo: true})
	m := add(t, solo, api.AddRequest{Path: tinyModels + "llama-Q4_0.gguf", Context: 48})
	rep, err := generate(t, solo, greedy(m.Name, sequence(1, 20), 0))
	if err != nil {
		t.Fatal(err)
	}
	if rep.FinishReason != "length" || !strings.Contains(rep.FinishDetail, "context of 48") || len(rep.Tokens) != 28 {
		t.Errorf("%d tokens, %s: %q", len(rep.Tokens), rep.FinishReason, rep.FinishDetail)
	}
	for _, n := range []int{48, 49, 4000} {
		_, err := generate(t, solo, greedy(m.Name, sequence(1, n), 1))
		if kindOf(err) != api.KindTooLarge || !strings.Contains(err.Error(), fmt.Sprintf("the prompt has %d tokens", n)) {
			t.Errorf("a prompt of %d gives %v", n, err)
		}
	}
	// One place is left for one token.
	rep, err = generate(t, solo, greedy(m.Name, sequence(1, 47), 0))
	if err != nil || len(rep.Tokens) != 1 || rep.FinishReason != "length" {
		t.Errorf("%+v %v", rep, err)
	}
	nothingLeft(t, solo)
}
