package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/devices"
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

// StartWith is Start on a machine with the devices that backends know, and with
// little patience with them where that is not 0.
func StartWith(ctx context.Context, c api.Config, progress func(api.Progress), patience time.Duration, backends ...devices.Backend) (api.Running, error) {
	return startWith(ctx, c, progress, func(n *Node) {
		n.backends = backends
		if patience > 0 {
			n.patience = func(int, time.Duration) time.Duration { return patience }
		}
	})
}

// DevicesKnown waits until a node has found out which devices it has.
func DevicesKnown(r api.Running) { <-r.(*Node).cards.opened }

// Home is a node's state directory.
func Home(r api.Running) string { return r.(*Node).cfg.Home }

// Relaid says whether a plan of the node could have more layers on devices.
func Relaid(r api.Running) bool {
	n := r.(*Node)
	return slices.ContainsFunc(n.plans.list(), n.relaid)
}

// GiveBackOld has a node give back stages that would lie better if they were loaded now.
func GiveBackOld(r api.Running) { r.(*Node).giveBackOld() }

// Plans counts the plans that a node has a stage of.
func Plans(r api.Running) int { return len(r.(*Node).worker.Stats().Plans) }

// Placed are the devices of a node's stages, by number, with their layers, as in
// "-1:0-1 0:2-5".
func Placed(r api.Running) string {
	var out []string
	for _, p := range r.(*Node).worker.Stats().Plans {
		for _, at := range p.Needs.Places {
			out = append(out, fmt.Sprintf("%d:%d-%d", at.Device, at.First, at.Last))
		}
	}
	return strings.Join(out, " ")
}

// CardMemory is what a card must let stages take for the last layers of a model to
// lie on it, with a little to spare.
func CardMemory(r api.Running, ref string, layers int) (int64, error) {
	m, err := r.(*Node).lib.open(context.Background(), ref, func(api.Progress) {})
	if err != nil {
		return 0, err
	}
	s := shape(m)
	last := len(s.LayerBytes) - 1
	for bytes := int64(1 << 20); bytes < 1<<40; bytes += bytes / 64 {
		n := scheduler.Node{MemFree: 1 << 50, DecodeBps: 1, Devices: []scheduler.Device{{MemFree: bytes, DecodeBps: 2}}}
		parts, err := scheduler.Lay(n, s, 0, last, s.Context)
		if err != nil {
			return 0, err
		}
		if p := parts[len(parts)-1]; p.Device == 0 && p.Last-p.First+1 >= layers {
			return bytes + bytes/32, nil
		}
	}
	return 0, fmt.Errorf("%d layers of %s fit no card", layers, ref)
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

// RestDrafts gives back the draft models that no reply has used for so long, and
// says how many.
func RestDrafts(r api.Running, idle time.Duration) int {
	d := r.(*Node).drafts
	d.mu.Lock()
	all := maps.Clone(d.byKey)
	d.mu.Unlock()
	n := 0
	for key, g := range all {
		if d.drop(key, g, idle) {
			n++
		}
	}
	return n
}

// PieceOf is pieceOf.
func PieceOf(prompt, stages, most int) int { return pieceOf(prompt, stages, most) }
