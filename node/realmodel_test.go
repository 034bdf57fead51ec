package node_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/chat"
	"github.com/weft-mesh/weft/node/session"
)

// realModel is the path of the model that people run, or the test is not run.
func realModel(t *testing.T) string {
	t.Helper()
	const name = "SmolLM2-135M-Instruct.Q4_1.gguf"
	for _, path := range []string{os.Getenv("WEFT_TEST_MODEL"), filepath.Join("..", "..", "shared", "models", name)} {
		if _, err := os.Stat(path); path != "" && err == nil {
			return path
		}
	}
	t.Skip("not run: no " + name + "; put it into ../shared/models or name one with WEFT_TEST_MODEL")
	return ""
}

func TestTheRealModelGivesTheSameBytesHoweverItIsComputed(t *testing.T) {
	if testing.Short() {
		t.Skip("not run: the real model takes long; run without -short")
	}
	path := realModel(t)
	if cpu.Tiers()[0] == cpu.Portable && !long() {
		t.Skip("not run: portable kernels take minutes on the real model; set WEFT_TEST_LONG to run it")
	}
	q := api.GenerateRequest{
		Model: "smol", Messages: []chat.Message{{Role: "user", Content: chat.Text("Why is the sky blue? Answer in one sentence.")}},
		MaxTokens: 16, StateHash: true, NoPrefix: true,
	}
	greedily, seeded := q, q
	greedily.Temperature = ptr(0.0)
	seeded.Temperature, seeded.TopP, seeded.Seed, seeded.RepeatPenalty, seeded.Logprobs = ptr(0.9), ptr(0.9), ptr(uint64(3)), 1.1, 3
	solo := start(t, api.Config{Name: "solo", Solo: true, Threads: 2})
	add(t, solo, api.AddRequest{Path: path, Name: "smol", Context: 256})
	all, head := sameMesh(t)
	add(t, all[0], api.AddRequest{Path: path, Name: "smol", Context: 256})
	seeModel(t, head, "smol")
	cases := []struct {
		req    api.GenerateRequest
		pieces []node.Piece
		chunk  int
		drafts string
	}{
		{greedily, []node.Piece{{Node: "n1", Layers: 15}, {Node: "n2", Layers: 15}}, 7, "mixed"},
		{seeded, []node.Piece{{Node: "n1", Layers: 15}, {Node: "n2", Layers: 15}}, 128, "none"},
		{greedily, []node.Piece{{Node: "n4", Layers: 8}, {Node: "n1", Layers: 14}, {Node: "n2", Layers: 8}}, 16, "right"},
		{seeded, []node.Piece{{Node: "n1", Layers: 12}, {Node: "n4", Layers: 1}, {Node: "n3", Layers: 1}, {Node: "n5", Layers: 4}, {Node: "n2", Layers: 12}}, 11, "mixed"},
	}
	for i, c := range cases {
		if !long() && i%3 != 0 {
			continue
		}
		want, err := generate(t, solo, c.req)
		if err != nil {
			t.Fatal(err)
		}
		node.Cut(head, 512, c.pieces)
		d := &drafter{kind: c.drafts, reply: want.Tokens, prompt: len(want.PromptTokens)}
		got, err := generateIn(t, node.Tune(t.Context(), func(s *session.Spec) {
			s.Chunk = c.chunk
			if c.drafts != "none" {
				s.Drafter = d.drafter()
			}
		}), head, c.req)
		if err != nil {
			t.Fatalf("%v: %v", c.pieces, err)
		}
		if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
			t.Errorf("%v, chunks of %d, %s drafts (-solo +mesh):\n%s", c.pieces, c.chunk, c.drafts, diff)
		}
		t.Logf("%d stages: %q", len(got.Plan.Stages), got.Text)
	}
	nothingLeft(t, all...)
}
