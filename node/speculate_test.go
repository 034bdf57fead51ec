package node_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/session"
	"github.com/weft-mesh/weft/node/spec"
)

// slow delays what a drafter is asked and told, so that results meet the head at
// other moments: some wait for it, some are waited for.
type slow struct {
	session.Drafter
	rng *rand.Rand
}

func (s slow) Draft(ahead []int32, runs, room int) []int32 {
	s.wait()
	return s.Drafter.Draft(ahead, runs, room)
}

func (s slow) Commit(tokens, ahead []int32) {
	s.wait()
	s.Drafter.Commit(tokens, ahead)
}

func (s slow) wait() {
	if n := s.rng.IntN(8); n > 3 {
		time.Sleep(time.Duration(n-3) * time.Millisecond / 2)
	}
}

// recall is a source that knows a reply, and errs now and then.
type recall struct {
	reply  []int32
	prompt int
	at     int
	errs   int // one in so many tokens is wrong; 0: none
}

func (r *recall) Name() string          { return "recall" }
func (r *recall) Cost() time.Duration   { return 0 }
func (r *recall) Begin(tokens []int32)  { r.at = len(tokens) - r.prompt }
func (r *recall) Accept(tokens []int32) { r.at += len(tokens) }
func (r *recall) Draft(ahead []int32, n int) spec.Draft {
	from := min(r.at+len(ahead), len(r.reply))
	out := slices.Clone(r.reply[from:min(from+n, len(r.reply))])
	for i := range out {
		if r.errs > 0 && (from+i)%r.errs == r.errs-1 {
			out[i] = (out[i] + 1) % 300
		}
	}
	return spec.Draft{Tokens: out}
}

// windows are ways to speculate: none of them may change a byte.
var windows = []struct {
	name  string
	fixed spec.Window
	mode  spec.Mode
}{
	{"as measured", spec.Window{}, spec.ModeAuto},
	{"one run at a time", spec.Window{}, spec.ModeSync},
	{"runs ahead", spec.Window{}, spec.ModeAsync},
	{"one run of 2", spec.Window{Width: 2, Runs: 1}, 0},
	{"one run of 30", spec.Window{Width: 30, Runs: 1}, 0},
	{"8 runs of 1", spec.Window{Width: 1, Runs: 8}, 0},
	{"5 runs of 3", spec.Window{Width: 3, Runs: 5}, 0},
	{"32 runs of 5", spec.Window{Width: 5, Runs: 32}, 0},
}

// repeating is a prompt in which much occurs twice.
func repeating(n int) []int32 {
	p := sequence(n, 12)
	return slices.Concat(p, p[3:9], p, p[5:])
}

