package gguf_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/weft-mesh/weft/shard/gguf"
)

// openTest opens a model of testdata and closes it at the test's end.
func openTest(t *testing.T, path string) *gguf.File {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// realModel is the path of the SmolLM2 model, or skips the test.
func realModel(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("WEFT_TEST_MODEL"); p != "" {
		return p
	}
	p := filepath.Join("..", "..", "..", "shared", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(p); err != nil {
		t.Skip("not run: the SmolLM2 model is not here; set WEFT_TEST_MODEL to its path")
	}
	return p
}

func TestTinyModelsReadAsTheirGeneratorWroteThem(t *testing.T) {
	for _, c := range []struct {
		file, arch string
		layers     uint64
		tensors    int
	}{{"llama-Q2_K.gguf", "llama", 2, 0}, {"qwen3-Q4_K_M.gguf", "qwen3", 2, 0}} {
		f := openTest(t, filepath.Join("testdata", c.file))
		arch, err := f.Meta.String("general.architecture")
		if err != nil || arch != c.arch {
			t.Errorf("%s: architecture %q, %v", c.file, arch, err)
		}
		for key, want := range map[string]uint64{"embedding_length": 256, "context_length": 2048, "feed_forward_length": 256} {
			if got, err := f.Meta.Uint(arch + "." + key); err != nil || got != want {
				t.Errorf("%s: %s is %d, %v; want %d", c.file, key, got, err, want)
			}
		}
		emb, ok := f.Tensor("token_embd.weight")
		if !ok || !cmp.Equal(emb.Dims, []uint64{256, 320}) {
			t.Errorf("%s: token_embd %+v", c.file, emb)
		}
		data, err := f.Data(emb)
		if err != nil || uint64(len(data)) != emb.Size {
			t.Errorf("%s: %d bytes, %v", c.file, len(data), err)
		}
	}
}

func TestRealModelReads(t *testing.T) {
	f := openTest(t, realModel(t))
	kinds := map[gguf.Type]int{}
	for _, ten := range f.Tensors {
		kinds[ten.Type]++
	}
	want := map[gguf.Type]int{gguf.Q4_1: 210, gguf.Q8_0: 1, gguf.F32: 61}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Error(diff)
	}
	tokens, err := f.Meta.Strings("tokenizer.ggml.tokens")
	if err != nil || len(tokens) != 49152 {
		t.Errorf("%d tokens, %v", len(tokens), err)
	}
}
