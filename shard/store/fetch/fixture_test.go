package fetch_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tensors makes tensors of the given sizes with random bytes.
func tensors(sizes ...int) ([]*manifest.Tensor, map[manifest.Hash][]byte) {
	var out []*manifest.Tensor
	data := make(map[manifest.Hash][]byte)
	for i, n := range sizes {
		var key [32]byte
		binary.LittleEndian.PutUint64(key[:], uint64(i*1000003+n))
		b := make([]byte, n)
		_, _ = rand.NewChaCha8(key).Read(b)
		t := &manifest.Tensor{Name: fmt.Sprintf("t%d", i), Type: gguf.I8, Dims: []uint64{uint64(n)}, Size: uint64(n)}
		for c := 0; c*manifest.ChunkBytes < n; c++ {
			t.Chunks = append(t.Chunks, manifest.HashChunk(b[c*manifest.ChunkBytes:min(n, (c+1)*manifest.ChunkBytes)], c, t.Size))
		}
		t.Hash = manifest.Root(t.Chunks)
		data[t.Hash] = b
		out = append(out, t)
	}
	return out, data
}

// peer gives chunks of data, well or badly.
type peer struct {
	id    string
	data  map[manifest.Hash][]byte
	delay time.Duration
	bad   func(call int64) (change func([]byte) []byte, err error) // nil is an honest peer
	calls atomic.Int64
	hangs bool
}

func (p *peer) ID() string               { return p.id }
func (p *peer) Has(h manifest.Hash) bool { return p.data[h] != nil }
func chunkOf(b []byte, i int) []byte {
	return b[i*manifest.ChunkBytes : min(len(b), (i+1)*manifest.ChunkBytes)]
}
func flip(b []byte) []byte   { b[len(b)/2] ^= 1; return b }
func (p *peer) count() int64 { return p.calls.Load() }
func (p *peer) wait(ctx context.Context) error {
	select {
	case <-time.After(p.delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *peer) Chunk(ctx context.Context, h manifest.Hash, i int) ([]byte, error) {
	n := p.calls.Add(1)
	if p.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if p.delay > 0 {
		if err := p.wait(ctx); err != nil {
			return nil, err
		}
	}
	b := bytes.Clone(chunkOf(p.data[h], i))
	if p.bad != nil {
		change, err := p.bad(n)
		if err != nil {
			return nil, err
		}
		if change != nil {
			return change(b), nil
		}
	}
	return b, nil
}

// shelf is a sink in memory.
type shelf struct {
	mu  sync.Mutex // guards got
	got map[manifest.Hash][]byte
	err error
}

func (s *shelf) Has(t *manifest.Tensor) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[t.Hash] != nil
}

func (s *shelf) Put(_ context.Context, t *manifest.Tensor, src io.ReaderAt) error {
	if s.err != nil {
		return s.err
	}
	b := make([]byte, t.Size)
	if _, err := src.ReadAt(b, 0); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[t.Hash] = b
	return nil
}

func newShelf() *shelf { return &shelf{got: make(map[manifest.Hash][]byte)} }

type tester interface {
	Helper()
	Fatalf(string, ...any)
}

func (s *shelf) expect(t tester, want map[manifest.Hash][]byte) {
	t.Helper()
	if len(s.got) != len(want) {
		t.Fatalf("%d tensors arrived, %d were expected", len(s.got), len(want))
	}
	for h, b := range want {
		if !bytes.Equal(s.got[h], b) {
			t.Fatalf("tensor %s arrived wrong", h.Short())
		}
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
