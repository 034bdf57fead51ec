package store

import (
	"errors"
	"fmt"
	"os"

	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// ReadChunk gives chunk index of the tensor with that hash, as GGUF bytes: read from a user's file, or unpacked. The
// bytes have been checked against the manifest, so a node never sends wrong ones. Errors wrap ErrMissing for a tensor
// that is not here. The slice is the caller's. Any number of goroutines may call it.
func (s *Store) ReadChunk(tensor manifest.Hash, index int) ([]byte, error) {
	return s.ReadChunkInto(nil, tensor, index)
}

// ReadChunkInto is ReadChunk that uses the room of dst if it suffices.
func (s *Store) ReadChunkInto(dst []byte, tensor manifest.Hash, index int) ([]byte, error) {
	t, err := s.lookup(tensor)
	if err != nil {
		return nil, err
	}
	return s.chunk(dst, t, index)
}

// HasTensor reports whether ReadChunk can give the chunks of the tensor with that hash.
func (s *Store) HasTensor(tensor manifest.Hash) bool {
	t, err := s.lookup(tensor)
	return err == nil && s.Has(t)
}

// lookup finds a tensor by its hash among the models of the store.
func (s *Store) lookup(tensor manifest.Hash) (*manifest.Tensor, error) {
	if t := s.known(tensor); t != nil {
		return t, nil
	}
	entries, err := s.List()
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if _, err := s.Manifest(entries[i].Model); err != nil {
			s.opt.Logger.Warn("manifest cannot be read", "model", entries[i].Ref(), "error", err)
		}
	}
	if t := s.known(tensor); t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("tensor %s: %w: no model here has it", tensor.Short(), ErrMissing)
}

func (s *Store) known(tensor manifest.Hash) *manifest.Tensor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.places[tensor]; len(p) > 0 {
		return p[0].tensor
	}
	return nil
}

// chunk reads one chunk from wherever the tensor is, into dst's room or new room.
func (s *Store) chunk(dst []byte, t *manifest.Tensor, index int) ([]byte, error) {
	size := t.ChunkSize(index)
	if size == 0 {
		return nil, fmt.Errorf("tensor %s has no chunk %d, only %d", t.Name, index, len(t.Chunks))
	}
	b := dst[:0]
	if cap(b) < size {
		b = make([]byte, size)
	}
	b = b[:size]
	err := s.readSource(t, index, b)
	if err == nil {
		return b, nil
	}
	if perr := s.readPacked(t, index, b); perr == nil {
		return b, nil
	} else if !errors.Is(perr, os.ErrNotExist) {
		err = perr
	}
	return nil, err
}

func (s *Store) readSource(t *manifest.Tensor, index int, b []byte) error {
	src, err := s.openSource(t)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	if n, err := src.ReadAt(b, int64(index)*manifest.ChunkBytes); n < len(b) {
		return fmt.Errorf("tensor %s: %w: %w", t.Name, ErrSource, err)
	}
	if err := t.Check(index, b); err != nil {
		return fmt.Errorf("%w: %w; add the model again with weft add", ErrSource, err)
	}
	return nil
}

func (s *Store) readPacked(t *manifest.Tensor, index int, b []byte) error {
	spec := packed.SpecOf(t)
	f, err := s.acquire(spec)
	if err != nil {
		return err
	}
	defer func() { _ = s.release(spec) }()
	if _, err := f.ReadAt(b, int64(index)*manifest.ChunkBytes); err != nil {
		return fmt.Errorf("tensor %s: %w", t.Name, err)
	}
	if err := t.Check(index, b); err != nil {
		return fmt.Errorf("%w: %w; remove the model and pull it again", packed.ErrDamaged, err)
	}
	return nil
}
