package store_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/store"
)

// writeSplit writes the tensors of g into two files.
func writeSplit(t *testing.T, g *gguf.File, dir string, data map[string][]byte) {
	t.Helper()
	half := len(g.Tensors) / 2
	for no, part := range [][]gguf.Tensor{g.Tensors[:half], g.Tensors[half:]} {
		var b gguf.Builder
		if no == 0 {
			b.SetAll(g.Meta)
			b.Set("split.tensors.count", int32(len(g.Tensors)))
		}
		b.Set("split.no", uint16(no))
		b.Set("split.count", uint16(2))
		for _, x := range part {
			b.Add(x.Name, x.Type, x.Dims...)
		}
		f, err := os.Create(filepath.Join(dir, gguf.SplitName("parts", no, 2)))
		if err != nil {
			t.Fatal(err)
		}
		err = b.Write(f, func(x gguf.Tensor, w io.Writer) error {
			_, err := w.Write(data[x.Name])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// realModel finds the model file that tests on a real one use.
func realModel(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("WEFT_TEST_MODEL"); path != "" {
		return path
	}
	found, _ := filepath.Glob("../../../shared/models/*.gguf")
	if len(found) == 0 {
		t.Skip("not run: there is no real model; set WEFT_TEST_MODEL to a GGUF file")
	}
	return found[0]
}

func TestRealModelIsServedFromItsPackedForm(t *testing.T) {
	if testing.Short() {
		t.Skip("not run: packing a real model takes too long for a short test")
	}
	path := realModel(t)
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, store.Options{})
	copied := filepath.Join(s.DownloadDir(), "real.gguf")
	if err := os.WriteFile(copied, src, 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	e, err := s.Adopt(t.Context(), copied, store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("hashed, packed, compared and removed in %s", time.Since(start))
	m, err := s.Model(e)
	if err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	for i := range m.Manifest().Tensors {
		if x := &m.Manifest().Tensors[i]; len(x.Dims) > 1 {
			if _, err := m.Matrix(x.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("mapped in %s", time.Since(start))
	data := make(map[string][]byte)
	for _, x := range m.Manifest().Tensors {
		data[x.Name] = src[x.Offset : x.Offset+x.Size]
	}
	start = time.Now()
	checkChunks(t, s, e, data)
	t.Logf("served in %s", time.Since(start))
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}
