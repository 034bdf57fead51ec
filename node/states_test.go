package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

// states gives a model's state as each node sees it.
func states(t *testing.T, model string, nodes ...api.Running) []string {
	t.Helper()
	var out []string
	for _, r := range nodes {
		list, err := r.Node().Models(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		state := "not there"
		for _, m := range list {
			if m.Name == model {
				state = m.State
			}
		}
		out = append(out, state)
	}
	return out
}

func allSee(t *testing.T, model, want string, nodes ...api.Running) {
	t.Helper()
	eventually(t, 15*time.Second, func() error {
		for _, s := range states(t, model, nodes...) {
			if !strings.HasPrefix(s, want) || want == "" && s != "" {
				return fmt.Errorf("the nodes see %q, not %q", states(t, model, nodes...), want)
			}
		}
		return nil
	})
}

// TestEveryNodeSeesHowReadyAModelIs asks all nodes for a model's state: before it
// is planned, when it is ready, and when it cannot be planned any more.
func TestEveryNodeSeesHowReadyAModelIs(t *testing.T) {
	all, head, m := split(t, 2)
	allSee(t, m, "", all...)
	rep, err := generate(t, head, greedy(m, sequence(4, 20), 4))
	if err != nil {
		t.Fatal(err)
	}
	allSee(t, m, "ready", all...)
	// A node that heads no plan shows the one that stands.
	for _, r := range all {
		p, err := r.Node().Plan(t.Context(), api.PlanRequest{Model: m}, func(api.Progress) {})
		if err != nil {
			t.Fatal(err)
		}
		if p.State != "ready" || p.Generation != rep.Plan.Generation || len(p.Stages) != 2 {
			t.Errorf("the plan is %+v", p)
		}
	}
	name := rep.Plan.Stages[0].Name
	_ = node.Crash(running(t, all, name))
	if _, err := generate(t, head, greedy(m, sequence(4, 20), 4)); err == nil {
		t.Fatal("half of the nodes gave a reply")
	}
	var left []api.Running
	for _, r := range all {
		if s, _ := r.Node().Status(t.Context()); s.Name != name {
			left = append(left, r)
		}
	}
	allSee(t, m, "degraded: ", left...)
	s, err := head.Node().Status(t.Context())
	if err != nil || len(s.Plans) != 1 || !strings.HasPrefix(s.Plans[0].State, "degraded: ") {
		t.Errorf("the head's status has %+v %v", s.Plans, err)
	}
}
