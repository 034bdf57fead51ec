package node_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/session"
	"github.com/weft-mesh/weft/node/spec"
	"github.com/weft-mesh/weft/shard/gguf"
)

// only leaves a reply's draft model as its one source, with a window that is the
// same for every run, so that all that it drafts is sent.
func only(s *session.Spec, w spec.Window) {
	sp := s.Drafter.(*spec.Speculator)
	sp.Fix("model", w)
}

// TestADraftModelChangesNoByteOfAReply asks a head without weights that runs a
// draft model, in every way of sampling, one run at a time and in a pipe, several
// replies at once, and in the middle of it loses the plan.
func TestADraftModelChangesNoByteOfAReply(t *testing.T) {
	const tokens = 24
	all, head := sameMesh(t)
	e := entry{"llama-Q8_0", "f16", 8}
	book := newBook(t, []entry{e})
	book.enter(all[0], e)
	// Of the same weights in another format, so that it is often right, and one
	// that is always.
	add(t, all[0], api.AddRequest{Path: deep(t, "llama-Q4_1", deepLayers), Name: "near", Context: 256})
	for _, name := range []string{e.String(), "near"} {
		seeModel(t, head, name)
	}
	ways := []struct {
		name string
		mode string
		w    spec.Window
	}{
		{"as measured", "auto", spec.Window{}},
		{"one run of 5", "", spec.Window{Width: 5, Runs: 1}},
		{"6 runs of 2", "", spec.Window{Width: 2, Runs: 6}},
		{"3 runs of 4", "", spec.Window{Width: 4, Runs: 3}},
	}
	accepted, replies := map[string]int{}, 0
	for at, split := range cuts[2:5] {
		node.Cut(head, 5*256, split)
		for i, a := range asks {
			for k, w := range ways {
				if !long() && (at+i+k)%3 != 0 {
					continue
				}
				for _, model := range []string{"near", e.String()} {
					q := greedy(e.String(), sequence(at+i, 30), tokens)
					a.set(&q)
					if q.Stop != nil {
						full := q
						full.Stop = nil
						q.Stop = []string{stringIn(t, book.solve(full))}
					}
					want := book.solve(q)
					q.Speculate, q.DraftModel = w.mode, model
					ctx := node.Tune(t.Context(), func(s *session.Spec) {
						if w.w.Width > 0 {
							only(s, w.w)
						}
					})
					beside := greedy(e.String(), sequence(77+i, 20), 8)
					wantBeside := book.solve(beside)
					beside.DraftModel = model
					var wg sync.WaitGroup
					wg.Go(func() {
						got, err := generateIn(t, ctx, head, beside)
						if err != nil {
							t.Errorf("beside %s, %s: %v", a.name, w.name, err)
						} else if diff := cmp.Diff(bytesIn(wantBeside), bytesIn(got)); diff != "" {
							t.Errorf("beside %s, %s (-alone +here):\n%s", a.name, w.name, diff)
						}
					})
					if k == 2 {
						wg.Go(func() {
							time.Sleep(30 * time.Millisecond)
							node.Lose(head, "the test says so")
						})
					}
					got, err := generateIn(t, ctx, head, q)
					wg.Wait()
					name := fmt.Sprintf("%v, %s, %s, drafts of %s", split, a.name, w.name, model)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
						t.Fatalf("%s (-alone +here):\n%s", name, diff)
					}
					replies++
					accepted[model] += got.Speculation.Accepted
					if w.w.Width > 0 && got.Speculation.Accepted > 0 && got.Speculation.Source != "model" {
						t.Errorf("%s: drafted by %q", name, got.Speculation.Source)
					}
				}
			}
		}
	}
	t.Logf("%d replies, accepted %v", replies, accepted)
	if accepted[e.String()] < replies || accepted["near"] == 0 {
		t.Errorf("of the draft models' tokens %v were accepted in %d replies: the test shows little", accepted, replies)
	}
	m, err := head.Node().WriteMetrics(t.Context())
	if err != nil || !bytes.Contains(m, []byte(`weft_accepted_draft_tokens_by_source_total{source="model"}`)) {
		t.Errorf("the metrics do not tell of the model's drafts, %v", err)
	}
	nothingLeft(t, all...)
	s, err := head.Node().Status(t.Context())
	if err != nil || s.MemUsed == 0 || s.MemOffered != 0 {
		t.Errorf("memory used %d of %d offered by a head with two draft models, %v", s.MemUsed, s.MemOffered, err)
	}
	if n := node.RestDrafts(head, time.Hour); n != 0 {
		t.Errorf("%d draft models went that were used a moment ago", n)
	}
	if n := node.RestDrafts(head, 0); n != 2 {
		t.Errorf("%d draft models went, 2 were loaded", n)
	}
	if s, err = head.Node().Status(t.Context()); err != nil || s.MemUsed != 0 {
		t.Errorf("memory used %d after the draft models went, %v", s.MemUsed, err)
	}
}

func TestADraftModelOfAnotherVocabularyIsRefused(t *testing.T) {
	r := start(t, api.Config{Name: "one", Solo: true})
	add(t, r, api.AddRequest{Path: deep(t, "llama-Q4_0", 2), Name: "m", Context: 256})
	add(t, r, api.AddRequest{Path: foreign(t), Name: "foreign", Context: 256})
	q := greedy("m", sequence(1, 20), 4)
	q.DraftModel = "foreign"
	_, err := generate(t, r, q)
	if err == nil || api.AsError(err).Kind != api.KindInvalid || !strings.Contains(err.Error(), "foreign cannot draft for m: token 290 is ") {
		t.Errorf("a draft model of another vocabulary: %v", err)
	}
	q.DraftModel = "nobody"
	if _, err = generate(t, r, q); err == nil || api.AsError(err).Kind != api.KindNotFound {
		t.Errorf("a draft model that is unknown: %v", err)
	}
	q.DraftModel = "none"
	if _, err = generate(t, r, q); err != nil {
		t.Error(err)
	}
}

