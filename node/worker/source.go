package worker

import (
	"context"
	"fmt"
	"sync"

	"github.com/weft-mesh/weft/shard/store/manifest"
)

// PeerSource is one peer as a source of tensors; it is what package fetch asks
// (fetch.Source).
type PeerSource struct {
	client *WeightsClient
	peer   string
	has    map[manifest.Hash]bool
}

// Source asks peer which of tensors it holds and returns it as a source of those.
func (c *WeightsClient) Source(ctx context.Context, peer string, tensors []manifest.Hash) (*PeerSource, error) {
	ask := make([][32]byte, len(tensors))
	for i, t := range tensors {
		ask[i] = t
	}
	held, err := c.Has(ctx, peer, ask)
	if err != nil {
		return nil, err
	}
	s := &PeerSource{client: c, peer: peer, has: make(map[manifest.Hash]bool, len(tensors))}
	for i, t := range tensors {
		if held[i] {
			s.has[t] = true
		}
	}
	return s, nil
}

// ID is the peer's id.
func (s *PeerSource) ID() string { return s.peer }

// Has says whether the peer said that it holds the tensor.
func (s *PeerSource) Has(tensor manifest.Hash) bool { return s.has[tensor] }

// Empty says that the peer holds none of the tensors it was asked about.
func (s *PeerSource) Empty() bool { return len(s.has) == 0 }

// Chunk fetches a chunk and waits for it. Its hash is the caller's to check.
func (s *PeerSource) Chunk(ctx context.Context, tensor manifest.Hash, index int) ([]byte, error) {
	return s.ChunkAt(ctx, tensor, index, 0)
}

// ChunkAt is Chunk that wants at most rate bytes a second of the peer, 0 for as
// many as it can send.
func (s *PeerSource) ChunkAt(ctx context.Context, tensor manifest.Hash, index int, rate uint64) ([]byte, error) {
	return s.client.Chunk(ctx, s.peer, tensor, index, rate, newRoom())
}

// Recycle takes the slice of a chunk back.
func (s *PeerSource) Recycle(chunk []byte) { recycle(chunk) }

// rooms are slices for chunks that are used again.
var rooms sync.Pool

// newRoom gives an empty slice with room for a chunk.
func newRoom() []byte {
	if room, ok := rooms.Get().(*[MaxChunk]byte); ok {
		return room[:0]
	}
	return make([]byte, 0, MaxChunk)
}

// recycle takes back what newRoom gave, whatever was put into it.
func recycle(chunk []byte) {
	if cap(chunk) == MaxChunk {
		rooms.Put((*[MaxChunk]byte)(chunk[:MaxChunk]))
	}
}

// FetchManifest asks peer for a model's manifest and checks that it is the one.
func (c *WeightsClient) FetchManifest(ctx context.Context, peer string, model manifest.Hash) (*manifest.Manifest, error) {
	b, err := c.Manifest(ctx, peer, model)
	if err != nil {
		return nil, err
	}
	m, err := manifest.DecodeAs(b, model)
	if err != nil {
		return nil, fmt.Errorf("manifest from %s: %w", peer, err)
	}
	return m, nil
}
