package node_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

func TestPromptFromANodeWithoutWeightsGivesTheSoloReply(t *testing.T) {
	path, err := filepath.Abs(tinyModels + "llama-Q4_0.gguf")
	if err != nil {
		t.Fatal(err)
	}
	solo := start(t, api.Config{Name: "solo", Solo: true})
	want, err := generate(t, solo, greedy(path, sequence(1, 40), 24))
	if err != nil {
		t.Fatal(err)
	}
	half, err := node.SplitMemory(solo, path, 1)
	if err != nil {
		t.Fatal(err)
	}
	nodes := together(t, api.Config{Name: "a", Memory: half}, api.Config{Name: "b", Memory: half}, api.Config{Name: "head", Memory: -1})
	m := add(t, nodes[0], api.AddRequest{Path: path})
	head := nodes[2]
	seeModel(t, head, m.Name)
	got, err := generate(t, head, greedy("", sequence(1, 40), 24))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Tokens, got.Tokens); diff != "" {
		t.Fatalf("tokens differ (-solo +mesh):\n%s", diff)
	}
	if got.StateHash != want.StateHash || want.StateHash == "" {
		t.Fatalf("state hash %q, solo %q", got.StateHash, want.StateHash)
	}
	if len(got.Plan.Stages) != 2 {
		t.Fatalf("plan %+v, want two stages", got.Plan)
	}
	for _, st := range got.Plan.Stages {
		if st.Name != "a" && st.Name != "b" {
			t.Errorf("a stage is on %s", st.Name)
		}
	}
	nothingLeft(t, append(nodes, solo)...)
}
