package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/peer"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// provider gives peers what the store has.
type provider struct {
	n *Node
	// alter changes what is sent, for tests; nil sends what the store gives.
	alter atomic.Pointer[func([]byte)]
}

// Manifest implements worker.Provider.
func (p *provider) Manifest(id [32]byte) ([]byte, error) {
	m, err := p.n.store.Manifest(id)
	if err != nil {
		return nil, err
	}
	return m.Encode(), nil
}

// Has implements worker.Provider.
func (p *provider) Has(tensor [32]byte) bool { return p.n.store.HasTensor(tensor) }

// Chunk implements worker.Provider.
func (p *provider) Chunk(tensor [32]byte, index int, dst []byte) ([]byte, error) {
	b, err := p.n.store.ReadChunkInto(dst, tensor, index)
	if err != nil {
		return nil, err
	}
	if alter := p.alter.Load(); alter != nil {
		(*alter)(b)
	}
	p.n.moved.sent.Add(uint64(len(b)))
	return b, nil
}

// Origin implements worker.Provider.
func (p *provider) Origin(model [32]byte) *weftv1.Origin {
	o := p.n.store.Origin(model)
	if o == nil {
		return nil
	}
	out := &weftv1.Origin{Repo: o.Repo, Revision: o.Revision}
	for _, f := range o.Files {
		out.Files = append(out.Files, &weftv1.OriginFile{Path: f.Path, Size: f.Size, Sha256: f.SHA256})
	}
	return out
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
			out[i].tellers = append(out[i].tellers, mem.Record.Name)
			if h.Bytes > 0 {
				out[i].holders = append(out[i].holders, mem.Record.Name)
			}
		}
	}
	return out
}

// holders are the live nodes whose records name a model: they have tensors of it,
// or know where it can be downloaded from.
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
