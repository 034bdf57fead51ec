package vocab

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func wordsOf(name, text string) []string {
	out := []string{}
	pretokenizers[name].words(text, func(w string) { out = append(out, w) })
	return out
}

func TestScannersCutAsTheModelsOwnExpressionsDo(t *testing.T) {
	f, err := os.Open(filepath.Join("testdata", "pretokens.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var ref struct {
		Texts []string
		Words map[string][][]string
	}
	if err := json.NewDecoder(z).Decode(&ref); err != nil {
		t.Fatal(err)
	}
	if len(ref.Words) < 15 {
		t.Fatalf("only %d expressions", len(ref.Words))
	}
	for name, words := range ref.Words {
		failed := 0
		for i, text := range ref.Texts {
			if got := wordsOf(name, text); text != "" && !slices.Equal(got, words[i]) && failed < 5 {
				t.Errorf("%s: %q is cut into %q, want %q", name, text, got, words[i])
				failed++
			}
		}
	}
}

func TestWordsTogetherAreTheText(t *testing.T) {
	names := Pretokenizers()
	parts := rapid.SampledFrom([]string{"a", "B", "中", "e\u0301", " ", "  ", "\n", "\r", "12", "'s", "'", "!", "\xff", "\xe4\xb8", "😀", "\u3000", "…"})
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(names).Draw(t, "name")
		text := strings.Join(rapid.SliceOf(parts).Draw(t, "text"), "")
		words := wordsOf(name, text)
		if text != "" && (strings.Join(words, "") != text || slices.Contains(words, "")) {
			t.Fatalf("%s: %q is cut into %q", name, text, words)
		}
	})
}

func TestNoTextTakesLongToCut(t *testing.T) {
	n := 1 << 16
	if testing.Short() {
		n = 1 << 14
	}
	texts := []string{
		strings.Repeat(" ", n) + "x", strings.Repeat("\n", n) + "x", strings.Repeat("1", n) + "x", strings.Repeat("A", n) + "1",
		strings.Repeat("中", n/3) + strings.Repeat("A", n), strings.Repeat("中A", n/4), strings.Repeat("'", n), strings.Repeat(" \n", n/2),
		strings.Repeat("!", n), strings.Repeat("\xff", n), strings.Repeat("\u0301", n/2), strings.Repeat("x ", n/2),
	}
	start := time.Now()
	for _, name := range Pretokenizers() {
		for _, text := range texts {
			n := 0
			pretokenizers[name].words(text, func(w string) { n += len(w) })
			if n != len(text) {
				t.Fatalf("%s: %d of %d bytes", name, n, len(text))
			}
		}
	}
	// Quadratic behaviour takes minutes here; linear a second or two.
	if d := time.Since(start); d > 60*time.Second {
		t.Errorf("took %v", d)
	}
}
