package node

import (
	"path/filepath"
	"testing"

	"github.com/weft-mesh/weft/shard/store"
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
