package node_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/session"
)

// lossPoint is a moment of a reply.
type lossPoint struct {
	name string
	// set makes lose happen then; lose may be called again.
	set func(s *session.Spec, lose func())
}

// onTokens calls f with the number of tokens before they are handed on.
func onTokens(s *session.Spec, f func(n int)) {
	next, n := s.Tokens, 0
	s.Tokens = func(list []session.Token) (bool, error) {
		n += len(list)
		f(n)
		return next(list)
	}
}

var lossPoints = []lossPoint{
	{"before the opening", func(_ *session.Spec, lose func()) { lose() }},
	{"at the opening", func(s *session.Spec, lose func()) {
		next := s.Started
		s.Started = func(held int) { lose(); next(held) }
	}},
	{"in the prompt", func(s *session.Spec, lose func()) {
		next := s.Progress
		s.Chunk, s.Credit = 7, 14
		s.Progress = func(done, total int) {
			next(done, total)
			if done > total/2 {
				lose()
			}
		}
	}},
	{"after the first token", func(s *session.Spec, lose func()) {
		onTokens(s, func(n int) {
			if n == 1 {
				lose()
			}
		})
	}},
	{"in the reply", func(s *session.Spec, lose func()) {
		onTokens(s, func(n int) {
			if n == replyTokens/2 {
				lose()
			}
		})
	}},
	{"before the last token", func(s *session.Spec, lose func()) {
		onTokens(s, func(n int) {
			if n == replyTokens-1 {
				lose()
			}
		})
	}},
	{"at the last token", func(s *session.Spec, lose func()) {
		onTokens(s, func(n int) {
			if n == replyTokens {
				lose()
			}
		})
	}},
	{"at every third token", func(s *session.Spec, lose func()) {
		onTokens(s, func(n int) {
			if n%3 == 0 && n < replyTokens {
				lose()
			}
		})
	}},
}

// TestALossAtAnyMomentChangesNoByteOfAReply loses a plan at each moment of
// replies of every kind, while others run over the same plan, and goes on with
// another split.
func TestALossAtAnyMomentChangesNoByteOfAReply(t *testing.T) {
	entries := []entry{{"qwen3-Q4_K_M", "f16", 8}, {"qwen3moe-Q4_K_M", "f16", 8}}
	all, head := sameMesh(t)
	book := newBook(t, entries)
	for _, e := range entries {
		book.enter(all[0], e)
		seeModel(t, head, e.String())
	}
	drafts := []string{"none", "mixed"}
	for i, p := range pairwise([]int{len(lossPoints), len(asks), len(drafts), len(cuts)}, 2) {
		if testing.Short() && i%4 != 0 {
			continue
		}
		e, point, a, draft := entries[i/2%2], lossPoints[p[0]], asks[p[1]], drafts[p[2]]
		node.Cut(head, 5*256, cuts[p[3]])
		name := fmt.Sprintf("%s, %s, %s drafts, first over %v", point.name, a.name, draft, cuts[p[3]])
		want := book.reply(e, a, 3)
		lost := 0
		lose := func() {
			lost++
			node.Recut(head, 5*256, cuts[(p[3]+lost)%len(cuts)])
			node.Lose(head, "a virtual loss")
		}
		once := sync.OnceFunc(lose)
		if strings.Contains(point.name, "every") {
			once = lose
		}
		d := &drafter{kind: draft, reply: want.Tokens, prompt: promptTokens, runs: 1 + i%4}
		ctx := node.Tune(t.Context(), func(s *session.Spec) {
			s.Drafter = nil
			if draft != "none" {
				s.Drafter = d.drafter()
			}
			point.set(s, once)
		})
		var wg sync.WaitGroup
		other, r := book.reply(e, asks[2], beside), book.request(e, asks[2], beside)
		wg.Go(func() {
			got, err := generate(t, head, r)
			if err != nil {
				t.Errorf("%s: beside it: %v", name, err)
				return
			}
			if diff := cmp.Diff(bytesIn(other), bytesIn(got)); diff != "" {
				t.Errorf("%s: a reply beside it (-alone +here):\n%s", name, diff)
			}
		})
		q := book.request(e, a, 3)
		q.NoPrefix = i%2 == 0
		got, err := generateIn(t, ctx, head, q)
		wg.Wait()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
			t.Fatalf("%s (-alone +here):\n%s", name, diff)
		}
		// With drafts many tokens come at once, and what follows a loss may be
		// there already; what follows the last token is nothing.
		if got.Failovers > lost || got.Failovers == 0 && lost > 0 && draft == "none" && point.name != "at the last token" {
			t.Errorf("%s: %d failovers after %d losses", name, got.Failovers, lost)
		}
	}
	nothingLeft(t, all...)
}

