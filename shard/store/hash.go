package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// hashFiles makes the manifest of the model in files, reading all of it once.
func (s *Store) hashFiles(ctx context.Context, g *gguf.File, refs []FileRef, progress Progress) (*manifest.Manifest, error) {
	files := make([]*os.File, len(refs))
	for i, ref := range refs {
		f, err := ref.open()
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		files[i] = f
	}
	h := newHasher(g.Tensors, files)
	h.meter = newMeter(h.bytes, progress, s.opt.Now)
	if err := h.run(ctx, s.opt.Workers); err != nil {
		return nil, err
	}
	for i, ref := range refs { // a file that somebody writes to has no hash
		if err := ref.check(files[i]); err != nil {
			return nil, err
		}
	}
	var headers [][]byte
	for _, p := range g.Parts() {
		headers = append(headers, p.Header)
	}
	return manifest.New(headers, h.chunks)
}

// hasher hashes the chunks of all tensors in parallel, in the order in which they lie in the files.
type hasher struct {
	tensors []gguf.Tensor
	files   []*os.File
	chunks  [][]manifest.Hash // by tensor
	first   []int             // number of each tensor's first chunk, counted over all tensors
	count   int
	bytes   uint64
	meter   *meter
	next    atomic.Int64
}

func newHasher(tensors []gguf.Tensor, files []*os.File) *hasher {
	h := &hasher{tensors: tensors, files: files}
	for _, t := range tensors {
		n := int((t.Size + manifest.ChunkBytes - 1) / manifest.ChunkBytes)
		h.first = append(h.first, h.count)
		h.chunks = append(h.chunks, make([]manifest.Hash, n))
		h.count += n
		h.bytes += t.Size
	}
	return h
}

func (h *hasher) run(ctx context.Context, workers int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			if err := h.work(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	h.meter.finish()
	return nil
}

// work hashes chunk after chunk until none is left.
func (h *hasher) work(ctx context.Context) error {
	buf := make([]byte, manifest.ChunkBytes)
	tensor := 0
	for n := int(h.next.Add(1)) - 1; n < h.count && ctx.Err() == nil; n = int(h.next.Add(1)) - 1 {
		for tensor+1 < len(h.first) && h.first[tensor+1] <= n {
			tensor++
		}
		if err := h.chunk(tensor, n-h.first[tensor], buf); err != nil {
			return err
		}
	}
	return nil
}

func (h *hasher) chunk(tensor, index int, buf []byte) error {
	t := &h.tensors[tensor]
	at := uint64(index) * manifest.ChunkBytes
	b := buf[:min(t.Size-at, manifest.ChunkBytes)]
	if n, err := h.files[t.Part].ReadAt(b, int64(t.Offset+at)); n < len(b) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read tensor %s: %w", t.Name, err)
	}
	h.chunks[tensor][index] = manifest.HashChunk(b, index, t.Size)
	h.meter.add(int64(len(b)))
	return nil
}
