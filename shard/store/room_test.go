package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// shelfOf is a store with a budget and models that other stores serve, under the names a, b, ….
type shelfOf struct {
	*store.Store
	t       *testing.T
	home    string
	clock   *time.Time
	servers map[string]*store.Store
	entries map[string]store.Entry
	bytes   uint64 // of a packed model
}

func newShelf(t *testing.T, models int, budget func(model uint64) uint64) *shelfOf {
	now := time.Now()
	s := &shelfOf{t: t, home: t.TempDir(), clock: &now, servers: map[string]*store.Store{}, entries: map[string]store.Entry{}}
	for i := range models {
		name := string(rune('a' + i))
		from, e, _, _ := added(t, spec{seed: uint64(i + 1), layers: 3})
		s.servers[name], s.entries[name] = from, e
		m, err := from.Manifest(e.Model)
		if err != nil {
			t.Fatal(err)
		}
		s.bytes = 0
		for j := range m.Tensors {
			s.bytes += uint64(packed.SpecOf(&m.Tensors[j]).Bytes())
		}
	}
	s.Store = s.open(budget(s.bytes))
	for name, e := range s.entries {
		m, err := s.servers[name].Manifest(e.Model)
		if err != nil {
			t.Fatal(err)
		}
		if s.entries[name], err = s.Import(m.Encode(), e.Model, store.AddOptions{Name: name, Profile: e.Profile}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// open opens the home anew, as another process would.
func (s *shelfOf) open(budget uint64) *store.Store {
	s.t.Helper()
	opened, err := store.Open(s.home, store.Options{Budget: budget, Now: func() time.Time { return *s.clock }})
	if err != nil {
		s.t.Fatal(err)
	}
	return opened
}

// get opens a model and fetches all of it, an hour after what was done before.
func (s *shelfOf) get(name string) (*store.Model, error) {
	s.t.Helper()
	*s.clock = s.clock.Add(time.Hour)
	m, err := s.Model(s.entries[name])
	if err != nil {
		s.t.Fatal(err)
	}
	missing, err := m.Missing(namesOf(m.Manifest()))
	if err != nil {
		s.t.Fatal(err)
	}
	return m, s.Fetch(s.t.Context(), missing, []fetch.Source{server{name, s.servers[name], false}}, fetch.Options{})
}

// use is get for a model that is closed again.
func (s *shelfOf) use(name string) {
	s.t.Helper()
	m, err := s.get(name)
	if err := errors.Join(err, m.Close()); err != nil {
		s.t.Fatalf("use %s: %v", name, err)
	}
}

// has wants exactly these models to be here.
func (s *shelfOf) has(names string) {
	s.t.Helper()
	for name, e := range s.entries {
		h, err := s.Held(e)
		if err != nil {
			s.t.Fatal(err)
		}
		if want := strings.Contains(names, name); h.Complete != want || !want && h.Bytes > 0 {
			s.t.Errorf("of model %s there are %d bytes (complete: %v), but %q should be here", name, h.Bytes, h.Complete, names)
		}
	}
}

func TestWhatWasUsedLongestAgoMakesRoom(t *testing.T) {
	s := newShelf(t, 4, func(model uint64) uint64 { return 3 * model })
	s.use("a")
	s.use("b")
	s.has("ab")
	s.use("a") // b is the older one now
	s.use("c")
	s.has("ac")
	s.use("d")
	s.has("cd")
	u, err := s.Usage()
	if err != nil || u.Used != 2*s.bytes || u.Budget != 3*s.bytes || u.Room != s.bytes {
		t.Errorf("%+v, %v; a model has %d", u, err, s.bytes)
	}
}

func TestWhatIsPinnedOrInUseIsNeverDeleted(t *testing.T) {
	s := newShelf(t, 4, func(model uint64) uint64 { return 3*model + model/2 })
	m, err := s.get("a")
	if err != nil {
		t.Fatal(err)
	}
	s.use("b")
	if _, err := s.Pin("b", true); err != nil {
		t.Fatal(err)
	}
	before, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	// Another process would see both as well.
	other := s.open(before.Used)
	for what, err := range map[string]error{"this process": errOf(s.get("c")), "another process": other.MakeRoom(1)} {
		if !errors.Is(err, packed.ErrNoSpace) {
			t.Fatalf("%s: %v", what, err)
		}
		for _, w := range []string{"a@", "in use", "b@", "pinned", "are missing", "weft unpin", "--disk"} {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in: %v", what, w, err)
			}
		}
	}
	s.has("ab")
	// Room is made: it works again.
	if _, err := s.Pin("b", false); err != nil {
		t.Fatal(err)
	}
	s.use("c")
	s.has("ac")
	*s.clock = s.clock.Add(time.Hour)
	if err := m.Close(); err != nil { // a was used until now
		t.Fatal(err)
	}
	s.use("d")
	s.has("ad")
	// The lock of a process that died keeps nothing.
	if err := other.MakeRoom(before.Used); err != nil {
		t.Error(err)
	}
	s.has("")
}

func errOf(m *store.Model, err error) error { return errors.Join(err, m.Close()) }

func TestLayersThatNoPlanNeedsAnyMoreMakeRoomThoughTheModelIsInUse(t *testing.T) {
	s := newShelf(t, 2, func(model uint64) uint64 { return 2*model + model/4 })
	s.use("a")
	m, err := s.Model(s.entries["a"])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	layer, err := m.Manifest().Range(1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if missing, err := m.Missing(names(layer)); err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
	s.use("b")
	if missing, err := m.Missing(names(layer)); err != nil || len(missing) > 0 {
		t.Errorf("layers that are needed were deleted: %v, %v", names(missing), err)
	}
	if h, err := s.Held(s.entries["a"]); err != nil || h.Complete {
		t.Errorf("%+v, %v: nothing of the other layers was deleted", h, err)
	}
}

func TestAFetchThatIsCutOffKeepsItsPieces(t *testing.T) {
	s := newShelf(t, 1, func(model uint64) uint64 { return 3 * model })
	m, err := s.Model(s.entries["a"])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	missing, err := m.Missing(namesOf(m.Manifest()))
	if err != nil {
		t.Fatal(err)
	}
	part := fetch.PartPath(s.PartialDir(), missing[0].Hash)
	if err := os.WriteFile(part, make([]byte, manifest.ChunkBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.MakeRoom(3 * s.bytes); !errors.Is(err, packed.ErrNoSpace) {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.MakeRoom(3 * s.bytes); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a partial file that nobody needs took the room: %v", err)
	}
}

func TestADownloadThatWasNotFinishedIsNamed(t *testing.T) {
	s := newShelf(t, 0, func(uint64) uint64 { return 1000 })
	if err := os.WriteFile(filepath.Join(s.DownloadDir(), "m.gguf.part"), make([]byte, 900), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.MakeRoom(100); err != nil {
		t.Error(err)
	}
	err := s.MakeRoom(101)
	if !errors.Is(err, packed.ErrNoSpace) || !strings.Contains(err.Error(), "unfinished downloads") || !strings.Contains(err.Error(), "1 B are missing") {
		t.Error(err)
	}
}

func TestPackedCopiesOfAUsersFileMakeRoomAndComeBack(t *testing.T) {
	s, e, path, data := added(t, spec{})
	checkModel(t, s, e, data)
	u, err := s.Usage()
	if err != nil || u.Used == 0 {
		t.Fatal(u, err)
	}
	small, err := store.Open(filepath.Dir(filepath.Dir(s.DownloadDir())), store.Options{Budget: u.Used})
	if err != nil {
		t.Fatal(err)
	}
	if err := small.MakeRoom(u.Used); err != nil {
		t.Fatal(err)
	}
	if k, err := small.Kept(e); err != nil || k.Bytes != 0 || k.InUse || k.LastUsed.IsZero() {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the user's file: %v", err)
	}
	checkModel(t, small, e, data)
}