// foreign is a model two of whose tokens have changed places.
func foreign(t *testing.T) string {
	t.Helper()
	return deepWith(t, "llama-Q4_0", 2, func(b *gguf.Builder) {
		f, err := gguf.Open(tinyModels + "llama-Q4_0.gguf")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		tokens, err := f.Meta.Strings("tokenizer.ggml.tokens")
		if err != nil {
			t.Fatal(err)
		}
		tokens = slices.Clone(tokens)
		tokens[290], tokens[291] = tokens[291], tokens[290]
		b.Set("tokenizer.ggml.tokens", tokens)
	})
}

// TestTheNodesDraftModelIsNoCondition: what a node is set to draft with is left
// aside for models that it does not fit, is loaded for others at their first
// reply, and gives way to a request that wants none.
func TestTheNodesDraftModelIsNoCondition(t *testing.T) {
	r := start(t, api.Config{Name: "one", Solo: true, DraftModel: "small"})
	add(t, r, api.AddRequest{Path: deep(t, "llama-Q8_0", 2), Name: "m", Context: 256})
	add(t, r, api.AddRequest{Path: foreign(t), Name: "foreign", Context: 256})
	m, f := greedy("m", sequence(1, 20), 90), greedy("foreign", sequence(1, 20), 12)
	if _, err := generate(t, r, m); err != nil {
		t.Fatalf("the node's draft model is unknown: %v", err)
	}
	add(t, r, api.AddRequest{Path: deep(t, "llama-Q8_0", 2), Name: "small", Context: 128})
	if _, err := generate(t, r, f); err != nil {
		t.Fatalf("the node's draft model does not fit: %v", err)
	}
	if n := node.RestDrafts(r, 0); n != 0 {
		t.Errorf("%d draft models were loaded for nothing", n)
	}
	none := m
	none.DraftModel = "none"
	if _, err := generate(t, r, none); err != nil {
		t.Fatal(err)
	}
	if n := node.RestDrafts(r, 0); n != 0 {
		t.Errorf("%d draft models were loaded though none was wanted", n)
	}
	want, err := generate(t, r, none)
	if err != nil {
		t.Fatal(err)
	}
	ctx := node.Tune(t.Context(), func(s *session.Spec) { only(s, spec.Window{Width: 4, Runs: 1}) })
	eventually(t, 30*time.Second, func() error { // a reply of few tokens may end before the model has read its prompt
		got, err := generateIn(t, ctx, r, m)
		if err != nil || !slices.Equal(got.Tokens, want.Tokens) {
			t.Fatalf("%v were drafted for, %v without: %v", got.Tokens, want.Tokens, err)
		}
		if got.Speculation.Source != "model" {
			return fmt.Errorf("the draft model drafts nothing: %+v", got.Speculation)
		}
		return nil
	})
}

// TestADraftModelTakesTheRoomThatIsLeft: where memory is short the plan comes
// first, a draft model that does not fit is refused or done without, and one that
// nobody uses gives way to a stage.
func TestADraftModelTakesTheRoomThatIsLeft(t *testing.T) {
	path, small, other := deep(t, "llama-Q8_0", 2), deep(t, "llama-Q4_0", 2), deep(t, "llama-Q4_1", 4)
	enter := func(r api.Running) {
		add(t, r, api.AddRequest{Path: path, Name: "m", Context: 256})
		add(t, r, api.AddRequest{Path: small, Name: "small", Context: 256})
		add(t, r, api.AddRequest{Path: other, Name: "other", Context: 256})
	}
	used := func(r api.Running) int64 {
		s, err := r.Node().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.MemUsed
	}
	q := greedy("m", sequence(1, 20), 4)
	roomy := start(t, api.Config{Name: "roomy", Solo: true, Memory: 4 << 30})
	enter(roomy)
	if _, err := generate(t, roomy, q); err != nil {
		t.Fatal(err)
	}
	plan := used(roomy)
	q.DraftModel = "small"
	if _, err := generate(t, roomy, q); err != nil {
		t.Fatal(err)
	}
	both := used(roomy)
	if both <= plan {
		t.Fatalf("%d bytes are used with a draft model, %d without", both, plan)
	}
	tight := start(t, api.Config{Name: "tight", Solo: true, Memory: plan + (both-plan)/2, DraftModel: "small"})
	enter(tight)
	q.DraftModel = ""
	if _, err := generate(t, tight, q); err != nil {
		t.Errorf("the node's draft model has no room: %v", err)
	}
	q.DraftModel = "small"
	if _, err := generate(t, tight, q); err == nil || api.AsError(err).Kind != api.KindNoCapacity || !strings.Contains(err.Error(), "--memory") {
		t.Errorf("a draft model without room: %v", err)
	}
	alone := start(t, api.Config{Name: "alone", Solo: true, Memory: 4 << 30})
	enter(alone)
	o := greedy("other", sequence(1, 20), 4)
	if _, err := generate(t, alone, o); err != nil {
		t.Fatal(err)
	}
	larger := used(alone)
	full := start(t, api.Config{Name: "full", Solo: true, Memory: max(both, larger) + 64<<10})
	enter(full)
	if _, err := generate(t, full, q); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func() error { // plans give way when they were idle for a moment
		_, err := generate(t, full, o)
		return err
	})
	if n := used(full); n > max(both, larger)+64<<10 {
		t.Errorf("%d bytes are used, which is more than was offered", n)
	}
}
