package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

// TestANodeThatSendsWrongWeightsIsSetAsideAndNamed has two holders of a model,
// one of which changes a byte of everything it sends.
func TestANodeThatSendsWrongWeightsIsSetAsideAndNamed(t *testing.T) {
	nodes := together(t, api.Config{Name: "asker", Memory: 1 << 30}, api.Config{Name: "liar", Memory: -1}, api.Config{Name: "honest", Memory: -1})
	asker, liar, honest := nodes[0], nodes[1], nodes[2]
	path := deep(t, "llama-Q8_0", 12)
	for _, r := range nodes[1:] {
		add(t, r, api.AddRequest{Path: path, Name: "m", Context: 256})
	}
	node.Alter(liar, func(b []byte) { b[len(b)/2] ^= 1 })
	eventually(t, 10*time.Second, func() error { return holders(t, asker, "m", 2) })
	got, err := generate(t, asker, greedy("m", sequence(1, 20), 4))
	if err != nil {
		t.Fatal(err)
	}
	s, err := asker.Node().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Aside) != 1 || s.Aside[0].Name != "liar" || s.Aside[0].PeerID != node.PeerID(liar) || !strings.Contains(s.Aside[0].Reason, "wrong hash") {
		t.Fatalf("set aside: %+v", s.Aside)
	}
	solo := start(t, api.Config{Name: "solo", Memory: 1 << 30})
	add(t, solo, api.AddRequest{Path: path, Name: "m", Context: 256})
	want, err := generate(t, solo, greedy("m", sequence(1, 20), 4))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Tokens, got.Tokens); diff != "" || want.StateHash != got.StateHash {
		t.Errorf("(-solo +fetched):\n%s", diff)
	}

	// Without the honest one the liar is named, and not asked again.
	if _, err := asker.Node().RemoveModel(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	if err := honest.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error { return holders(t, asker, "m", 1) })
	_, err = generate(t, asker, greedy("m", sequence(1, 20), 4))
	if err == nil || !strings.Contains(err.Error(), "liar is not asked until") || !strings.Contains(err.Error(), "sent wrong bytes") {
		t.Errorf("error %v", err)
	}
}

// holders wants a node to know that many holders of a model.
func holders(t *testing.T, r api.Running, name string, n int) error {
	t.Helper()
	ms, err := r.Node().Models(t.Context())
	if err != nil {
		return err
	}
	for _, m := range ms {
		if m.Name == name && len(m.Holders) == n {
			return nil
		}
	}
	return fmt.Errorf("%s is not held by %d nodes: %+v", name, n, ms)
}
