package node

import (
	"context"
	"errors"
	"testing"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// A node that joined a moment ago is asked for a model before its peers'
// records have come.
func TestAModelOfWhichNoNewsHasComeIsAskedFor(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	wanted := errors.New("fetched")
	var news []remoteModel
	l := &library{
		store: s, cache: map[string]*opened{},
		offered: func() []remoteModel { return news },
		refresh: func(context.Context) { news = []remoteModel{{name: "tiny", holders: []string{"ada"}}} },
		fetch:   func(context.Context, manifest.Hash) ([]byte, error) { return nil, wanted },
	}
	if _, err := l.find(t.Context(), "tiny", func(api.Progress) {}); !errors.Is(err, wanted) {
		t.Errorf("find: %v, want that the model's header is fetched", err)
	}
	var e *api.Error
	if _, err := l.find(t.Context(), "other", func(api.Progress) {}); !errors.As(err, &e) || e.Kind != api.KindNotFound {
		t.Errorf("find of what nobody has: %v", err)
	}
}
