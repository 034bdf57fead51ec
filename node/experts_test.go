package node

import (
	"path/filepath"
	"testing"

	"github.com/weft-mesh/weft/scheduler"
	"github.com/weft-mesh/weft/shard/store"
)

// A plan of a model with experts has memory for all of them, and the time of those that a
// token takes.
func TestAPlansTimeIsThatOfTheExpertsThatATokenTakes(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs("../shard/testdata/tiny/mixtral-Q4_K_M.gguf")
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Add(t.Context(), path, store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := (&library{store: s, cache: map[string]*opened{}}).shape(e)
	if err != nil {
		t.Fatal(err)
	}
	m := shape(o)
	if len(m.LayerReads) != 2 || len(m.LayerMore) != 2 {
		t.Fatalf("what tokens read: %v, %v", m.LayerReads, m.LayerMore)
	}
	for l, all := range m.LayerBytes {
		half, more := o.sizes.Experts[l]/2, m.LayerMore[l]
		if half == 0 || m.LayerReads[l] != all-half || more < half/2-1 || more > half/2+1 { // 2 of 4: a second token takes one more
			t.Errorf("layer %d of %d bytes, %d of experts: a token reads %d, a second one %d more", l, all, 2*half, m.LayerReads[l], more)
		}
	}
	snapshot := scheduler.Snapshot{Head: "a", Nodes: []scheduler.Node{{ID: "a", MemFree: 1 << 30, DecodeBps: 1e6, PrefillOps: 1e9}}}
	mixed, err := scheduler.Make(snapshot, m)
	if err != nil {
		t.Fatal(err)
	}
	m.LayerReads, m.LayerMore = nil, nil
	dense, err := scheduler.Make(snapshot, m)
	if err != nil {
		t.Fatal(err)
	}
	saved := (dense.TPOT - mixed.TPOT).Seconds()
	if want := float64(o.sizes.Experts[0]+o.sizes.Experts[1]) / 2 / 1e6; saved < 0.99*want || saved > 1.01*want {
		t.Errorf("a token takes %.3f s less; want %.3f", saved, want)
	}
	if mixed.Stages[0].Bytes != dense.Stages[0].Bytes {
		t.Errorf("%d bytes of memory, without experts %d", mixed.Stages[0].Bytes, dense.Stages[0].Bytes)
	}
}
