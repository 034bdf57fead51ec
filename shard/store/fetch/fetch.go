package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// Source is somebody who may have tensors: a peer, for example. Its methods are called by several goroutines.
type Source interface {
	// ID names the source in reports. No two sources of a fetch have the same.
	ID() string
	// Has reports whether the source is believed to have a tensor. It must answer at once.
	Has(tensor manifest.Hash) bool
	// Chunk asks for the GGUF bytes of one chunk and blocks until they are here. It must not read more than
	// manifest.ChunkBytes, however much is sent. The slice becomes the caller's.
	Chunk(ctx context.Context, tensor manifest.Hash, index int) ([]byte, error)
}

// Recycler is a Source that wants the slices of its chunks back, to use them again.
type Recycler interface {
	Source
	Recycle(chunk []byte)
}

// LastResort is a Source that may be asked only for tensors that no other source has, e.g. a server that many share.
type LastResort interface {
	Source
	LastResort() bool
}

// Sink is where whole tensors go; package store has it.
type Sink interface {
	// Has reports whether the tensor is kept already.
	Has(t *manifest.Tensor) bool
	// Put keeps a tensor. It reads src by several goroutines and returns when the tensor is safe on disk.
	Put(ctx context.Context, t *manifest.Tensor, src io.ReaderAt) error
}

// ErrNoSource is wrapped by the error of a fetch that nobody can serve any more. It says why each source was set aside.
var ErrNoSource = errors.New("no source is left that has it")

// Status is how far a fetch is.
type Status struct {
	Done    uint64  // bytes of tensors that are here and checked, those of earlier runs included
	Total   uint64  // bytes of all tensors that were asked for
	Rate    float64 // bytes a second that arrive, smoothed over some seconds
	Sources int     // sources in use
}

// Options configure a fetch. Dir and Sink are needed, the rest has defaults.
type Options struct {
	Dir  string // of partial files
	Sink Sink

	FS           packed.FS                  // nil is the disk
	Parallel     int                        // requests in flight at most, each a MiB of memory; 0 is 16
	PerSource    int                        // of those, at one source; 0 is 8
	ChunkTimeout time.Duration              // after which a request has failed; 0 is four minutes, for all requests share a slow link
	Hedge        time.Duration              // after which an idle source is asked for the same chunk too; 0 is 3 s
	Failures     int                        // failures in a row after which a source is set aside; 0 is 5
	Backoff      time.Duration              // pause after a source's first failure, doubled at each further; 0 is 200 ms
	Progress     func(Status)               // called a few times a second by one goroutine, and at the end; may be nil
	SetAside     func(id string, err error) // told of each source that is used no more, and why; may be nil
	Logger       *slog.Logger               // nil logs nothing
}

func (o *Options) ensureDefaults() {
	o.FS = orDefault[packed.FS](o.FS, packed.Disk{})
	o.Parallel = orDefault(o.Parallel, 16)
	o.PerSource = orDefault(o.PerSource, 8)
	o.ChunkTimeout = orDefault(o.ChunkTimeout, 4*time.Minute)
	o.Hedge = orDefault(o.Hedge, 3*time.Second)
	o.Failures = orDefault(o.Failures, 5)
	o.Backoff = orDefault(o.Backoff, 200*time.Millisecond)
	if o.Progress == nil {
		o.Progress = func(Status) {}
	}
	if o.SetAside == nil {
		o.SetAside = func(string, error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Fetch gets the tensors that the sink does not have yet and returns when the sink has all of them. A tensor that is
// listed twice is fetched once. When it fails or ctx ends, what has arrived stays in Options.Dir and the next call goes on
// from there. Two fetches of the same tensor must not run at once in one directory.
func Fetch(ctx context.Context, tensors []*manifest.Tensor, sources []Source, o Options) error {
	o.ensureDefaults()
	r := newRun(&o, sources)
	if err := r.plan(ctx, tensors); err != nil {
		r.close()
		return fmt.Errorf("fetch: %w", err)
	}
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	return nil
}
