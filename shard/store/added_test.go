package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store"
)

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

// A vector may be written as a matrix of one row, and experts lie one below the other.
func TestShapesOfExpertsAreRead(t *testing.T) {
	s, e, _, data := added(t, spec{})
	m, err := s.Model(e)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	v, err := m.Vector("gate.weight")
	if err != nil || len(v) != 256 || math.Float32bits(v[9]) != binary.LittleEndian.Uint32(data["gate.weight"][36:]) {
		t.Errorf("%d floats, %v", len(v), err)
	}
	p, err := m.Matrix("experts.weight")
	if err != nil || p.Rows != 96 || p.Cols != 256 {
		t.Fatalf("%+v, %v", p, err)
	}
	// The second expert's rows are a matrix by themselves.
	one, err := quant.New(quant.Q4_K, 32, 256)
	if err == nil {
		err = one.Pack(data["experts.weight"][32*144:64*144], 0, one.Groups())
	}
	if err != nil || !bytes.Equal(one.Quants, p.Quants[2*p.QStride():4*p.QStride()]) || !bytes.Equal(one.Scales, p.Scales[2*p.SStride():4*p.SStride()]) {
		t.Errorf("an expert among others is packed otherwise than alone: %v", err)
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
