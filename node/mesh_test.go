package node_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

const tiny = "../shard/testdata/tiny/llama-Q4_0.gguf"

// start starts a node that the test ends.
func start(t *testing.T, c api.Config) api.Running {
	t.Helper()
	if c.Home == "" {
		c.Home = t.TempDir()
	}
	c.HTTP = "off"
	if c.Threads == 0 {
		c.Threads = 1
	}
	if !c.Solo {
		c.Listen = []string{"127.0.0.1:0"}
		writeSpeed(t, c.Home)
	}
	r, err := node.Start(t.Context(), c, func(p api.Progress) { t.Logf("%s: %s", c.Name, p.Text) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close %s: %v", c.Name, err)
		}
	})
	return r
}

// writeSpeed spares the tests the measurement of the machine, see package speed.
func writeSpeed(t *testing.T, home string) {
	t.Helper()
	t.Setenv("WEFT_TEST_SPEED", "1")
	_ = home
}

func generate(t *testing.T, n api.Node, r api.GenerateRequest) (api.Reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	return n.Generate(ctx, r, func(e api.Event) error {
		if e.Progress != nil {
			t.Log(e.Progress.Phase, e.Progress.Text)
		}
		return nil
	})
}

func prompt(t *testing.T) []int32 {
	t.Helper()
	b, err := os.ReadFile("../shard/testdata/tiny/tiny_llama.json")
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Prompts map[string][]int32 `json:"prompts"`
	}
	_ = json.Unmarshal(b, &f)
	for _, p := range f.Prompts {
		return p
	}
	return []int32{5, 6, 7, 8, 9, 10, 11}
}

func zero() *float64 { return new(float64) }

func TestPromptFromANodeWithoutWeightsGivesTheSoloReply(t *testing.T) {
	path, err := filepath.Abs(tiny)
	if err != nil {
		t.Fatal(err)
	}
	req := api.GenerateRequest{Tokens: prompt(t), MaxTokens: 24, Temperature: zero(), IgnoreEOS: true, StateHash: true}
	solo := start(t, api.Config{Name: "solo", Solo: true})
	sreq := req
	sreq.Model = path
	want, err := generate(t, solo.Node(), sreq)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("solo: %v", want.Tokens)

	half, err := node.SplitMemory(solo, path, 1)
	if err != nil {
		t.Fatal(err)
	}
	a := start(t, api.Config{Name: "a", Memory: half})
	inv, err := a.Node().Invite(t.Context(), api.InviteRequest{Uses: 2})
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, api.Config{Name: "b", Memory: half, Join: inv.Token})
	head := start(t, api.Config{Name: "head", Memory: -1, Join: inv.Token})
	m, err := a.Node().AddModel(t.Context(), api.AddRequest{Path: path}, func(api.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(m.Name, m.Layers)
	_ = b
	var got api.Reply
	deadline := time.Now().Add(10 * time.Second)
	for {
		ms, err := head.Node().Models(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ps, _ := head.Node().Peers(t.Context())
		if len(ms) == 1 && len(ps) == 3 && !slices.ContainsFunc(ps, func(p api.Peer) bool { return p.Name == "" }) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the head does not see the mesh: %+v %+v", ms, ps)
		}
		time.Sleep(50 * time.Millisecond)
	}
	got, err = generate(t, head.Node(), req)
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
	for _, r := range []api.Running{solo, a, b, head} {
		if s, k := node.Leaks(r); s != 0 || k != 0 {
			t.Errorf("%d sessions and %d KV blocks are left", s, k)
		}
	}
}
