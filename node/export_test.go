package node

import (
	"context"
	"fmt"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/session"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
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
		blocks += p.KV.Used + p.KV.Reserved
	}
	return sessions, blocks
}

// Reserved are the bytes that a node's plans have, and how many plans it holds.
func Reserved(r api.Running) (bytes uint64, plans int) {
	s := r.(*Node).worker.Stats()
	return s.ReservedBytes, len(s.Plans)
}

// Piece is a number of layers on a node.
type Piece struct {
	Node   string // by name
	Layers int
}

// Cut makes a head plan every model in these pieces from now on, with KV for
// that many positions; the plans that it has are given back.
func Cut(r api.Running, positions int, pieces []Piece) {
	Retire(r)
	Recut(r, positions, pieces)
}

// Lose ends every plan of a head as if a stage had gone that is well.
func Lose(r api.Running, reason string) {
	n := r.(*Node)
	for _, a := range n.plans.list() {
		a.mu.Lock()
		if a.path != nil {
			a.path.Lost(&weftv1.Lost{Peer: a.spec.Stages[0].Peer, Reason: reason})
		}
		a.mu.Unlock()
	}
}

// Recut is Cut for the plans that are made from now on.
func Recut(r api.Running, positions int, pieces []Piece) {
	n := r.(*Node)
	n.plans.mu.Lock()
	defer n.plans.mu.Unlock()
	n.plans.choose = func(s scheduler.Snapshot, m scheduler.Model) (scheduler.Plan, error) {
		var p scheduler.Plan
		first := 0
		for _, piece := range pieces {
			id := ""
			for _, node := range s.Nodes {
				if node.Name == piece.Node {
					id = node.ID
				}
			}
			if id == "" {
				return p, fmt.Errorf("no node %s among %d", piece.Node, len(s.Nodes))
			}
			p.Stages = append(p.Stages, scheduler.Stage{Node: id, Name: piece.Node, First: first, Last: first + piece.Layers - 1, KVPositions: positions})
			first += piece.Layers
		}
		return p, nil
	}
}

// Retire gives back every plan of a head.
func Retire(r api.Running) {
	n := r.(*Node)
	for _, a := range n.plans.list() {
		n.plans.retire(a, "the test ends it")
	}
}

// Tune lets f change how a reply that is generated under the context is driven.
func Tune(ctx context.Context, f func(*session.Spec)) context.Context {
	return context.WithValue(ctx, tuneKey{}, f)
}

// Crash cuts a node off without a word to the others, as the death of its
// process would. It must still be closed.
func Crash(r api.Running) error { return r.(*Node).mesh.host.Close() }

// PeerID is a node's name in the mesh.
func PeerID(r api.Running) string { return r.(*Node).plans.self }

// Alter makes a node change the weights that it sends.
func Alter(r api.Running, f func([]byte)) { r.(*Node).provider.alter.Store(&f) }
