package node_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

// twins is a mesh of two nodes that hold the whole model each and heads that
// compute nothing.
func twins(t *testing.T, context int, heads ...string) []api.Running {
	t.Helper()
	configs := []api.Config{{Name: "a", Memory: 1 << 30}, {Name: "b", Memory: 1 << 30}}
	for _, h := range heads {
		configs = append(configs, api.Config{Name: h, Memory: -1})
	}
	all := together(t, configs...)
	for _, r := range all[:2] {
		add(t, r, api.AddRequest{Path: tinyModels + copied, Name: "m", Context: context})
	}
	for _, head := range all[2:] {
		node.Steady(head)
		seeModel(t, head, "m")
		eventually(t, 15*time.Second, func() error {
			if n := node.Holders(head, "m"); n != 2 {
				return fmt.Errorf("%d nodes are known to hold the model", n)
			}
			return nil
		})
	}
	return all
}

const copied = "llama-Q4_0.gguf"

// question is the request of these tests.
func question() api.GenerateRequest { return greedy("m", sequence(8, 28), 60) }

// hold asks for replies that stay at their first token, and waits until they are
// there. let has them go on, and holds what they say against want.
func hold(t *testing.T, head api.Running, replies int, want api.Reply) (let func()) {
	t.Helper()
	var wg, begun sync.WaitGroup
	free := make(chan struct{})
	for range replies {
		begun.Add(1)
		wg.Go(func() {
			var once sync.Once
			got, err := head.Node().Generate(t.Context(), question(), func(e api.Event) error {
				if len(e.Tokens) > 0 {
					once.Do(begun.Done)
					<-free
				}
				return nil
			})
			once.Do(begun.Done)
			if diff := cmp.Diff(bytesIn(want), bytesIn(got)); err != nil || diff != "" {
				t.Errorf("%v (-alone +among others):\n%s", err, diff)
			}
		})
	}
	begun.Wait()
	return func() {
		close(free)
		wg.Wait()
	}
}

// fromElsewhere asks until a reply comes from another node than stood.
func fromElsewhere(t *testing.T, head api.Running, want api.Reply) {
	t.Helper()
	stood := want.Plan.Stages[0].Name
	eventually(t, 60*time.Second, func() error {
		got, err := generate(t, head, question())
		if err != nil {
			return err
		}
		if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
			t.Fatalf("(-alone +among others):\n%s", diff)
		}
		if on := got.Plan.Stages[0].Name; on == stood {
			return fmt.Errorf("the reply came from %s, which has others", on)
		}
		return nil
	})
}

// TestTwoNodesThatHoldAModelShareItsReplies gives the plan that stands much to
// do: the second node is made ready, takes its part, and says the same bytes.
func TestTwoNodesThatHoldAModelShareItsReplies(t *testing.T) {
	all := twins(t, 256, "head", "other")
	head, other := all[2], all[3]
	want, err := generate(t, head, question())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := generate(t, head, question()); err != nil || node.Copies(head) != 0 {
		t.Errorf("one reply after the other, and there are %d copies, %v", node.Copies(head), err)
	}
	let := hold(t, head, 7, want)
	fromElsewhere(t, head, want)
	shown(t, head)
	// Another head learns from records that the plan is busy and that there is a
	// copy, and makes no third one.
	fromElsewhere(t, other, want)
	for i, r := range all[:2] {
		if _, plans := node.Reserved(r); plans != 1 {
			t.Errorf("node %d has %d plans", i, plans)
		}
	}
	let()
	nothingLeft(t, all...)
	// A copy that rests is given back by whoever uses it last.
	node.RestCopies(head)
	if n := plansOf(all); node.Copies(head) != 0 || n != 2 {
		t.Errorf("the head has %d copies after they rested, and %d plans are left while another uses both", node.Copies(head), n)
	}
	node.Retire(other)
	if n := plansOf(all); n != 1 {
		t.Errorf("%d plans are left of the one that the head uses", n)
	}
}

