package hub_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/hub"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// modelFile is a small GGUF file.
func modelFile(t *testing.T, floats uint64) []byte {
	t.Helper()
	var b gguf.Builder
	b.Set("general.architecture", "llama")
	b.Add("token_embd.weight", gguf.F32, 32, 9)
	b.Add("blk.0.a", gguf.F32, 32, floats/32)
	b.Add("blk.1.a", gguf.F32, 32, floats/64)
	var file bytes.Buffer
	if err := b.Write(&file, func(x gguf.Tensor, w io.Writer) error {
		d := noise(int(x.Size))
		for i := 3; i < len(d); i += 4 {
			d[i] &^= 0x40
		}
		_, err := w.Write(d)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// added is the model that the store makes of the same file on disk.
func added(t *testing.T, file []byte) store.Entry {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Add(t.Context(), path, store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func resolved(t *testing.T, c *hub.Client) hub.Release {
	t.Helper()
	r, err := c.Resolve(t.Context(), ref(t, "hf:o/r"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAScanGivesTheModelOfTheFileOverCutsAndRedirects(t *testing.T) {
	file := modelFile(t, 700_000)
	h := newHub(t, map[string][]byte{"m.gguf": file})
	h.commit = commit
	c := h.client(hub.Options{})
	r := resolved(t, c)
	if r.Repo != "o/r" || r.Revision != commit || len(r.Files) != 1 || r.Files[0].SHA256 != sum(file) {
		t.Fatalf("%+v", r)
	}
	h.mu.Lock()
	h.pinned = 0
	h.cutAfter = []int{1, 1 << 20, 1000, 0, 1500_000}
	h.fail = []int{503}
	h.mu.Unlock()
	state := filepath.Join(t.TempDir(), "state")
	var last hub.Status
	m, err := c.Scan(t.Context(), r, state, func(s hub.Status) { last = s })
	if err != nil {
		t.Fatal(err)
	}
	if want := added(t, file).Model; m.ID() != want {
		t.Errorf("the model is %s, of the file it is %s", m.ID(), want)
	}
	if last.Done != uint64(len(file)) || last.Total != last.Done {
		t.Errorf("%+v", last)
	}
	if h.pinned == 0 {
		t.Error("the files were not asked for at the commit that was resolved")
	}
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state is left: %v", err)
	}
}

func TestAScanGoesOnInTheNextRunOfTheProgram(t *testing.T) {
	file := modelFile(t, 4_000_000) // 24 MB: above what is read between two notes
	h := newHub(t, map[string][]byte{"m.gguf": file})
	c := h.client(hub.Options{Retries: 1})
	r := resolved(t, c)
	state := filepath.Join(t.TempDir(), "state")
	h.cutAfter = []int{1 << 20, 1 << 20, 20 << 20} // the last one is the file's
	if _, err := c.Scan(t.Context(), r, state, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("the cut was not reported: %v", err)
	}
	h.mu.Lock()
	h.requests = nil
	h.mu.Unlock()
	m, err := c.Scan(t.Context(), r, state, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := added(t, file).Model; m.ID() != want {
		t.Errorf("the model is %s, of the file it is %s", m.ID(), want)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	from := 0
	if n, err := fmt.Sscanf(h.requests[len(h.requests)-1], "bytes=%d-", &from); n != 1 || err != nil || from < 16<<20 {
		t.Errorf("the second run asked for %q", h.requests)
	}
}

func TestAScanRefusesWhatItCannotTrust(t *testing.T) {
	file := modelFile(t, 100_000)
	h := newHub(t, map[string][]byte{"m.gguf": file})
	c := h.client(hub.Options{Retries: 2})
	state := filepath.Join(t.TempDir(), "state")

	good := resolved(t, c)
	h.mu.Lock()
	h.noRange = true
	h.mu.Unlock()
	if _, err := c.Scan(t.Context(), good, state, nil); !errors.Is(err, hub.ErrNoRanges) || !strings.Contains(err.Error(), "--lazy") {
		t.Errorf("a server without ranges: %v", err)
	}
	h.mu.Lock()
	h.noRange = false
	h.lie["m.gguf"] = strings.Repeat("ab", 32)
	h.mu.Unlock()
	if _, err := c.Scan(t.Context(), resolved(t, c), state, nil); !errors.Is(err, hub.ErrHash) {
		t.Errorf("another file than the hub lists: %v", err)
	}
	// Damaged states are not believed.
	for _, b := range []string{"", "{", `{"Release":{"Repo":"o/r","Revision":"main"}}`, strings.Repeat("x", 1000)} {
		if err := os.WriteFile(state, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := c.Scan(t.Context(), good, state, nil)
		if err != nil || m.ID() != added(t, file).Model {
			t.Errorf("state %.20q: %v", b, err)
		}
	}
}

func TestAReleaseThatSomebodyToldOfIsChecked(t *testing.T) {
	c, err := hub.New(hub.Options{Endpoint: "https://hub.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	files := []hub.File{{Path: "dir/m 1.gguf", Size: 9, SHA256: strings.Repeat("ab", 32), URL: "https://elsewhere.example"}}
	r, err := c.At(hub.Release{Repo: "o/r", Revision: commit, Files: files})
	if err != nil || r.Files[0].URL != "https://hub.example/o/r/resolve/"+commit+"/dir/m%201.gguf" {
		t.Errorf("%+v, %v", r, err)
	}
	for name, bad := range map[string]hub.Release{
		"repository": {Repo: "o/r/../x", Revision: commit, Files: files},
		"revision":   {Repo: "o/r", Files: files},
		"no files":   {Repo: "o/r", Revision: commit},
		"path":       {Repo: "o/r", Revision: commit, Files: []hub.File{{Path: "../m.gguf", Size: 9}}},
		"size":       {Repo: "o/r", Revision: commit, Files: []hub.File{{Path: "m.gguf"}}},
	} {
		if _, err := c.At(bad); err == nil {
			t.Errorf("a bad %s was accepted", name)
		}
	}
}

func TestTheHubIsAskedOnceAndThenWhereItLed(t *testing.T) {
	file := modelFile(t, 1_000_000)
	h := newHub(t, map[string][]byte{"m.gguf": file})
	c := h.client(hub.Options{})
	r := resolved(t, c)
	m, err := c.Scan(t.Context(), r, filepath.Join(t.TempDir(), "state"), nil)
	if err != nil {
		t.Fatal(err)
	}
	src, err := c.NewSource(m, r.Files)
	if err != nil {
		t.Fatal(err)
	}
	all, err := m.Range(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.asked = 0
	h.mu.Unlock()
	sink := &memory{got: map[string][]byte{}}
	if err := fetch.Fetch(t.Context(), all, []fetch.Source{src}, fetch.Options{Dir: t.TempDir(), Sink: sink, PerSource: 1, Backoff: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		if !bytes.Equal(file[x.Offset:x.Offset+x.Size], sink.got[x.Name]) {
			t.Errorf("%s differs", x.Name)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asked != 1 {
		t.Errorf("the hub was asked %d times", h.asked)
	}
}
