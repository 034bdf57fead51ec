//go:build unix

package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeHub serves one file as the hub does: a list, and an address that redirects
// to another server, which cuts every tenth answer in the middle.
type fakeHub struct {
	file     []byte
	hub, cdn *httptest.Server
	answers  atomic.Int64
	noRange  atomic.Bool
}

const hubCommit = "0123456789abcdef0123456789abcdef01234567"

// newFakeHub starts the servers and makes daemons that are started from now on
// ask them.
func newFakeHub(t *testing.T, path string) *fakeHub {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHub{file: b}
	sum := sha256.Sum256(b)
	sha := hex.EncodeToString(sum[:])
	h.cdn = httptest.NewServer(http.HandlerFunc(h.serve))
	mux := http.NewServeMux()
	mux.HandleFunc("/api/models/o/r/tree/main", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode([]map[string]any{{
			"type": "file", "path": "deep.gguf", "size": len(b), "lfs": map[string]any{"oid": sha, "size": len(b)},
		}})
	})
	for _, revision := range []string{"main", hubCommit} {
		mux.HandleFunc("/o/r/resolve/"+revision+"/deep.gguf", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Repo-Commit", hubCommit)
			w.Header().Set("X-Linked-Size", strconv.Itoa(len(b)))
			w.Header().Set("X-Linked-Etag", `"`+sha+`"`)
			w.Header().Set("Location", h.cdn.URL+"/blob")
			w.WriteHeader(http.StatusFound)
		})
	}
	h.hub = httptest.NewServer(mux)
	t.Cleanup(func() { h.hub.Close(); h.cdn.Close() })
	t.Setenv("HF_ENDPOINT", h.hub.URL)
	return h
}

func (h *fakeHub) serve(w http.ResponseWriter, r *http.Request) {
	if h.noRange.Load() {
		r.Header.Del("Range")
	}
	if h.answers.Add(1)%10 == 0 {
		w = &cutShort{w, len(h.file) / 100}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(h.file))
	if c, ok := w.(*cutShort); ok && c.left <= 0 {
		panic(http.ErrAbortHandler)
	}
}

// cutShort lets only some bytes of an answer through.
type cutShort struct {
	http.ResponseWriter
	left int
}

func (c *cutShort) Write(b []byte) (int, error) {
	if c.left -= len(b); c.left <= 0 {
		return 0, http.ErrAbortHandler
	}
	return c.ResponseWriter.Write(b)
}

// TestAModelThatNoDiskHoldsComesLayerByLayerFromTheHub pulls lazily on a node that
// computes nothing; two others fetch their layers from the hub. Then the node
// that pulled leaves, and at last those two die.
func TestAModelThatNoDiskHoldsComesLayerByLayerFromTheHub(t *testing.T) {
	path := deep(t, 24)
	want := solo(t, path, 6)
	h := newFakeHub(t, path)
	total := int64(len(h.file))
	all, head := halves(t, "14MB")
	h.noRange.Store(true)
	if _, errs, err := run(t, head.home, "pull", "--lazy", "hf:o/r"); err == nil || !strings.Contains(errs, "does not send parts of files") {
		t.Errorf("a server without ranges: %v %s", err, errs)
	}
	h.noRange.Store(false)
	mustRun(t, head.home, "pull", "--lazy", "hf:o/r", "--name", "m", "--ctx", "512")
	if s, err := head.Status(t.Context()); err != nil || s.DiskUsed > total/20 {
		t.Errorf("%d bytes are kept on disk: %v", s.DiskUsed, err)
	}
	for _, d := range all[:2] {
		d.seesModel(t, "m")
	}
	got, err := head.ask(t, "m", 6, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, bytesIn(got)); diff != "" {
		t.Errorf("(-solo +from the hub):\n%s", diff)
	}
	const hub = `weft_weights_received_bytes_total{from="hub"}`
	sum := int64(0)
	for _, d := range all[:2] {
		n := d.metric(t, hub)
		if sum += n; n == 0 || n > 3*total/4 {
			t.Errorf("%s fetched %d of %d bytes from the hub", d.name, n, total)
		}
	}
	if n := head.metric(t, hub); n != 0 {
		t.Errorf("the node that computes nothing fetched %d bytes", n)
	}
	t.Logf("the model has %d bytes, the two nodes fetched %d of them", total, sum)

	// The node that pulled leaves: the others know the model as well.
	head.stop(t)
	head.ended = true
	for _, d := range all[:2] {
		d.sees(t, 2)
	}
	got, err = all[0].ask(t, "m", 6, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, bytesIn(got)); diff != "" {
		t.Errorf("(-solo +without the node that pulled):\n%s", diff)
	}

	// A node that only asked so far gets everything from the hub when all who had
	// weights are gone.
	token := strings.TrimSpace(mustRun(t, all[0].home, "invite"))
	late := up(t, "late", home(t), "--memory", "1GB", "--join", token)
	late.sees(t, 3)
	if _, err := late.ask(t, "m", 2, nil); err != nil {
		t.Fatal(err)
	}
	if n := late.metric(t, hub) + late.metric(t, received); n != 0 {
		t.Errorf("a head fetched %d bytes of weights", n)
	}
	for _, d := range all[:2] {
		d.kill()
	}
	late.sees(t, 1)
	got, err = late.ask(t, "m", 6, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, bytesIn(got)); diff != "" {
		t.Errorf("(-solo +after all others died):\n%s", diff)
	}
	if n := late.metric(t, hub); n < total/2 {
		t.Errorf("only %d of %d bytes came from the hub", n, total)
	}

	// Without a daemon, too, what was pulled lazily comes when it is asked for.
	alone := home(t)
	mustRun(t, alone, "pull", "--lazy", "hf:o/r", "--name", "m", "--ctx", "512")
	mustRun(t, alone, "run", "-m", "m", "--raw", "--max-tokens", "2", "hello")
}
