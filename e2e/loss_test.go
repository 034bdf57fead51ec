//go:build unix

package e2e_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestAStageThatDiesOrHangsIsNamedAndReplaced loses nodes in the middle of
// replies: first one that is killed, then one that stands still.
func TestAStageThatDiesOrHangsIsNamedAndReplaced(t *testing.T) {
	path := deep(t, 40)
	const third = "19MB"
	all := mesh(t, spec{name: "a", memory: third}, spec{name: "b", memory: third}, spec{name: "c", memory: third},
		spec{name: "d", memory: third}, spec{name: "e", memory: third}, spec{name: "head", memory: "0"})
	head, nodes := all[5], map[string]*daemon{}
	for _, d := range all[:5] {
		mustRun(t, d.home, "add", path, "--name", "m", "--ctx", "2048")
		nodes[d.name] = d
	}
	head.seesModel(t, "m")
	want, err := head.ask(t, "m", 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(want.Plan.Stages) != 3 {
		t.Fatalf("plan %+v", want.Plan)
	}
	plan := want.Plan
	for _, c := range []struct {
		what  string
		stage int
		lose  func(*daemon)
		limit time.Duration
	}{
		{"kill -9 of the last stage", 2, func(d *daemon) { d.kill() }, 2 * time.Second},
		{"a middle stage that stands still", 1, func(d *daemon) { d.signal(t, syscall.SIGSTOP) }, 3 * time.Second},
	} {
		victim := nodes[plan.Stages[c.stage].Name]
		var at time.Time
		_, err := head.ask(t, "m", 0, func() {
			at = time.Now()
			c.lose(victim)
		})
		took := time.Since(at)
		if kindOf(err) != "stage_lost" || !strings.Contains(err.Error(), "node "+victim.name+",") {
			t.Fatalf("%s (%s): the reply ended with %v", c.what, victim.name, err)
		}
		if took > c.limit {
			t.Errorf("%s was told after %v", c.what, took)
		}
		begin := time.Now()
		got, err := head.ask(t, "m", 10, nil)
		if err != nil {
			t.Fatalf("after %s: %v", c.what, err)
		}
		t.Logf("%s: told after %v, next reply complete after %v", c.what, took.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
		if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
			t.Errorf("after %s (-before +after):\n%s", c.what, diff)
		}
		if d := time.Since(begin); d > 8*time.Second {
			t.Errorf("after %s the next prompt took %v", c.what, d)
		}
		for _, st := range got.Plan.Stages {
			if st.Name == victim.name {
				t.Errorf("after %s the plan uses %s again", c.what, victim.name)
			}
		}
		plan = got.Plan
		delete(nodes, victim.name)
	}
	for _, d := range nodes {
		d.sees(t, 4)
		idle(t, d)
	}
	head.sees(t, 4)
	// The one that stood still goes on and is found again; the dead one is not.
	for _, d := range all[:5] {
		if nodes[d.name] == nil && !d.ended {
			d.signal(t, syscall.SIGCONT)
		}
	}
	head.sees(t, 5)
	if _, err := head.ask(t, "m", 4, nil); err != nil {
		t.Error(err)
	}
	idle(t, head)
}

func TestWithoutASpareANodeSaysWhatIsMissing(t *testing.T) {
	path := deep(t, 24)
	all, head := halves(t, "14MB")
	mustRun(t, all[0].home, "add", path, "--name", "m", "--ctx", "512")
	head.seesModel(t, "m")
	first, err := head.ask(t, "m", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	victim := all[0]
	if first.Plan.Stages[1].Name == "b" {
		victim = all[1]
	}
	if _, err := head.ask(t, "m", 0, victim.kill); kindOf(err) != "stage_lost" {
		t.Fatalf("%v", err)
	}
	out, errs, err := run(t, head.home, "run", "--raw", "-m", "m", "hello")
	if err == nil || !strings.Contains(errs, "are missing") || !strings.Contains(errs, "--memory") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
}
