package node_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/shard/gguf"
)

// altered is a copy of a tiny model with other metadata or tensors.
func altered(t *testing.T, change func(b *gguf.Builder, t *gguf.Tensor)) string {
	t.Helper()
	f, err := gguf.Open(tinyModels + "llama-Q4_0.gguf")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b gguf.Builder
	b.SetAll(f.Meta)
	change(&b, nil)
	from := map[string]gguf.Tensor{}
	for _, tensor := range f.Tensors {
		was := tensor
		change(&b, &tensor)
		if tensor.Name == "" {
			continue
		}
		from[tensor.Name] = was
		b.Add(tensor.Name, tensor.Type, tensor.Dims...)
	}
	var out bytes.Buffer
	err = b.Write(&out, func(t gguf.Tensor, w io.Writer) error {
		data, err := f.Data(from[t.Name])
		if err != nil {
			return err
		}
		data = append(bytes.Clone(data), make([]byte, t.Size)...)
		_, err = w.Write(data[:t.Size])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return write(t, out.Bytes())
}

func write(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bad.gguf")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestModelsThatCannotRunAreRefusedByName(t *testing.T) {
	solo := start(t, api.Config{Name: "solo", Solo: true})
	whole, err := os.ReadFile(tinyModels + "llama-Q4_0.gguf")
	if err != nil {
		t.Fatal(err)
	}
	set := func(key string, v any) string {
		return altered(t, func(b *gguf.Builder, tensor *gguf.Tensor) {
			if tensor == nil {
				b.Set(key, v)
			}
		})
	}
	huge := bytes.Clone(whole)
	for i := 8; i < 16; i++ {
		huge[i] = 0x7f // the number of tensors
	}
	for name, c := range map[string]struct {
		path string
		want []string
	}{
		"no file":                {filepath.Join(t.TempDir(), "none.gguf"), []string{"none.gguf", "no such file"}},
		"a directory":            {t.TempDir(), []string{"regular file"}},
		"empty":                  {write(t, nil), []string{"bad.gguf"}},
		"not a model":            {write(t, []byte("<html>not found</html> and more of it")), []string{"bad.gguf", "GGUF"}},
		"cut in the header":      {write(t, whole[:1000]), []string{"bad.gguf"}},
		"cut in the weights":     {write(t, whole[:len(whole)-5000]), []string{"bad.gguf"}},
		"a hostile count":        {write(t, huge), []string{"bad.gguf"}},
		"unknown architecture":   {set("general.architecture", "hal9000"), []string{"hal9000", "llama"}},
		"unknown tokenizer":      {set("tokenizer.ggml.model", "morse"), []string{"morse"}},
		"unknown pre-tokenizer":  {altered(t, morsePre), []string{"morse-pre"}},
		"a missing tensor":       {altered(t, without("blk.1.ffn_up.weight")), []string{"blk.1.ffn_up.weight"}},
		"a tensor type not used": {altered(t, typed("blk.0.ffn_up.weight", "I32")), []string{"blk.0.ffn_up.weight", "I32"}},
		"absurd heads":           {set("llama.attention.head_count", uint32(0)), []string{"head_count"}},
	} {
		_, err := solo.Node().AddModel(t.Context(), api.AddRequest{Path: c.path, Name: "bad"}, func(api.Progress) {})
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", name, err, part)
			}
		}
		if k := kindOf(err); k != api.KindInvalid && k != api.KindNotFound {
			t.Errorf("%s: kind %q of %v", name, k, err)
		}
	}
	ms, err := solo.Node().Models(t.Context())
	if err != nil || len(ms) != 0 {
		t.Errorf("the store holds %+v, %v", ms, err)
	}
	// The node is well: a good file runs.
	m := add(t, solo, api.AddRequest{Path: tinyModels + "llama-Q4_0.gguf", Context: 64})
	if _, err := generate(t, solo, greedy(m.Name, sequence(1, 8), 2)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, solo)
}

