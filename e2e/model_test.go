//go:build unix

package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/shard/gguf"
)

const tiny = "../shard/testdata/tiny/llama-Q8_0.gguf"

// deep writes a model of that many layers, which repeat those of the tiny one:
// as large and as slow as a test wants it.
func deep(t *testing.T, layers int) string {
	t.Helper()
	f, err := gguf.Open(tiny)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	has, err := f.Meta.Uint("llama.block_count")
	if err != nil {
		t.Fatal(err)
	}
	var b gguf.Builder
	b.SetAll(f.Meta)
	b.Set("llama.block_count", uint32(layers))
	b.Set("llama.context_length", uint32(8192))
	b.Set("tokenizer.chat_template", "{% for m in messages %}{{ m.content }}\n{% endfor %}")
	from := map[string]gguf.Tensor{}
	for _, tensor := range f.Tensors {
		var l int
		if _, err := fmt.Sscanf(tensor.Name, "blk.%d.", &l); err != nil {
			from[tensor.Name] = tensor
			b.Add(tensor.Name, tensor.Type, tensor.Dims...)
			continue
		}
		rest := strings.SplitN(tensor.Name, ".", 3)[2]
		for ; l < layers; l += int(has) {
			name := fmt.Sprintf("blk.%d.%s", l, rest)
			from[name] = tensor
			b.Add(name, tensor.Type, tensor.Dims...)
		}
	}
	path := filepath.Join(t.TempDir(), "deep.gguf")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := b.Write(out, func(t gguf.Tensor, w io.Writer) error {
		data, err := f.Data(from[t.Name])
		if err != nil {
			return err
		}
		var l int
		if _, err := fmt.Sscanf(t.Name, "blk.%d.", &l); err == nil {
			data = vary(t, data, l/int(has))
		}
		_, err = w.Write(data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return path
}

// vary makes a layer's Q8_0 matrix one of its own, so that the store cannot keep
// many layers as one: a block is a scale of two bytes and 32 weights.
func vary(t gguf.Tensor, data []byte, by int) []byte {
	if t.Type.String() != "Q8_0" {
		return data
	}
	data = bytes.Clone(data)
	for i := range data {
		if i%34 >= 2 && i%3 == 0 {
			data[i] ^= byte(by) & 63
		}
	}
	return data
}

// real is the path of the model that people run, or the test is not run.
func real(t *testing.T) string {
	t.Helper()
	const name = "SmolLM2-135M-Instruct.Q4_1.gguf"
	for _, path := range []string{os.Getenv("WEFT_TEST_MODEL"), filepath.Join("..", "..", "shared", "models", name)} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err == nil {
			abs, err := filepath.Abs(path)
			if err != nil {
				t.Fatal(err)
			}
			return abs
		}
	}
	t.Skip("not run: no " + name + "; put it into ../shared/models or name one with WEFT_TEST_MODEL")
	return ""
}
