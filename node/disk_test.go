package node_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

// TestAFullDiskGivesWayOrSaysWhatIsMissing has a node whose disk budget holds one
// of two models at a time.
func TestAFullDiskGivesWayOrSaysWhatIsMissing(t *testing.T) {
	nodes := together(t, api.Config{Name: "holder", Memory: -1}, api.Config{Name: "learns", Memory: 1 << 30})
	holder, learns := nodes[0], nodes[1]
	for name, file := range map[string]string{"one": "llama-Q8_0", "two": "llama-Q4_1"} {
		add(t, holder, api.AddRequest{Path: deep(t, file, 4), Name: name, Context: 256})
	}
	want := map[string][]int32{}
	sizes := map[string]int64{}
	for _, name := range []string{"one", "two"} {
		seeModel(t, learns, name)
		before := diskUsed(t, learns)
		r, err := generate(t, learns, greedy(name, sequence(1, 20), 4))
		if err != nil {
			t.Fatal(err)
		}
		want[name], sizes[name] = r.Tokens, diskUsed(t, learns)-before
	}

	if err := learns.Close(); err != nil { // its plans would be used
		t.Fatal(err)
	}

	// Room for either of them and what is in the making of it, not for both.
	budget := sizes["one"] + sizes["two"]/2
	small := start(t, api.Config{Name: "small", Memory: 1 << 30, Disk: budget, Join: invite(t, holder, api.InviteRequest{})})
	see(t, 2, small)
	for _, name := range []string{"one", "two"} {
		seeModel(t, small, name)
	}
	same := func(name string) {
		t.Helper()
		r, err := generate(t, small, greedy(name, sequence(1, 20), 4))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[name], r.Tokens); diff != "" {
			t.Errorf("%s (-first +small disk):\n%s", name, diff)
		}
	}
	node.Cut(small, 256, []node.Piece{{Node: "small", Layers: 4}})
	same("one")
	time.Sleep(1100 * time.Millisecond) // a plan that was used within a second does not give way
	same("two")
	if used := diskUsed(t, small); used > budget {
		t.Errorf("%d bytes are on disk, the budget is %d", used, budget)
	}
	if m := modelOf(t, small, "one"); m.DiskBytes > sizes["one"]/10 { // small tensors are the same in both
		t.Errorf("model one should have given way: %+v", m)
	}

	// What is pinned stays, and the error says so.
	if m, err := small.Node().PinModel(t.Context(), api.PinRequest{Model: "two", Pinned: true}); err != nil || !m.Pinned {
		t.Fatal(m, err)
	}
	time.Sleep(1100 * time.Millisecond)
	_, err := generate(t, small, greedy("one", sequence(1, 20), 4))
	if err == nil {
		t.Fatal("a model was loaded though there is no room for it")
	}
	for _, w := range []string{"small", "not enough disk space", "are missing", "two@", "pinned", "weft unpin", "--disk"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
	same("two") // nothing was lost
	if _, err := small.Node().PinModel(t.Context(), api.PinRequest{Model: "two"}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	same("one") // room was made: it works
}

func diskUsed(t *testing.T, r api.Running) int64 {
	t.Helper()
	s, err := r.Node().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.DiskUsed
}

func modelOf(t *testing.T, r api.Running, name string) api.Model {
	t.Helper()
	ms, err := r.Node().Models(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("there is no model %s", name)
	return api.Model{}
}
