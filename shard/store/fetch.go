package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// Fetch gets tensors that are not on this machine from sources, packs them and keeps them packed only. It goes on where
// an earlier call was cut off. Dir, Sink and FS of the options are set here. The tensors must belong to models that have
// an entry (Import makes one), or Sweep takes them away again. Calls wait for
// one another.
func (s *Store) Fetch(ctx context.Context, tensors []*manifest.Tensor, sources []fetch.Source, o fetch.Options) error {
	select { // one at a time: two that want the same tensor would write the same partial file
	case s.fetching <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.fetching }()
	unlock, err := s.lockPartial(ctx)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	defer unlock()
	release, err := s.reserveFetch(tensors)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	defer release()
	o.Dir, o.Sink, o.FS = s.PartialDir(), s, s.opt.FS
	if o.Logger == nil {
		o.Logger = s.opt.Logger
	}
	return errors.Join(fetch.Fetch(ctx, tensors, sources, o), s.opt.FS.SyncDir(s.packed))
}

// lockTry is how often a fetch looks whether that of another process has ended.
const lockTry = 100 * time.Millisecond

// lockPartial waits until no other process fetches into this home.
func (s *Store) lockPartial(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "fetch.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(lockTry)
	defer tick.Stop()
	for {
		err := tryLock(f)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, errBusy) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		}
	}
}

// reserveFetch makes room for tensors that are to be fetched: their packed files, and the partial ones of the two that are
// packed at a time, less what is here of them.
func (s *Store) reserveFetch(tensors []*manifest.Tensor) (release func(), err error) {
	var specs []packed.Spec
	var largest, second uint64
	seen := make(map[string]bool)
	for _, t := range tensors {
		spec := packed.SpecOf(t)
		if name := spec.Name(); seen[name] || s.hasPacked(spec) {
			continue
		}
		seen[spec.Name()] = true
		specs = append(specs, spec)
		if _, err := os.Stat(fetch.PartPath(s.PartialDir(), t.Hash)); err != nil {
			largest, second = max(largest, t.Size), max(second, min(largest, t.Size))
		}
	}
	return s.reserve(specs, largest+second)
}