// TestSpeculationChangesNoByteOfAReply asks with every source, window and way of
// sampling over several stages, and compares with one node that drafts nothing.
func TestSpeculationChangesNoByteOfAReply(t *testing.T) {
	const tokens = 24
	all, head := sameMesh(t)
	e := entry{"qwen3-Q4_K_M", "f16", 8}
	book := newBook(t, []entry{e})
	book.enter(all[0], e)
	seeModel(t, head, e.String())
	sources, prompts, splits := []string{"suffix", "suffix and ngram", "recall", "recall with errors", "all"}, 3, cuts[2:6]
	if long() {
		prompts, splits = 9, cuts
	}
	lib := spec.NewLibrary(0)
	plain := func(a ask, prompt []int32) (api.GenerateRequest, api.Reply) {
		q := greedy(e.String(), prompt, tokens)
		a.set(&q)
		q.Speculate, q.Stop = "off", nil
		want := book.solve(q)
		if a.name == "ended by a string" {
			q.Stop = []string{stringIn(t, want)}
			want = book.solve(q)
		}
		if want.Speculation.Drafted != 0 {
			t.Fatal("speculation that is off drafts")
		}
		return q, want
	}
	replies, accepted := 0, 0
	for at, split := range splits {
		node.Cut(head, 5*256, split)
		for p := range prompts {
			for i, a := range asks {
				q, want := plain(a, repeating(20+p))
				for k, w := range windows {
					source := sources[(at+p+i+k)%len(sources)]
					if !long() && (at+p+i+k)%9 != 0 {
						continue
					}
					know := &recall{reply: want.Tokens, prompt: len(q.Tokens), errs: map[bool]int{true: 5}[source != "recall"]}
					o := spec.Options{Mode: w.mode, Fixed: w.fixed, Costs: spec.NewCosts(2*time.Millisecond, time.Millisecond, 8*time.Millisecond)}
					switch source {
					case "suffix":
						o.Sources = []spec.Source{spec.NewAutomaton(0)}
					case "suffix and ngram":
						o.Sources = []spec.Source{spec.NewAutomaton(0), lib.Open("t", "m")}
					case "all":
						o.Sources = []spec.Source{spec.NewAutomaton(0), know, lib.Open("t", "m")}
					default:
						o.Sources = []spec.Source{know}
					}
					sp := spec.New(o)
					ctx := node.Tune(t.Context(), func(s *session.Spec) {
						s.Drafter = slow{sp, rand.New(rand.NewPCG(uint64(replies), 7))}
					})
					name := fmt.Sprintf("%v, %s, prompt %d, %s, %s", split, a.name, p, source, w.name)
					got, err := generateIn(t, ctx, head, q)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
						t.Fatalf("%s (-alone +here):\n%s", name, diff)
					}
					replies++
					accepted += sp.Report().Accepted
				}
			}
		}
	}
	t.Logf("%d replies, %d drafted tokens accepted", replies, accepted)
	if accepted < replies {
		t.Errorf("only %d drafted tokens were accepted in %d replies: the test shows little", accepted, replies)
	}
	nothingLeft(t, all...)
}

func TestSpeculationIsReportedAndCanBeTurnedOff(t *testing.T) {
	r := start(t, api.Config{Name: "one", Solo: true})
	add(t, r, api.AddRequest{Path: deep(t, "llama-Q4_0", 2), Name: "m", Context: 256})
	q := greedy("m", repeating(3), 60)
	q.Speculate = "sync"
	with, err := generate(t, r, q)
	if err != nil {
		t.Fatal(err)
	}
	q.Speculate = "off"
	without, err := generate(t, r, q)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bytesIn(without), bytesIn(with)); diff != "" {
		t.Fatalf("-off +sync:\n%s", diff)
	}
	if s := without.Speculation; s.Drafted != 0 || s.Accepted != 0 || s.Source != "" || s.Runs != len(without.Tokens)-1 {
		t.Errorf("off: %+v", s)
	}
	s, sum := with.Speculation, 0
	for _, n := range s.AcceptedByPosition {
		sum += n
	}
	if s.Drafted == 0 || s.Accepted > s.Drafted || sum != s.Accepted || s.Runs != len(with.Tokens)-1-s.Accepted {
		t.Errorf("sync: %+v for %d tokens", s, len(with.Tokens))
	}
	if s.BoundShare <= 0 {
		t.Errorf("share of the bound %v", s.BoundShare)
	}
	m, err := r.Node().WriteMetrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("weft_drafted_tokens_total %d\n", s.Drafted),
		fmt.Sprintf("weft_accepted_draft_tokens_total %d\n", s.Accepted),
		fmt.Sprintf("weft_decode_runs_total %d\n", s.Runs+without.Speculation.Runs),
	} {
		if !bytes.Contains(m, []byte(want)) {
			t.Errorf("metrics lack %q", want)
		}
	}
	q.Speculate = "wildly"
	if _, err := generate(t, r, q); err == nil || api.AsError(err).Kind != api.KindInvalid {
		t.Errorf("speculation %q: %v", q.Speculate, err)
	}
	if _, err := tryStart(t, api.Config{Name: "two", Solo: true, Speculate: "wildly"}); err == nil {
		t.Error("a node starts with a setting that is none")
	}
}
