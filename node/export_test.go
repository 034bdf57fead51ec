package node

import (
	"context"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/scheduler"
)

// SplitMemory is an offer with which stages of a model must share it: too small
// for layers+1 layers of it, enough for any layers of them.
func SplitMemory(r api.Running, ref string, layers int) (int64, error) {
	n := r.(*Node)
	m, err := n.lib.open(context.Background(), ref, func(api.Progress) {})
	if err != nil {
		return 0, err
	}
	lo, hi := int64(1<<20), int64(64<<30)
	for lo < hi-4096 {
		mid := (lo + hi) / 2
		s := scheduler.Snapshot{Head: "a", Stages: (m.config.Layers + layers - 1) / layers}
		for _, id := range []string{"a", "b", "c", "d", "e"}[:s.Stages] {
			s.Nodes = append(s.Nodes, scheduler.Node{ID: id, Name: id, MemFree: mid, DecodeBps: 1e9, PrefillOps: 1e9})
		}
		if _, err := scheduler.Make(s, shape(m)); err != nil {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi + 64<<10, nil
}

// Leaks says what a node still holds of replies: sessions of stages and KV
// blocks that sequences refer to.
func Leaks(r api.Running) (sessions, blocks int) {
	for _, p := range r.(*Node).worker.Stats().Plans {
		sessions += p.Sessions
		blocks += p.KV.Used
	}
	return sessions, blocks
}