func morsePre(b *gguf.Builder, tensor *gguf.Tensor) {
	if tensor == nil {
		b.Set("tokenizer.ggml.model", "gpt2")
		b.Set("tokenizer.ggml.pre", "morse-pre")
	}
}

func without(name string) func(*gguf.Builder, *gguf.Tensor) {
	return func(_ *gguf.Builder, t *gguf.Tensor) {
		if t != nil && t.Name == name {
			t.Name = ""
		}
	}
}

func typed(name, typ string) func(*gguf.Builder, *gguf.Tensor) {
	return func(_ *gguf.Builder, t *gguf.Tensor) {
		if t == nil || t.Name != name {
			return
		}
		for i := range gguf.Type(64) {
			if i.Known() && i.String() == typ {
				t.Type = i
			}
		}
	}
}

func TestRequestsThatMakeNoSenseAreRefused(t *testing.T) {
	solo := start(t, api.Config{Name: "solo", Solo: true})
	if _, err := generate(t, solo, greedy("", sequence(1, 8), 2)); kindOf(err) != api.KindNotFound {
		t.Errorf("without a model: %v", err)
	}
	m := add(t, solo, api.AddRequest{Path: tinyModels + "llama-Q4_0.gguf", Context: 64})
	for name, c := range map[string]struct {
		change func(*api.GenerateRequest)
		kind   api.Kind
		want   string
	}{
		"unknown model":       {func(r *api.GenerateRequest) { r.Model = "gpt-17" }, api.KindNotFound, "gpt-17"},
		"token of no word":    {func(r *api.GenerateRequest) { r.Tokens = []int32{1, 99999} }, api.KindInvalid, "99999"},
		"negative token":      {func(r *api.GenerateRequest) { r.Tokens = []int32{-1} }, api.KindInvalid, "-1"},
		"negative max tokens": {func(r *api.GenerateRequest) { r.MaxTokens = -1 }, api.KindInvalid, "negative"},
		"context too large":   {func(r *api.GenerateRequest) { r.Context = 65 }, api.KindInvalid, "--ctx 65"},
		"temperature":         {func(r *api.GenerateRequest) { r.Temperature = ptr(-1.0) }, api.KindInvalid, "temperature"},
		"top_p":               {func(r *api.GenerateRequest) { r.TopP = ptr(1.5) }, api.KindInvalid, "top_p"},
		"min_p":               {func(r *api.GenerateRequest) { r.MinP = ptr(-0.5) }, api.KindInvalid, "min_p"},
		"too many biases": {func(r *api.GenerateRequest) {
			r.LogitBias = map[int]float64{}
			for i := range 1025 {
				r.LogitBias[i] = 1
			}
		}, api.KindInvalid, "at most 1024"},
		"a bias too large": {func(r *api.GenerateRequest) { r.LogitBias = map[int]float64{1: 101} }, api.KindInvalid, "101"},
		"bias of no word":  {func(r *api.GenerateRequest) { r.LogitBias = map[int]float64{99999: 1} }, api.KindInvalid, "99999"},
	} {
		r := greedy(m.Name, sequence(1, 8), 2)
		c.change(&r)
		_, err := generate(t, solo, r)
		if kindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: kind %q: %v", name, kindOf(err), err)
		}
	}
	for name, q := range map[string]api.AddRequest{
		"activations": {Path: tinyModels + "llama-Q4_0.gguf", ActBits: 7}, "kv": {Path: tinyModels + "llama-Q4_0.gguf", KV: "f8"},
		"context": {Path: tinyModels + "llama-Q4_0.gguf", Context: -4},
	} {
		if _, err := solo.Node().AddModel(t.Context(), q, func(api.Progress) {}); kindOf(err) != api.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := solo.Node().RemoveModel(t.Context(), "nobody"); kindOf(err) != api.KindNotFound {
		t.Errorf("removing nobody: %v", err)
	}
	if err := solo.Node().Leave(t.Context()); kindOf(err) != api.KindInvalid {
		t.Errorf("leaving no mesh: %v", err)
	}
	nothingLeft(t, solo)
}
