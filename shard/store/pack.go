package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// ErrMissing is wrapped by errors about tensors whose weights are not on this machine.
var ErrMissing = errors.New("weights are not on this machine")

// packJob is a tensor that is being packed. Others that want it wait for done.
type packJob struct {
	done chan struct{}
	err  error // set before done is closed
}

// hasPacked reports whether the tensor's packed file is there, by its name and size.
func (s *Store) hasPacked(spec packed.Spec) bool {
	st, err := os.Stat(filepath.Join(s.packed, spec.Name()))
	return err == nil && st.Size() == spec.Bytes()
}

// Has reports whether a tensor's bytes can be given to a peer or packed: they are kept packed, or stand in a file of the
// user that is as it was.
func (s *Store) Has(t *manifest.Tensor) bool {
	if s.hasPacked(packed.SpecOf(t)) {
		return true
	}
	src, err := s.openSource(t)
	if err != nil {
		return false
	}
	_ = src.Close()
	return true
}

// source is the GGUF bytes of one tensor in a user's file.
type source struct {
	*io.SectionReader
	file *os.File
}

func (s source) Close() error { return s.file.Close() }

// openSource opens the first user's file that holds the tensor.
func (s *Store) openSource(t *manifest.Tensor) (source, error) {
	s.mu.Lock()
	places := s.places[t.Hash]
	s.mu.Unlock()
	r, err := s.view()
	if err != nil {
		return source{}, err
	}
	var first error
	for _, p := range places {
		for _, e := range r.Entries {
			if e.Model != p.model || p.tensor.File >= len(e.Files) {
				continue
			}
			f, err := e.Files[p.tensor.File].open()
			if err == nil {
				return source{tensorBytes(f, p.tensor), f}, nil
			}
			first = errors.Join(first, err)
		}
	}
	if first != nil {
		return source{}, fmt.Errorf("tensor %s: %w", t.Name, first)
	}
	return source{}, fmt.Errorf("tensor %s: %w; they must be fetched from a peer that has the model", t.Name, ErrMissing)
}

// ensure makes sure that the tensor's packed file is there, packing it from a user's file if need be. Only one caller
// packs a tensor at a time.
func (s *Store) ensure(ctx context.Context, t *manifest.Tensor, o packed.Options) error {
	return s.once(ctx, packed.SpecOf(t), o.Done, func() error {
		src, err := s.openSource(t)
		if err != nil {
			return err
		}
		defer func() { _ = src.Close() }()
		if err := s.pack(ctx, t, src, o); errors.Is(err, manifest.ErrWrongChunk) {
			return fmt.Errorf("%w: %w; add the model again with weft add", ErrSource, err)
		} else if err != nil {
			return err
		}
		return nil
	})
}

// Put packs a whole tensor whose GGUF bytes are in src, each chunk of which was checked when it came, and keeps it. Its content is safe on disk
// then; its name is when Fetch has ended, and a tensor whose name was lost is fetched again. It is what package fetch needs
// of the store.
func (s *Store) Put(ctx context.Context, t *manifest.Tensor, src io.ReaderAt) error {
	return s.once(ctx, packed.SpecOf(t), nil, func() error {
		return s.packChecked(ctx, t, src, s.packOptions(true, nil))
	})
}

// once runs make unless the file of spec is there; if another caller is making it, it waits for that one.
func (s *Store) once(ctx context.Context, spec packed.Spec, done func(int64), make func() error) error {
	name := spec.Name()
	for {
		if s.hasPacked(spec) {
			if done != nil {
				done(spec.Size)
			}
			return nil
		}
		job, mine := s.startJob(name)
		if mine {
			job.err = make()
			s.endJob(name, job)
			return job.err
		}
		select {
		case <-job.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if job.err != nil && !errors.Is(job.err, context.Canceled) && !errors.Is(job.err, context.DeadlineExceeded) {
			return job.err
		}
	}
}

// startJob gives the running job of that name, or a new one that is the caller's to do.
func (s *Store) startJob(name string) (job *packJob, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if job, ok := s.packing[name]; ok {
		return job, false
	}
	job = &packJob{done: make(chan struct{})}
	s.packing[name] = job
	return job, true
}

func (s *Store) endJob(name string, job *packJob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.packing, name)
	close(job.done)
}

// pack checks the tensor's bytes and writes its packed file.
func (s *Store) pack(ctx context.Context, t *manifest.Tensor, src io.ReaderAt, o packed.Options) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := checkTensor(src, t, make([]byte, min(t.Size, manifest.ChunkBytes))); err != nil {
		return err
	}
	return s.packChecked(ctx, t, src, o)
}

// packChecked writes the packed file of bytes that are known to be the tensor's.
func (s *Store) packChecked(ctx context.Context, t *manifest.Tensor, src io.ReaderAt, o packed.Options) error {
	if err := packed.Create(ctx, s.packed, packed.SpecOf(t), src, o); err != nil {
		return fmt.Errorf("pack tensor %s: %w", t.Name, err)
	}
	return nil
}
