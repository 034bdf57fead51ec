package vocab_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/vocab"
)

// BenchmarkLoad builds the real model's vocabulary, which every start of a head waits for.
func BenchmarkLoad(b *testing.B) {
	path := os.Getenv("WEFT_TEST_MODEL")
	if path == "" {
		path = filepath.Join("..", "..", "..", "shared", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	f, err := gguf.Open(path)
	if err != nil {
		b.Skip("not run: the real model is not here; set WEFT_TEST_MODEL to SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	defer f.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := vocab.Load(f.Meta); err != nil {
			b.Fatal(err)
		}
	}
}
