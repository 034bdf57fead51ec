package node_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

// oneModel starts a node whose offer holds one of the two models a and b that
// it has, but not both.
func oneModel(t *testing.T) api.Running {
	t.Helper()
	path := tinyModels + "llama-Q4_0.gguf"
	solo := start(t, api.Config{Name: "solo", Solo: true})
	add(t, solo, api.AddRequest{Path: path, Name: "a", Context: 256})
	whole, err := node.SplitMemory(solo, "a", 2)
	if err != nil {
		t.Fatal(err)
	}
	r := together(t, api.Config{Name: "n", Memory: whole})[0]
	add(t, r, api.AddRequest{Path: path, Name: "a", Context: 256})
	add(t, r, api.AddRequest{Path: path, Name: "b", Context: 240})
	return r
}

func TestAnIdleModelGivesWayToAnother(t *testing.T) {
	r := oneModel(t)
	var first api.Reply
	for i, name := range []string{"a", "b", "a"} {
		got, err := generate(t, r, greedy(name, sequence(4, 20), 4))
		if err != nil {
			t.Fatalf("prompt %d, to %s: %v", i, name, err)
		}
		if i == 0 {
			first = got
		} else if diff := cmp.Diff(first.Tokens, got.Tokens); diff != "" {
			t.Errorf("prompt %d (-first +this):\n%s", i, diff)
		}
		if _, plans := node.Reserved(r); plans != 1 {
			t.Errorf("%d plans are held after prompt %d", plans, i)
		}
		time.Sleep(1100 * time.Millisecond) // it counts as idle only then
	}
	nothingLeft(t, r)
}

func TestAModelInUseDoesNotGiveWay(t *testing.T) {
	r := oneModel(t)
	ctx, cancel := context.WithCancel(t.Context())
	rep, _, err := slowly(t, ctx, r, longReply("a"), func() {
		time.Sleep(1100 * time.Millisecond)
		if _, err := generate(t, r, greedy("b", sequence(4, 20), 4)); kindOf(err) != api.KindNoCapacity {
			t.Errorf("beside a running reply: %v", err)
		}
		cancel()
	})
	if err != nil || rep.FinishReason != "cancelled" {
		t.Errorf("the reply that ran: %s %v", rep.FinishReason, err)
	}
	nothingLeft(t, r)
}

func TestALossFreesTheSurvivorsBeforeTheNextPrompt(t *testing.T) {
	all, head, m := split(t, 2)
	first, err := generate(t, head, greedy(m, sequence(4, 20), 4))
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Crash(running(t, all, first.Plan.Stages[1].Name)); err != nil {
		t.Error(err)
	}
	left := running(t, all, first.Plan.Stages[0].Name)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, plans := node.Reserved(left); plans == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the survivor still holds its part of a broken plan")
		}
	}
}
