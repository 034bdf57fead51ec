package vocab_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/vocab"
)

// referenceCase is one string with the ids that an independent engine gave.
type referenceCase struct {
	ID           int     `json:"id"`
	Category     string  `json:"category"`
	Text         string  `json:"text"`
	IDsPlain     []int32 `json:"ids_plain"`
	DetokPlain   string  `json:"detok_plain"`
	IDsSpecial   []int32 `json:"ids_special"`
	DetokSpecial string  `json:"detok_special"`
}

func gunzip(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// loadFixture loads a vocabulary from a gzipped GGUF file without tensors.
func loadFixture(t testing.TB, name string) *vocab.Vocab {
	t.Helper()
	b := gunzip(t, filepath.Join("testdata", name+".gguf.gz"))
	f, err := gguf.Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	v, err := vocab.Load(growMerges(t, f.Meta))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The big vocabularies take a while to load, and a Vocab is immutable.
var (
	loadSmolLM2 sync.Once
	smolLM2     *vocab.Vocab
)

func smollm2(t testing.TB) *vocab.Vocab {
	t.Helper()
	loadSmolLM2.Do(func() { smolLM2 = loadFixture(t, "smollm2") })
	if smolLM2 == nil {
		t.Fatal("the smollm2 fixture did not load")
	}
	return smolLM2
}

func referenceCases(t *testing.T, name string) []referenceCase {
	t.Helper()
	var file struct{ Cases []referenceCase }
	if err := json.Unmarshal(gunzip(t, filepath.Join("testdata", name+".json.gz")), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) < 100 {
		t.Fatalf("only %d cases", len(file.Cases))
	}
	return file.Cases
}

func checkReference(t *testing.T, v *vocab.Vocab, cases []referenceCase) {
	t.Helper()
	for _, c := range cases {
		plain := v.Encode(c.Text, vocab.EncodeOptions{})
		if !slices.Equal(plain, c.IDsPlain) {
			t.Errorf("case %d (%s) %q: plain ids %v, want %v", c.ID, c.Category, c.Text, plain, c.IDsPlain)
		}
		special := v.Encode(c.Text, vocab.EncodeOptions{ParseSpecial: true})
		if !slices.Equal(special, c.IDsSpecial) {
			t.Errorf("case %d (%s) %q: special ids %v, want %v", c.ID, c.Category, c.Text, special, c.IDsSpecial)
		}
		if got := v.Decode(c.IDsPlain, vocab.DecodeOptions{Special: true}); got != c.DetokPlain {
			t.Errorf("case %d (%s): decoded %q, want %q", c.ID, c.Category, got, c.DetokPlain)
		}
		if got := v.Decode(c.IDsSpecial, vocab.DecodeOptions{Special: true}); got != c.DetokSpecial {
			t.Errorf("case %d (%s): decoded %q, want %q", c.ID, c.Category, got, c.DetokSpecial)
		}
	}
}

func TestSmolLM2EqualsTheIndependentEngine(t *testing.T) {
	checkReference(t, smollm2(t), referenceCases(t, "reference_smollm2"))
}

func TestQwenEqualsTheIndependentEngine(t *testing.T) {
	checkReference(t, loadFixture(t, "qwen25coder"), referenceCases(t, "reference_qwen"))
}

func TestFixtureIsTheRealModelsVocabulary(t *testing.T) {
	path := os.Getenv("WEFT_TEST_MODEL")
	if path == "" {
		path = filepath.Join("..", "..", "..", "shared", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
		if _, err := os.Stat(path); err != nil {
			t.Skip("not run: the SmolLM2 model is not here; set WEFT_TEST_MODEL to its path")
		}
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	v, err := vocab.Load(f.Meta)
	if err != nil {
		t.Fatal(err)
	}
	if v.Hash() != smollm2(t).Hash() {
		t.Error("the committed fixture differs from the model's own vocabulary")
	}
}
