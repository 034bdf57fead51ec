package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels/quant"
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

func TestAddedModelIsReadFromTheUsersFileAndPackedOnFirstTouch(t *testing.T) {
	s, e, path, data := added(t, spec{})
	if e.Name != "tiny.Q8_0" || len(e.Files) != 1 || e.Files[0].Path != path {
		t.Fatalf("%+v", e)
	}
	if got := e.Profile.String(); got != "c1-a8-f16-2048" {
		t.Fatalf("profile %s", got)
	}
	checkChunks(t, s, e, data)
	checkModel(t, s, e, data)
	checkModel(t, s, e, data) // mapped again
	checkChunks(t, s, e, data)
}

func TestAdoptedModelIsKeptPackedOnlyAndServedUnpacked(t *testing.T) {
	s := open(t, store.Options{})
	path := filepath.Join(s.DownloadDir(), "m.gguf")
	data := spec{}.write(t, path)
	var last, total uint64
	e, err := s.Adopt(t.Context(), path, store.AddOptions{Name: "m", Progress: func(done, of uint64) { last, total = done, of }})
	if err != nil {
		t.Fatal(err)
	}
	if last != total || total == 0 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the download is still there: %v", err)
	}
	checkChunks(t, s, e, data)
	checkModel(t, s, e, data)
	h, err := s.Held(e)
	if err != nil || !h.Complete || h.Layers != 2 {
		t.Fatalf("%+v, %v", h, err)
	}
	if d := cmp.Diff([]model.Range{{First: 0, End: 2}}, h.Ranges); d != "" {
		t.Fatal(d)
	}
}

func TestSecondAddOfAnUnchangedFileDoesNotHashItAgain(t *testing.T) {
	s, e, path, _ := added(t, spec{})
	hashed := false
	again, err := s.Add(t.Context(), path, store.AddOptions{Progress: func(_, _ uint64) { hashed = true }})
	if err != nil || again.Model != e.Model || hashed {
		t.Fatalf("%v, %v, hashed: %v", again.Model, err, hashed)
	}
	if d := cmp.Diff(e, again); d != "" {
		t.Fatal(d)
	}
}

func TestChangedOrVanishedFileIsAClearError(t *testing.T) {
	s, e, path, _ := added(t, spec{})
	m, err := s.Model(e)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	if err := os.Truncate(path, e.Files[0].Size-1); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Matrix("token_embd.weight"); !errors.Is(err, store.ErrSource) || !strings.Contains(err.Error(), path) {
		t.Errorf("changed: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Vector("output_norm.weight"); !errors.Is(err, store.ErrSource) || !strings.Contains(err.Error(), path) {
		t.Errorf("gone: %v", err)
	}
	if h, err := s.Held(e); err != nil || h.Complete || h.Bytes != 0 || len(h.Ranges) != 0 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestFileThatChangedUnderItsOldTimeIsCaughtByItsHash(t *testing.T) {
	s, e, path, _ := added(t, spec{})
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Model(e)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	ts, _ := m.Manifest().Tensor("blk.0.ma.weight")
	b[ts.Offset+5] ^= 1
	if err := errors.Join(os.WriteFile(path, b, 0o600), os.Chtimes(path, st.ModTime(), st.ModTime())); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Matrix("blk.0.ma.weight"); !errors.Is(err, store.ErrSource) {
		t.Errorf("packed: %v", err)
	}
	if _, err := s.ReadChunk(ts.Hash, 0); !errors.Is(err, store.ErrSource) {
		t.Errorf("served: %v", err)
	}
}

func TestDamagedPackedFileIsMadeAnew(t *testing.T) {
	s, e, _, data := added(t, spec{})
	checkModel(t, s, e, data)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(s.DownloadDir()), "packed", "*.pack"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		w, err := os.OpenFile(f, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteAt([]byte{1}, 30); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
	}
	checkModel(t, s, e, data)
}

func TestMatrixAndVectorSayWhatIsWrongWithATensor(t *testing.T) {
	s, e, _, _ := added(t, spec{})
	m, err := s.Model(e)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"nothing": "no tensor", "output_norm.weight": "one dimension", "positions": "I32"} {
		if _, err := m.Matrix(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("matrix %s: %v", name, err)
		}
	}
	if _, err := m.Matrix("positions"); !errors.Is(err, quant.ErrType) {
		t.Errorf("positions: %v", err)
	}
	for name, want := range map[string]string{"nothing": "no tensor", "token_embd.weight": "2 dimensions"} {
		if _, err := m.Vector(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("vector %s: %v", name, err)
		}
	}
	if err := m.Prepare(t.Context(), []string{"nothing"}, nil); err == nil {
		t.Error("a tensor that does not exist was prepared")
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Matrix("token_embd.weight"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestPrepareStopsWhenItsContextEndsAndLeavesNoDebris(t *testing.T) {
	s, e, _, data := added(t, spec{})
	m, err := s.Model(e)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Prepare(ctx, namesOf(m.Manifest()), nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.DownloadDir()), "packed", "*")); len(left) != 0 {
		t.Fatal(left)
	}
	if err := m.Prepare(t.Context(), namesOf(m.Manifest()), nil); err != nil {
		t.Fatal(err)
	}
	m.WillNeed("token_embd.weight")
	checkModel(t, s, e, data)
	m.Evict("token_embd.weight")
	m.Evict("nothing")
}

func TestFootprintIsWhatPackedFilesHold(t *testing.T) {
	s, e, _, data := added(t, spec{})
	checkModel(t, s, e, data)
	m, err := s.Manifest(e.Model)
	if err != nil {
		t.Fatal(err)
	}
	ts, err := m.Range(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	var want uint64
	for _, x := range ts {
		if x.Type == gguf.I32 || len(x.Dims) == 1 {
			want += x.Size
			continue
		}
		q, sc, err := quant.PackedSize(quant.Type(x.Type), int(x.Rows()), int(x.Cols()))
		if err != nil {
			t.Fatal(err)
		}
		want += uint64(q + sc)
	}
	if got := store.Footprint(append(ts, ts...)); got != want {
		t.Errorf("footprint %d, packed bytes %d", got, want)
	}
}
