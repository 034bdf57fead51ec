package store

import (
	"context"

	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
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
	o.Dir, o.Sink, o.FS = s.PartialDir(), s, s.opt.FS
	if o.Logger == nil {
		o.Logger = s.opt.Logger
	}
	return fetch.Fetch(ctx, tensors, sources, o)
}