// TestAReplySurvivesTheDeathOfEachStage cuts each stage of a plan off in turn, in the
// middle of a reply.
func TestAReplySurvivesTheDeathOfEachStage(t *testing.T) {
	for victim := range 2 {
		t.Run(fmt.Sprint("stage ", victim+1), func(t *testing.T) {
			all, head, m := split(t, 3)
			q := greedy(m, sequence(4, 20), 100)
			want, err := generate(t, head, q)
			if err != nil {
				t.Fatal(err)
			}
			name := want.Plan.Stages[victim].Name
			var told []string
			got, took, err := slowlyTold(t, t.Context(), head, q, func() {
				if err := node.Crash(running(t, all, name)); err != nil {
					t.Error(err)
				}
			}, &told)
			if err != nil {
				t.Fatalf("a crash of %s gives %v", name, err)
			}
			if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
				t.Errorf("over the loss of %s (-undisturbed +here):\n%s", name, diff)
			}
			if got.Failovers != 1 || got.Plan.Generation == want.Plan.Generation {
				t.Errorf("%d failovers, generation %d after %d", got.Failovers, got.Plan.Generation, want.Plan.Generation)
			}
			for _, st := range got.Plan.Stages {
				if st.Name == name {
					t.Errorf("%s is still in the plan", name)
				}
			}
			// The crash ends connections one by one, as a broken link would: the other
			// end of the first to go may be named in its place.
			names := want.Plan.Stages[0].Name + "|" + want.Plan.Stages[1].Name
			if len(told) != 1 || !regexp.MustCompile("^node ("+names+") was lost ").MatchString(told[0]) {
				t.Errorf("the reply's reader was told %q", told)
			}
			t.Logf("the reply ended %v after the crash of %s", took.Round(time.Millisecond), name)
			for _, r := range all {
				if s, _ := r.Node().Status(t.Context()); s.Name != name {
					nothingLeft(t, r)
				}
			}
		})
	}
}

// TestRepliesOfSeveralHeadsSurviveTogether loses a stage under replies of three
// heads, which end up with one plan again.
func TestRepliesOfSeveralHeadsSurviveTogether(t *testing.T) {
	all, head, m := split(t, 3)
	q := greedy(m, sequence(4, 20), 100)
	want, err := generate(t, head, q)
	if err != nil {
		t.Fatal(err)
	}
	name := want.Plan.Stages[1].Name
	crash := sync.OnceFunc(func() {
		if err := node.Crash(running(t, all, name)); err != nil {
			t.Error(err)
		}
	})
	heads := map[string]api.Running{}
	for _, r := range all {
		if s, err := r.Node().Status(t.Context()); err == nil && s.Name != name {
			heads[s.Name] = r
			seeModel(t, r, m)
		}
	}
	var mu sync.Mutex
	generations := map[uint64]int{}
	var wg sync.WaitGroup
	for on, r := range heads {
		wg.Go(func() {
			got, _, err := slowly(t, t.Context(), r, q, crash)
			if err != nil {
				t.Errorf("on %s: %v", on, err)
				return
			}
			if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
				t.Errorf("on %s (-undisturbed +here):\n%s", on, diff)
			}
			mu.Lock()
			defer mu.Unlock()
			generations[got.Plan.Generation]++
		})
	}
	wg.Wait()
	if len(generations) != 1 {
		t.Errorf("the heads ended with generations %v", generations)
	}
	for _, r := range heads {
		nothingLeft(t, r)
	}
}

// slowlyTold is slowly, and keeps what the reader was told of losses.
func slowlyTold(t *testing.T, ctx context.Context, r api.Running, q api.GenerateRequest, then func(), told *[]string) (api.Reply, time.Duration, error) {
	t.Helper()
	return slowlyWith(t, ctx, r, q, then, func(e api.Event) {
		if e.Progress != nil && e.Progress.Phase == "failover" {
			*told = append(*told, e.Progress.Text)
		}
	})
}