// TestWeightsTravelToANodeThatSharesALoad has one node hold the model, and one that
// is free: while replies wait for each other the weights come to it, and its
// replies have the same bytes.
func TestWeightsTravelToANodeThatSharesALoad(t *testing.T) {
	all := together(t, api.Config{Name: "a", Memory: 1 << 30}, api.Config{Name: "head", Memory: -1})
	head := all[1]
	add(t, all[0], api.AddRequest{Path: tinyModels + copied, Name: "m", Context: 256})
	node.Steady(head)
	seeModel(t, head, "m")
	want, err := generate(t, head, question())
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, api.Config{Name: "b", Memory: 1 << 30, Join: invite(t, all[0], api.InviteRequest{})})
	see(t, 3, all[0], head, b)
	if _, err := generate(t, head, question()); err != nil || node.Copies(head) != 0 {
		t.Errorf("one reply after the other, and there are %d copies, %v", node.Copies(head), err)
	}
	let := hold(t, head, 7, want)
	fromElsewhere(t, head, want)
	eventually(t, 15*time.Second, func() error {
		if n := node.Holders(head, "m"); n != 2 {
			return fmt.Errorf("%d nodes are known to hold the model", n)
		}
		return nil
	})
	let()
	nothingLeft(t, all[0], head, b)
}

// plansOf counts the plans that nodes take part in.
func plansOf(nodes []api.Running) int {
	plans := 0
	for _, r := range nodes {
		_, n := node.Reserved(r)
		plans += n
	}
	return plans
}

// shown holds what people see against a copy that is there.
func shown(t *testing.T, head api.Running) {
	t.Helper()
	plan, err := head.Node().Plan(t.Context(), api.PlanRequest{Model: "m"}, func(api.Progress) {})
	if err != nil || len(plan.Copies) != 1 || plan.Copies[0].State != "ready" || plan.Copies[0].TPOTms <= 0 || len(plan.Copies[0].Stages) != 1 {
		t.Fatalf("the plan shows %+v %v", plan, err)
	}
	if on := plan.Copies[0].Stages[0].Name; on == plan.Stages[0].Name || on != "a" && on != "b" {
		t.Errorf("the copy is on %s, the plan on %s", on, plan.Stages[0].Name)
	}
	s, err := head.Node().Status(t.Context())
	if err != nil || len(s.Plans) != 2 || s.Plans[0].Copy == s.Plans[1].Copy || len(s.Plans[0].Nodes) != 1 {
		t.Errorf("the status shows %+v %v", s.Plans, err)
	}
	metrics, err := head.Node().WriteMetrics(t.Context())
	if err != nil || !strings.Contains(string(metrics), `kind="copy",model="m"`) || !strings.Contains(string(metrics), `kind="plan",model="m"`) {
		t.Errorf("the metrics lack the copy: %v\n%s", err, metrics)
	}
}

// TestACopyTakesOverFromAPlanThatIsLost ends the plan that stands under replies:
// they go on over the copy, which is the plan from then on.
func TestACopyTakesOverFromAPlanThatIsLost(t *testing.T) {
	all := twins(t, 256, "head")
	head := all[2]
	want, err := generate(t, head, question())
	if err != nil {
		t.Fatal(err)
	}
	let := hold(t, head, 7, want)
	fromElsewhere(t, head, want)
	stood := want.Plan.Stages[0].Name
	_ = node.Crash(running(t, all, stood))
	let()
	next, err := generate(t, head, question())
	if err != nil || next.Plan.Stages[0].Name == stood || node.Copies(head) != 0 {
		t.Errorf("after the loss of %s: %+v %v, %d copies", stood, next.Plan, err, node.Copies(head))
	}
	nothingLeft(t, head)
}

// TestAReplyThatWaitsForRoomGoesToACopy fills a plan that has KV for one reply and
// keeps it full.
func TestAReplyThatWaitsForRoomGoesToACopy(t *testing.T) {
	head := twins(t, 96, "head")[2]
	node.Narrow(head, 96) // one reply of 88 positions takes all six blocks of KV
	want, err := generate(t, head, question())
	if err != nil {
		t.Fatal(err)
	}
	let := hold(t, head, 1, want)
	waited := false
	got, err := head.Node().Generate(t.Context(), question(), func(e api.Event) error {
		waited = waited || e.Progress != nil && e.Progress.Phase == "queue"
		return nil
	})
	if diff := cmp.Diff(bytesIn(want), bytesIn(got)); err != nil || diff != "" || !waited {
		t.Errorf("%v, waited: %v (-alone +after the wait):\n%s", err, waited, diff)
	}
	if got.Plan.Stages[0].Name == want.Plan.Stages[0].Name {
		t.Errorf("it came from %s, which was full", got.Plan.Stages[0].Name)
	}
	let()
}
