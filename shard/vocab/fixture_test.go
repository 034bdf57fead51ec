package vocab_test

import (
	"bytes"
	"compress/gzip"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/shard/gguf"
)

var (
	fixtureModel = flag.String("fixture-model", "", "GGUF file whose tokenizer TestWriteFixture extracts")
	fixtureOut   = flag.String("fixture-out", "", "where TestWriteFixture writes, e.g. testdata/smollm2.gguf.gz")
)

// TestWriteFixture makes the committed vocabularies: a model's tokenizer metadata as a GGUF file without tensors, gzipped.
//
//	go test -run TestWriteFixture ./shard/vocab -fixture-model MODEL.gguf -fixture-out testdata/NAME.gguf.gz
func TestWriteFixture(t *testing.T) {
	if *fixtureModel == "" {
		t.Skip("not run: it only writes fixtures, with -fixture-model and -fixture-out")
	}
	f, err := gguf.Open(*fixtureModel)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var b gguf.Builder
	for _, key := range f.Meta.Keys() {
		if strings.HasPrefix(key, "tokenizer.") || key == "general.name" {
			val, _ := f.Meta.Value(key)
			b.Set(key, val)
		}
	}
	tokens, err := f.Meta.Strings("tokenizer.ggml.tokens")
	if err != nil {
		t.Fatal(err)
	}
	merges, err := f.Meta.Strings("tokenizer.ggml.merges")
	if err != nil {
		t.Fatal(err)
	}
	if from, splits, ok := shrinkMerges(tokens, merges); ok {
		b.Set("tokenizer.ggml.merges", []string{})
		b.Set(splitsKey, splits)
		b.Set(splitsFromKey, from)
	}
	writeFixture(t, &b, *fixtureOut)
}

// The merges of these vocabularies make the tokens one after the other, so a merge is the length of its left side, and
// the fixture half as big.
const (
	splitsKey     = "fixture.merge_splits"
	splitsFromKey = "fixture.first_merged_token"
)

func shrinkMerges(tokens, merges []string) (from int, splits []uint8, ok bool) {
	if len(merges) == 0 {
		return 0, nil, false
	}
	join := func(m string) string { i := strings.IndexByte(m, ' '); return m[:i] + m[i+1:] }
	from = slices.Index(tokens, join(merges[0]))
	if from < 0 || from+len(merges) > len(tokens) {
		return 0, nil, false
	}
	for i, m := range merges {
		at := strings.IndexByte(m, ' ')
		if tokens[from+i] != join(m) || at > 255 {
			return 0, nil, false
		}
		splits = append(splits, uint8(at))
	}
	return from, splits, true
}

// growMerges undoes shrinkMerges; metadata that was never shrunk stays as it is.
func growMerges(t testing.TB, m *gguf.Meta) *gguf.Meta {
	t.Helper()
	if !m.Has(splitsKey) {
		return m
	}
	splits, err := m.Uints(splitsKey)
	if err != nil {
		t.Fatal(err)
	}
	from, err := m.Uint(splitsFromKey)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := m.Strings("tokenizer.ggml.tokens")
	if err != nil {
		t.Fatal(err)
	}
	merges := make([]string, len(splits))
	for i, at := range splits {
		token := tokens[int(from)+i]
		merges[i] = token[:at] + " " + token[at:]
	}
	var b gguf.Builder
	b.SetAll(m)
	b.Set("tokenizer.ggml.merges", merges)
	return metaOf(t, &b)
}

// metaOf is the metadata of a file without tensors.
func metaOf(t testing.TB, b *gguf.Builder) *gguf.Meta {
	t.Helper()
	var buf bytes.Buffer
	if err := b.Write(&buf, nil); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return f.Meta
}

func writeFixture(t *testing.T, b *gguf.Builder, path string) {
	t.Helper()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Write(z, nil); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
