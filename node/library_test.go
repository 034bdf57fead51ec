package node

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

func TestAStageSparesTheVocabularyAndAHeadHasIt(t *testing.T) {
	files, err := filepath.Glob("../shard/testdata/tiny/*.gguf")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tiny model: %v", err)
	}
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs(files[0])
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Add(t.Context(), path, store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l := &library{store: s, cache: map[string]*opened{}}
	stage, err := l.shape(e)
	if err != nil {
		t.Fatal(err)
	}
	if stage.vocab != nil || stage.config.Layers == 0 || stage.sizes.Weights(stage.config.All()) == 0 {
		t.Errorf("a stage got vocabulary %v, %d layers", stage.vocab != nil, stage.config.Layers)
	}
	head, err := l.read(e)
	if err != nil {
		t.Fatal(err)
	}
	if head != stage || head.vocab == nil || head.vocab.Size() == 0 {
		t.Errorf("the head's model is another one (%v) or has no vocabulary", head != stage)
	}
	l.forget(e)
	if again, err := l.shape(e); err != nil || again.vocab != nil {
		t.Errorf("a forgotten model still has its vocabulary (%v)", err)
	}
}

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
		refresh: func(context.Context) { news = []remoteModel{{name: "tiny", tellers: []string{"ada"}}} },
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
