package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

const (
	// hasTime bounds how long a peer may take to say what it holds.
	hasTime = 3 * time.Second
	// asideTime is how long a peer that sent wrong bytes is not asked for weights.
	asideTime = time.Hour
	// roundPause is how long a fetch waits before it looks for sources anew.
	roundPause = time.Second
)

// moved counts the bytes of weights that crossed this node's links.
type moved struct {
	sent, fromPeers, fromHub atomic.Uint64
}

// aside remembers the peers that sent wrong weights.
type aside struct {
	mu    sync.Mutex // guards peers
	peers map[string]api.AsidePeer
}

// add notes a peer.
func (a *aside) add(id, name, reason string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.peers == nil {
		a.peers = map[string]api.AsidePeer{}
	}
	a.peers[id] = api.AsidePeer{Name: name, PeerID: id, Reason: reason, Since: now}
}

// has says whether a peer is not to be asked.
func (a *aside) has(id string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, ok := a.peers[id]
	if ok && now.Sub(p.Since) > asideTime {
		delete(a.peers, id)
		return false
	}
	return ok
}

// list is all of them by name, those whose time is over left out.
func (a *aside) list(now time.Time) []api.AsidePeer {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []api.AsidePeer
	for _, p := range a.peers {
		if now.Sub(p.Since) <= asideTime {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(x, y api.AsidePeer) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.PeerID, y.PeerID))
	})
	return out
}

// peerSource is a peer that tensors come from, under a name for people.
type peerSource struct {
	*worker.PeerSource
	n       *Node
	peer    string
	sources *atomic.Int32 // of the fetch, for its share of the link
}

// ID implements fetch.Source.
func (s *peerSource) ID() string {
	name := s.n.nodeName(s.peer)
	return name + " (" + s.peer[max(0, len(s.peer)-8):] + ")"
}

// Chunk implements fetch.Source.
func (s *peerSource) Chunk(ctx context.Context, t manifest.Hash, index int) ([]byte, error) {
	came := s.n.mesh.traffic.begin(s.peer)
	b, err := s.PeerSource.ChunkAt(ctx, t, index, s.n.wish(s.peer, int(s.sources.Load())))
	came(len(b))
	s.n.moved.fromPeers.Add(uint64(len(b)))
	return b, err
}

// peerSources asks the holders of a model, all at once, which of the tensors
// they have.
func (m *mesh) peerSources(ctx context.Context, model manifest.Hash, tensors []*manifest.Tensor) []*peerSource {
	hashes := make([]manifest.Hash, len(tensors))
	for i, t := range tensors {
		hashes[i] = t.Hash
	}
	count := new(atomic.Int32)
	holders := m.holders(model)
	found := make([]*peerSource, len(holders))
	var wg sync.WaitGroup
	for i, p := range holders {
		if m.n.aside.has(p.String(), m.n.now()) {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, hasTime)
			defer cancel()
			s, err := m.weights.Source(ctx, p.String(), hashes)
			if err != nil {
				m.n.log.Warn("node does not say what it holds", "peer", p, "node", m.n.nodeName(p.String()), "error", err)
				return
			}
			if s.Empty() {
				return
			}
			found[i] = &peerSource{PeerSource: s, n: m.n, peer: p.String(), sources: count}
			count.Add(1)
		})
	}
	wg.Wait()
	return slices.DeleteFunc(found, func(s *peerSource) bool { return s == nil })
}

// fetchTensors makes the store hold tensors, from all nodes that have them and,
// what none has, from the hub. When its sources are gone it looks for others, as
// long as that brings anything.
func (n *Node) fetchTensors(ctx context.Context, o *opened, missing []*manifest.Tensor, progress func(done, total uint64)) error {
	before := uint64(0)
	for {
		var done uint64
		err := n.fetchOnce(ctx, o, missing, func(s fetch.Status) {
			done = s.Done
			progress(s.Done, s.Total)
		})
		if err == nil {
			return nil
		}
		if !errors.Is(err, fetch.ErrNoSource) || done <= before {
			return fmt.Errorf("fetch the weights of %s: %w%s", o.entry.Ref(), err, n.wayOut(err))
		}
		before = done
		n.log.Warn("weights have no source left, looking for others", "model", o.entry.Ref(), "error", err)
		select {
		case <-time.After(roundPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (n *Node) fetchOnce(ctx context.Context, o *opened, missing []*manifest.Tensor, progress func(fetch.Status)) error {
	var sources []fetch.Source
	peers := map[string]string{} // ids by what sources are called
	if n.mesh != nil {
		for _, s := range n.mesh.peerSources(ctx, o.entry.Model, missing) {
			sources = append(sources, s)
			peers[s.ID()] = s.peer
		}
	}
	if s, c := n.hubSource(ctx, o.manifest); s != nil {
		defer c.Close()
		sources = append(sources, s)
	}
	return n.store.Fetch(ctx, missing, sources, fetch.Options{
		Logger:   n.log,
		Progress: progress,
		SetAside: func(id string, err error) {
			n.log.Warn("source of weights set aside", "source", id, "peer", peers[id], "error", err)
			if peers[id] != "" && errors.Is(err, manifest.ErrWrongChunk) {
				n.aside.add(peers[id], n.nodeName(peers[id]), err.Error(), n.now())
			}
		},
	})
}

// wayOut says what to do when nobody gives weights, and names the nodes that are
// not asked.
func (n *Node) wayOut(err error) string {
	if !errors.Is(err, fetch.ErrNoSource) {
		return ""
	}
	if n.mesh == nil {
		return "; without a daemon there are no other nodes: start weft up, or pull or add the model again"
	}
	text := "; no node that is here has them all: start one that has the model, or add or pull it on one that is here"
	for _, p := range n.aside.list(n.now()) {
		text += fmt.Sprintf("; %s is not asked until %s, because it sent wrong bytes: restart this node to ask it again", p.Name, p.Since.Add(asideTime).Format("15:04"))
	}
	return text
}

// pace is how many bytes of weights a second may be sent now, to all peers and to
// one of them: what --weights-rate allows, and half of the links while replies
// cross them.
func (n *Node) pace(to string) (all, each float64) {
	all = float64(n.cfg.WeightsRate)
	if !n.replying() {
		return all, 0
	}
	return stricter(all, half(n.fastest())), half(n.bandwidth(to))
}

// wish is how many bytes of weights a second this node wants from a peer that is
// one of several sources: half of its own link while it takes part in replies.
func (n *Node) wish(from string, sources int) uint64 {
	if !n.replying() {
		return 0
	}
	return uint64(stricter(half(n.fastest())/float64(max(sources, 1)), half(n.bandwidth(from))))
}

// hubBound is how many bytes a second may come from the hub: half of this node's
// link while it takes part in replies. 0 is no bound.
func (n *Node) hubBound() float64 {
	if !n.replying() {
		return 0
	}
	return half(n.fastest())
}

func half(bandwidth float64) float64 { return bandwidth / 2 }

// stricter is the lower of two bounds, of which 0 is none.
func stricter(a, b float64) float64 {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

// fastest is the best bandwidth that was measured to any node: what this node's
// own link can do at least.
func (n *Node) fastest() float64 {
	best := 0.0
	for _, m := range n.members() {
		best = max(best, float64(m.BytesPerSecond))
	}
	if best == 0 {
		return gigabit
	}
	return best
}

// replying says whether replies cross this node's links now: those that it
// heads, not counting those that wait for their model, and its stages' sessions.
func (n *Node) replying() bool {
	for _, a := range n.plans.list() {
		if a.replies() > 0 {
			return true
		}
	}
	return n.worker.Serving()
}
