//go:build unix

package e2e_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
)

// lossAsks are the kinds of replies that lose a stage.
var lossAsks = []struct {
	name string
	set  func(*api.GenerateRequest)
}{
	{"greedy", func(*api.GenerateRequest) {}},
	{"seeded and penalised", func(r *api.GenerateRequest) {
		seed, temp, p := uint64(7), 1.2, 0.95
		r.Seed, r.Temperature, r.TopP = &seed, &temp, &p
		r.RepeatPenalty, r.FrequencyPenalty, r.PresencePenalty = 1.2, 0.3, 0.2
	}},
	{"with log-probabilities", func(r *api.GenerateRequest) {
		seed, temp := uint64(8), 0.9
		r.Seed, r.Temperature, r.Logprobs = &seed, &temp, 3
	}},
}

// TestAReplySurvivesWhateverStageDiesOrHangs kills, and stops, each stage of a
// plan of three in the middle of replies, which must be those of a node alone.
func TestAReplySurvivesWhateverStageDiesOrHangs(t *testing.T) {
	path := deep(t, 40)
	alone := up(t, "alone", home(t))
	mustRun(t, alone.home, "add", path, "--name", "m", "--ctx", "2048")
	const tokens = 150
	var want []api.Reply
	for _, a := range lossAsks {
		r, err := alone.askLike(t, "m", tokens, a.set, nil)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, r)
	}

	const third = "19MB"
	all := mesh(t, spec{name: "a", memory: third}, spec{name: "b", memory: third}, spec{name: "c", memory: third},
		spec{name: "d", memory: third}, spec{name: "e", memory: third}, spec{name: "f", memory: third}, spec{name: "head", memory: "0"})
	head, live := all[6], len(all)
	for _, d := range all[:6] {
		mustRun(t, d.home, "add", path, "--name", "m", "--ctx", "2048")
	}
	head.seesModel(t, "m")
	for stage := range 3 {
		for _, hang := range []bool{true, false} {
			plan, err := head.ask(t, "m", 2, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(plan.Plan.Stages) != 3 {
				t.Fatalf("plan %+v", plan.Plan)
			}
			name := plan.Plan.Stages[stage].Name
			i := slices.IndexFunc(all, func(d *daemon) bool { return d.name == name })
			what, lose := "kill -9 of", func() { all[i].kill() }
			if hang {
				what, lose = "standstill of", func() { all[i].signal(t, syscall.SIGSTOP) }
			}
			what = fmt.Sprintf("%s stage %d (%s), %s", what, stage+1, name, lossAsks[stage].name)
			var at time.Time
			got, err := head.askLike(t, "m", tokens, lossAsks[stage].set, func() { at = time.Now(); lose() })
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if diff := cmp.Diff(bytesIn(want[stage]), bytesIn(got)); diff != "" {
				t.Errorf("%s (-alone +here):\n%s", what, diff)
			}
			if diff := cmp.Diff(want[stage].Logprobs, got.Logprobs); diff != "" {
				t.Errorf("%s, log-probabilities (-alone +here):\n%s", what, diff)
			}
			for _, st := range got.Plan.Stages {
				if st.Name == name {
					t.Errorf("%s: the plan uses it still", what)
				}
			}
			if got.Failovers == 0 {
				t.Errorf("%s: the reply says that nothing was lost", what)
			}
			t.Logf("%s: complete %v after it", what, time.Since(at).Round(time.Millisecond))
			idle(t, head)
			// One that stood still goes on and is found again; the dead one is not.
			if hang {
				all[i].signal(t, syscall.SIGCONT)
			} else {
				live--
			}
			for _, d := range all {
				if !d.ended {
					d.sees(t, live)
				}
			}
		}
	}
	for _, d := range all {
		if !d.ended {
			idle(t, d)
		}
	}
}

// TestRunSaysThatItPlansAgain loses a stage under `weft run`.
func TestRunSaysThatItPlansAgain(t *testing.T) {
	path := deep(t, 24)
	all, head := halves(t, "14MB")
	for _, d := range all[:2] {
		mustRun(t, d.home, "add", path, "--name", "m", "--ctx", "512")
	}
	head.seesModel(t, "m")
	args := []string{"run", "-m", "m", "--raw", "--json", "--temp", "0.8", "--seed", "3", "--max-tokens", "450", "There was a weaver"}
	want := replyOf(t, mustRun(t, head.home, args...))
	if want.Failovers != 0 {
		t.Errorf("an undisturbed reply counts %d failovers", want.Failovers)
	}
	// The spare joins now, so that the plan was over a and b for sure.
	token := strings.TrimSpace(mustRun(t, all[0].home, "invite"))
	spare := up(t, "spare", home(t), "--memory", "14MB", "--join", token)
	mustRun(t, spare.home, "add", path, "--name", "m", "--ctx", "512")
	head.sees(t, 4)

	cmd := exec.CommandContext(t.Context(), weft, args...)
	cmd.Env = environ(head.home)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	rows := func() int64 {
		s, err := all[1].Status(t.Context())
		if err != nil || len(s.Stages) == 0 || s.Stages[0].Sessions == 0 {
			return 0
		}
		return s.Stages[0].Generated
	}
	begun := int64(0)
	eventually(t, 20*time.Second, func() error {
		switch n := rows(); {
		case n == 0:
			return fmt.Errorf("b computes nothing: %s", &errs)
		case begun == 0:
			begun = n
			fallthrough
		case n < begun+30:
			return fmt.Errorf("b has computed %d positions", n-begun)
		}
		return nil
	})
	all[1].kill()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &errs)
	}
	got := replyOf(t, out.String())
	if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
		t.Errorf("(-undisturbed +over a loss):\n%s", diff)
	}
	if got.Failovers != 1 || !strings.Contains(errs.String(), "node b was lost") || !strings.Contains(errs.String(), "again") {
		t.Errorf("%d failovers; stderr says %q", got.Failovers, &errs)
	}
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
	_, err = head.ask(t, "m", 0, victim.kill)
	if kindOf(err) != "stage_lost" || !strings.Contains(err.Error(), "node "+victim.name+",") || !strings.Contains(err.Error(), "are missing") {
		t.Fatalf("%v", err)
	}
	out, errs, err := run(t, head.home, "run", "--raw", "-m", "m", "hello")
	if err == nil || !strings.Contains(errs, "are missing") || !strings.Contains(errs, "--memory") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
}
