package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// provider gives peers what the store has.
type provider struct{ n *Node }

// Manifest implements worker.Provider.
func (p provider) Manifest(id [32]byte) ([]byte, error) {
	m, err := p.n.store.Manifest(id)
	if err != nil {
		return nil, err
	}
	return m.Encode(), nil
}

// Has implements worker.Provider.
func (p provider) Has(tensor [32]byte) bool { return p.n.store.HasTensor(tensor) }

// Chunk implements worker.Provider.
func (p provider) Chunk(tensor [32]byte, index int, _ []byte) ([]byte, error) {
	return p.n.store.ReadChunk(tensor, index)
}

// models lists what other nodes hold, by their records.
func (m *mesh) models() []remoteModel {
	var out []remoteModel
	for _, mem := range m.n.members() {
		if mem.Record == nil {
			continue
		}
		for _, h := range mem.Record.Models {
			p, err := model.ParseProfile(h.Profile)
			if err != nil {
				continue // of a newer contract
			}
			i := slices.IndexFunc(out, func(r remoteModel) bool { return r.id == h.Manifest && r.profile == p && r.name == h.Name })
			if i < 0 {
				out = append(out, remoteModel{name: h.Name, id: h.Manifest, profile: p})
				i = len(out) - 1
			}
			out[i].holders = append(out[i].holders, mem.Record.Name)
		}
	}
	return out
}

// holders are the live nodes whose records name a model.
func (m *mesh) holders(id manifest.Hash) []peer.ID {
	var out []peer.ID
	for _, mem := range m.n.members() {
		if mem.Record == nil || m.n.suspects.has(mem.ID.String(), mem.Since) {
			continue
		}
		for _, h := range mem.Record.Models {
			if h.Manifest == id {
				out = append(out, mem.ID)
				break
			}
		}
	}
	return out
}

// fetchManifest gets a model's manifest from any node that has it; it is
// checked by whoever takes it in.
func (m *mesh) fetchManifest(ctx context.Context, id manifest.Hash) ([]byte, error) {
	var errs []error
	peers := m.holders(id)
	for _, mem := range m.n.members() {
		if !slices.Contains(peers, mem.ID) {
			peers = append(peers, mem.ID) // its record may be behind
		}
	}
	for _, p := range peers {
		b, err := m.weights.Manifest(ctx, p.String(), id)
		if err == nil {
			if _, err = manifest.DecodeAs(b, id); err == nil {
				return b, nil
			}
		}
		errs = append(errs, fmt.Errorf("%s: %w", m.n.nodeName(p.String()), err))
	}
	if len(errs) == 0 {
		return nil, errors.New("no other node is there")
	}
	return nil, errors.Join(errs...)
}

// source is a peer that tensors come from.
type source struct {
	m    *mesh
	peer string
	has  map[manifest.Hash]bool
}

// ID implements fetch.Source.
func (s *source) ID() string { return s.peer }

// Has implements fetch.Source.
func (s *source) Has(t manifest.Hash) bool { return s.has[t] }

// Chunk implements fetch.Source.
func (s *source) Chunk(ctx context.Context, t manifest.Hash, index int) ([]byte, error) {
	came := s.m.traffic.begin(s.peer)
	b, err := s.m.weights.Chunk(ctx, s.peer, t, index, nil)
	came(len(b))
	return b, err
}

// fetchTensors makes the store hold tensors, from all nodes that have them.
func (m *mesh) fetchTensors(ctx context.Context, o *opened, missing []*manifest.Tensor, progress func(done, total uint64)) error {
	var sources []fetch.Source
	hashes := make([][32]byte, len(missing))
	for i, t := range missing {
		hashes[i] = t.Hash
	}
	for _, p := range m.holders(o.entry.Model) {
		has, err := m.weights.Has(ctx, p.String(), hashes)
		if err != nil {
			m.n.log.Warn("node does not say what it holds", "peer", p, "error", err)
			continue
		}
		s := &source{m: m, peer: p.String(), has: map[manifest.Hash]bool{}}
		for i, ok := range has {
			if ok {
				s.has[hashes[i]] = true
			}
		}
		sources = append(sources, s)
	}
	err := m.n.store.Fetch(ctx, missing, sources, fetch.Options{
		Logger:   m.n.log,
		Progress: func(s fetch.Status) { progress(s.Done, s.Total) },
		SetAside: func(id string, err error) {
			m.n.log.Warn("source of weights set aside", "peer", id, "node", m.n.nodeName(id), "error", err)
		},
	})
	if err != nil {
		return fmt.Errorf("fetch the weights of %s: %w", o.entry.Ref(), err)
	}
	return nil
}
