package vocab_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/vocab"
)

// spmReference is a vocabulary and what the sentencepiece package makes of strings with it (scripts/spm-reference).
type spmReference struct {
	Prefix  bool      `json:"add_space_prefix"`
	Squeeze bool      `json:"remove_extra_whitespaces"`
	Pieces  []string  `json:"pieces"`
	Scores  []float32 `json:"scores"`
	Types   []int32   `json:"types"`
	Cases   []struct {
		Text    string  `json:"text"`
		IDs     []int32 `json:"ids"`
		Decoded string  `json:"decoded"`
	} `json:"cases"`
}

func readSPM(t testing.TB, name string) (spmReference, *vocab.Vocab) {
	t.Helper()
	var ref spmReference
	if err := json.Unmarshal(gunzip(t, filepath.Join("testdata", name+".json.gz")), &ref); err != nil {
		t.Fatal(err)
	}
	var b gguf.Builder
	b.Set("tokenizer.ggml.model", "llama")
	b.Set("tokenizer.ggml.tokens", ref.Pieces)
	b.Set("tokenizer.ggml.scores", ref.Scores)
	b.Set("tokenizer.ggml.token_type", ref.Types)
	b.Set("tokenizer.ggml.add_space_prefix", ref.Prefix)
	b.Set("tokenizer.ggml.remove_extra_whitespaces", ref.Squeeze)
	v, err := vocab.Load(metaOf(t, &b))
	if err != nil {
		t.Fatal(err)
	}
	return ref, v
}

func TestSentencePieceVocabulariesEqualThePackage(t *testing.T) {
	for _, name := range []string{"spm_llama", "spm_squeeze", "spm_plain"} {
		ref, v := readSPM(t, name)
		if len(ref.Cases) < 100 {
			t.Fatalf("%s: only %d cases", name, len(ref.Cases))
		}
		for _, c := range ref.Cases {
			got := v.Encode(c.Text, vocab.EncodeOptions{})
			if !slices.Equal(got, c.IDs) {
				t.Errorf("%s: %q: ids %v, want %v", name, c.Text, got, c.IDs)
			}
			if got := v.Decode(c.IDs, vocab.DecodeOptions{WholeText: true}); got != c.Decoded {
				t.Errorf("%s: %q: decoded %q, want %q", name, c.Text, got, c.Decoded)
			}
		}
	}
}
