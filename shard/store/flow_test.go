package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// server is a peer that serves its store, as the node does over the wire.
type server struct {
	id    string
	store *store.Store
	lie   bool
}

func (s server) ID() string               { return s.id }
func (s server) Has(h manifest.Hash) bool { return s.store.HasTensor(h) }
func (s server) Chunk(_ context.Context, h manifest.Hash, i int) ([]byte, error) {
	b, err := s.store.ReadChunk(h, i)
	if s.lie && err == nil {
		b[0] ^= 1
	}
	return b, err
}

// imported is an empty store that knows the model of another one.
func imported(t *testing.T, from *store.Store, e store.Entry) (*store.Store, *store.Model) {
	t.Helper()
	m, err := from.Manifest(e.Model)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, store.Options{})
	got, err := s.Import(m.Encode(), e.Model, store.AddOptions{Name: e.Name, Profile: e.Profile})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := s.Model(got)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return s, opened
}

func names(ts []*manifest.Tensor) (out []string) {
	for _, t := range ts {
		out = append(out, t.Name)
	}
	return out
}

func TestNodeFetchesExactlyItsLayersAndServesThemOn(t *testing.T) {
	a, e, _, data := added(t, spec{layers: 3, vocab: 1100})
	b, m := imported(t, a, e)
	if _, err := m.Matrix("token_embd.weight"); !errors.Is(err, store.ErrMissing) {
		t.Fatalf("weights that are not here: %v", err)
	}
	if err := m.Prepare(t.Context(), []string{"token_embd.weight"}, nil); !errors.Is(err, store.ErrMissing) {
		t.Fatalf("weights that are not here: %v", err)
	}
	want, err := m.Manifest().Range(1, 3)
	if err != nil {
		t.Fatal(err)
	}
	missing, err := m.Missing(names(want))
	if err != nil || len(missing) != len(want) {
		t.Fatal(len(missing), err)
	}
	var aside []string
	err = b.Fetch(t.Context(), missing, []fetch.Source{server{"liar", a, true}, server{"a", a, false}},
		fetch.Options{SetAside: func(id string, _ error) { aside = append(aside, id) }})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"liar"}, aside); d != "" {
		t.Error(d)
	}
	h, err := b.Held(m.Entry())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]model.Range{{First: 1, End: 3}}, h.Ranges); d != "" || h.Complete || h.Layers != 3 {
		t.Errorf("%+v %s", h, d)
	}
	if missing, err = m.Missing(names(want)); err != nil || len(missing) != 0 {
		t.Fatal(names(missing), err)
	}
	for _, x := range want {
		if len(x.Dims) == 1 {
			v, err := m.Vector(x.Name)
			if err != nil || len(v) != int(x.Cols()) {
				t.Fatal(x.Name, err)
			}
		} else if x.Type != gguf.I32 {
			p, err := m.Matrix(x.Name)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, x.Size)
			if err := p.Unpack(got, 0, p.Groups()); err != nil || !bytes.Equal(got, data[x.Name]) {
				t.Errorf("%s differs", x.Name)
			}
		}
	}
	// A third node gets them from the second, which has them in packed form only.
	c, m3 := imported(t, b, m.Entry())
	two, err := m3.Manifest().Range(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Fetch(t.Context(), two, []fetch.Source{server{"b", b, false}}, fetch.Options{}); err != nil {
		t.Fatal(err)
	}
	one, err := m3.Manifest().Range(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Fetch(t.Context(), one, []fetch.Source{server{"b", b, false}}, fetch.Options{}); !errors.Is(err, fetch.ErrNoSource) {
		t.Fatalf("layers that the second node does not have: %v", err)
	}
	if _, err := m3.Missing([]string{"nothing"}); err == nil {
		t.Error("a tensor that does not exist is not missing")
	}
}

// Two processes that fetch the same tensors into one home wait for each other, and
// the second one finds what the first one got.
func TestFetchesOfTwoProcessesDoNotMeet(t *testing.T) {
	a, e, _, _ := added(t, spec{})
	b, m := imported(t, a, e)
	again, err := store.Open(filepath.Dir(filepath.Dir(b.DownloadDir())), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := m.Manifest().Range(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	src := &counted{server: server{"a", a, false}}
	ended := make(chan error, 2)
	for _, s := range []*store.Store{b, again} {
		go func() { ended <- s.Fetch(t.Context(), all, []fetch.Source{src}, fetch.Options{}) }()
	}
	if err := errors.Join(<-ended, <-ended); err != nil {
		t.Fatal(err)
	}
	chunks := 0
	seen := map[manifest.Hash]bool{}
	for _, x := range all {
		if !seen[x.Hash] {
			chunks += len(x.Chunks)
		}
		seen[x.Hash] = true
	}
	if n := int(src.asked.Load()); n != chunks {
		t.Errorf("%d chunks were asked for, the tensors have %d", n, chunks)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := again.Fetch(ctx, all, nil, fetch.Options{}); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// counted counts what a server is asked for.
type counted struct {
	server
	asked atomic.Int64
}

func (c *counted) Chunk(ctx context.Context, h manifest.Hash, i int) ([]byte, error) {
	c.asked.Add(1)
	return c.server.Chunk(ctx, h, i)
}

func TestTensorThatIsNowhereIsNotServed(t *testing.T) {
	s, e, _, _ := added(t, spec{})
	if _, err := s.ReadChunk(manifest.Hash{1}, 0); !errors.Is(err, store.ErrMissing) || s.HasTensor(manifest.Hash{1}) {
		t.Error(err)
	}
	m, err := s.Manifest(e.Model)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{-1, len(m.Tensors[0].Chunks)} {
		if _, err := s.ReadChunk(m.Tensors[0].Hash, i); err == nil {
			t.Errorf("chunk %d was served", i)
		}
	}
}

func TestStoreThatWasJustOpenedServesWhatItHas(t *testing.T) {
	home := t.TempDir()
	s, err := store.Open(home, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.DownloadDir(), "m.gguf")
	data := spec{}.write(t, path)
	e, err := s.Adopt(t.Context(), path, store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Manifest(e.Model)
	if err != nil {
		t.Fatal(err)
	}
	again, err := store.Open(home, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ts := m.Tensors[1]
	if b, err := again.ReadChunk(ts.Hash, 0); err != nil || !bytes.Equal(b, data[ts.Name]) {
		t.Fatal(err)
	}
}

func TestRemoveDeletesOnlyWhatNoOtherEntryNeeds(t *testing.T) {
	s, e, path, data := added(t, spec{})
	checkModel(t, s, e, data)
	twin, err := s.Add(t.Context(), path, store.AddOptions{Name: "twin", Profile: model.Profile{Act: kernels.Act16}})
	if err != nil {
		t.Fatal(err)
	}
	removed, err := s.Remove(e.Name)
	if err != nil || removed.Bytes != 0 || len(removed.Kept) != 1 {
		t.Fatalf("%+v, %v", removed, err)
	}
	checkModel(t, s, twin, data)
	m, err := s.Model(twin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Matrix("token_embd.weight")
	if err != nil {
		t.Fatal(err)
	}
	if removed, err = s.Remove("twin"); err != nil || removed.Bytes == 0 {
		t.Fatalf("%+v, %v", removed, err)
	}
	got := make([]byte, len(data["token_embd.weight"]))
	if err := p.Unpack(got, 0, p.Groups()); err != nil || !bytes.Equal(got, data["token_embd.weight"]) {
		t.Error("a model that is in use lost its weights")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the user's file: %v", err)
	}
	root := filepath.Dir(s.DownloadDir())
	for _, dir := range []string{"packed", "manifests", "partial"} {
		if left, _ := os.ReadDir(filepath.Join(root, dir)); len(left) != 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
	if s.HasTensor(manifest.Sum(data["token_embd.weight"])) {
		t.Error("a removed model is still served")
	}
}

func TestRemoveDeletesADownloadWhosePackingWasCutShort(t *testing.T) {
	s := open(t, store.Options{})
	dir := filepath.Join(s.DownloadDir(), "o--r")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "m.gguf")
	spec{}.write(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Adopt(ctx, path, store.AddOptions{Progress: func(done, total uint64) {
		if done == total { // hashed
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the download is gone: %v", err)
	}
	if removed, err := s.Remove("m"); err != nil || removed.Bytes == 0 {
		t.Fatal(removed, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the download's directory is still there: %v", err)
	}
}

func TestSweepRemovesWhatACrashLeft(t *testing.T) {
	s, e, _, data := added(t, spec{})
	checkModel(t, s, e, data)
	root := filepath.Dir(s.DownloadDir())
	m, err := s.Manifest(e.Model)
	if err != nil {
		t.Fatal(err)
	}
	left := "partial/" + m.Tensors[0].Hash.String() + ".part" // of a fetch that was killed when the tensor was packed
	unneeded := []string{left, "packed/" + strings.Repeat("ab", 32) + "-8-1x32-v1.pack", "partial/" + strings.Repeat("cd", 32) + ".part"}
	unfinished := []string{"packed/.tmp-1", ".tmp-2"}
	running := filepath.Join(root, "packed", ".tmp-3") // another process is writing it
	for _, j := range append(unneeded, append(unfinished, "packed/.tmp-3")...) {
		if err := os.WriteFile(filepath.Join(root, j), []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hourAgo := time.Now().Add(-time.Hour)
	for _, j := range unfinished {
		if err := os.Chtimes(filepath.Join(root, j), hourAgo, hourAgo); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Sweep(); err != nil || n != 5*4 {
		t.Fatal(n, err)
	}
	for _, j := range append(unneeded, unfinished...) {
		if _, err := os.Stat(filepath.Join(root, j)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", j, err)
		}
	}
	if _, err := os.Stat(running); err != nil {
		t.Errorf("a file that is being written was deleted: %v", err)
	}
	checkModel(t, s, e, data)
}

func TestSweepMendsAnAdoptionThatCrashedAtItsEnd(t *testing.T) {
	s := open(t, store.Options{})
	path := filepath.Join(s.DownloadDir(), "m.gguf")
	data := spec{}.write(t, path)
	e, err := s.Add(t.Context(), path, store.AddOptions{Name: "m"}) // as Adopt does first
	if err != nil {
		t.Fatal(err)
	}
	twin := filepath.Join(s.DownloadDir(), "twin.gguf")
	if err := os.Link(path, twin); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Adopt(t.Context(), twin, store.AddOptions{Name: "twin"}); err != nil { // packs everything
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if e, err = s.Resolve("m"); err != nil || len(e.Files) != 0 {
		t.Fatalf("%+v, %v", e, err)
	}
	checkModel(t, s, e, data)
	checkChunks(t, s, e, data)
}

// disk is one that has little room, or runs full at a write.
type disk struct {
	packed.Disk
	free uint64
	full *bool
}

func (d disk) Free(string) (uint64, error) { return d.free, nil }

func (d disk) CreateTemp(dir, pattern string) (packed.WriteFile, error) {
	f, err := d.Disk.CreateTemp(dir, pattern)
	if *d.full && err == nil {
		return fullFile{f}, nil
	}
	return f, err
}

type fullFile struct{ packed.WriteFile }

func (fullFile) Write([]byte) (int, error)          { return 0, syscall.ENOSPC }
func (fullFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.ENOSPC }

func TestFullDiskIsAClearErrorEverywhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	data := spec{}.write(t, path)
	full := false
	s := open(t, store.Options{FS: disk{free: 1 << 20, full: &full}})
	e, err := s.Add(t.Context(), path, store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Model(e)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	if err := m.Prepare(t.Context(), namesOf(m.Manifest()), nil); !errors.Is(err, packed.ErrNoSpace) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("prepare: %v", err)
	}
	full = true
	if _, err := m.Matrix("blk.0.ma.weight"); !errors.Is(err, packed.ErrNoSpace) {
		t.Errorf("matrix: %v", err)
	}
	if _, err := s.Add(t.Context(), path, store.AddOptions{Name: "n"}); !errors.Is(err, packed.ErrNoSpace) {
		t.Errorf("add: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(filepath.Dir(s.DownloadDir()), "packed")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	full = false
	if _, err := m.Matrix("blk.0.ma.weight"); err != nil {
		t.Error(err)
	}
	if v, err := m.Vector("output_norm.weight"); err != nil || 4*len(v) != len(data["output_norm.weight"]) {
		t.Error(err)
	}
}

func TestSplitModelIsOneModel(t *testing.T) {
	dir := t.TempDir()
	one := filepath.Join(dir, "one.gguf")
	data := spec{}.write(t, one)
	g, err := gguf.Open(one)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	writeSplit(t, g, dir, data)
	s := open(t, store.Options{})
	e, err := s.Add(t.Context(), filepath.Join(dir, "parts-00002-of-00002.gguf"), store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if e.Name != "parts" || len(e.Files) != 2 {
		t.Fatalf("%+v", e)
	}
	checkModel(t, s, e, data)
	checkChunks(t, s, e, data)
	b, m := imported(t, s, e)
	all, err := m.Manifest().Range(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Fetch(t.Context(), all, []fetch.Source{server{"s", s, false}}, fetch.Options{}); err != nil {
		t.Fatal(err)
	}
	checkModel(t, b, m.Entry(), data)
}
