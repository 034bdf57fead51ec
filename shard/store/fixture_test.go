package store_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

var _ model.Source = (*store.Model)(nil)

// finite fills b with noise whose scales the arithmetic contract accepts.
func finite(typ gguf.Type, b []byte, rng *rand.ChaCha8) {
	_, _ = rng.Read(b)
	block := int(typ.BlockBytes())
	for at := 0; at+block <= len(b); at += block {
		switch typ {
		case gguf.F32:
			b[at+3] &^= 0x40
		case gguf.F16:
			b[at+1] &^= 0x40
		case gguf.Q8_0, gguf.Q4_0:
			b[at+1] &^= 0x40
		case gguf.Q4_1, gguf.Q4_K:
			b[at+1] &^= 0x40
			b[at+3] &^= 0x40
		case gguf.Q6_K:
			b[at+209] &^= 0x40
		}
	}
}

// spec of a test model.
type spec struct {
	seed   uint64
	layers int
	vocab  uint64
	ctx    uint64
	types  []gguf.Type // of the layers' matrices, in turn
}

func (s spec) defaults() spec {
	if s.layers == 0 {
		s.layers = 2
	}
	if s.vocab == 0 {
		s.vocab = 700
	}
	if s.ctx == 0 {
		s.ctx = 2048
	}
	if s.types == nil {
		s.types = []gguf.Type{gguf.Q8_0, gguf.Q4_K, gguf.Q6_K, gguf.F16, gguf.Q4_1, gguf.F32}
	}
	return s
}

// write writes a model file and gives the tensors' bytes.
func (s spec) write(t testing.TB, path string) map[string][]byte {
	t.Helper()
	s = s.defaults()
	var b gguf.Builder
	b.Set("general.architecture", "llama")
	b.Set("llama.context_length", s.ctx)
	b.Set("llama.block_count", uint32(s.layers))
	b.Add("token_embd.weight", gguf.Q8_0, 2048, s.vocab)
	for l := range s.layers {
		for i, typ := range s.types {
			b.Add("blk."+string(rune('0'+l))+".m"+string(rune('a'+i))+".weight", typ, 256, uint64(60+i))
		}
		b.Add("blk."+string(rune('0'+l))+".norm.weight", gguf.F32, 256)
	}
	b.Add("output_norm.weight", gguf.F32, 256)
	b.Add("positions", gguf.I32, 8, 2)
	b.Add("gate.weight", gguf.F32, 256, 1)
	b.Add("experts.weight", gguf.Q4_K, 256, 32, 3)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], s.seed)
	rng := rand.NewChaCha8(key)
	data := make(map[string][]byte)
	var file bytes.Buffer
	err := b.Write(&file, func(ts gguf.Tensor, w io.Writer) error {
		buf := make([]byte, ts.Size)
		finite(ts.Type, buf, rng)
		data[ts.Name] = buf
		_, err := w.Write(buf)
		return err
	})
	if err == nil {
		err = os.WriteFile(path, file.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func open(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// added is a store with one model, added from a file.
func added(t testing.TB, sp spec) (*store.Store, store.Entry, string, map[string][]byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.Q8_0.gguf")
	data := sp.write(t, path)
	s := open(t, store.Options{})
	e, err := s.Add(t.Context(), path, store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s, e, path, data
}

func namesOf(m *manifest.Manifest) []string {
	var out []string
	for i := range m.Tensors {
		out = append(out, m.Tensors[i].Name)
	}
	return out
}

// checkModel compares every tensor of a model with its bytes.
func checkModel(t *testing.T, s *store.Store, e store.Entry, data map[string][]byte) {
	t.Helper()
	m, err := s.Model(e)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range m.Manifest().Tensors {
		ts := &m.Manifest().Tensors[i]
		switch {
		case ts.Type == gguf.I32:
			continue
		case len(ts.Dims) == 1:
			v, err := m.Vector(ts.Name)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			if got, err = binary.Append(nil, binary.LittleEndian, v); err != nil || !bytes.Equal(got, data[ts.Name]) {
				t.Errorf("vector %s is not the file's", ts.Name)
			}
		default:
			p, err := m.Matrix(ts.Name)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, ts.Size)
			if err := p.Unpack(got, 0, p.Groups()); err != nil || !bytes.Equal(got, data[ts.Name]) {
				t.Errorf("matrix %s is not the file's (%v)", ts.Name, err)
			}
		}
	}
}

// checkChunks compares everything that the store gives to peers with the model's bytes.
func checkChunks(t *testing.T, s *store.Store, e store.Entry, data map[string][]byte) {
	t.Helper()
	m, err := s.Manifest(e.Model)
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Tensors {
		ts := &m.Tensors[i]
		var got []byte
		for c := range ts.Chunks {
			b, err := s.ReadChunk(ts.Hash, c)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, data[ts.Name]) {
			t.Errorf("chunks of %s are not the file's", ts.Name)
		}
	}
}
