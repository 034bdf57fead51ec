package hub_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weft-mesh/weft/shard/store/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// fakeHub behaves like the hub: a list of files, and resolve addresses that redirect to a CDN on another host.
type fakeHub struct {
	t        *testing.T
	hub, cdn *httptest.Server
	files    map[string][]byte

	mu       sync.Mutex // guards the fields below
	token    string     // demanded if not empty
	lie      map[string]string
	noLFS    bool
	cutAfter []int // bytes after which the next answers of the CDN end
	stall    int   // answers that stop in the middle
	fail     []int // status codes of the next answers of the CDN
	noRange  bool
	etag     string
	commit   string   // told of the main branch, and served under its own name
	requests []string // ranges that the CDN was asked for
	release  chan struct{}
	asked    int // requests for files at the hub
	pinned   int // requests for files of the commit
}

func newHub(t *testing.T, files map[string][]byte) *fakeHub {
	h := &fakeHub{t: t, files: files, lie: map[string]string{}, etag: `"v1"`, release: make(chan struct{})}
	h.cdn = httptest.NewServer(http.HandlerFunc(h.serveCDN))
	h.hub = httptest.NewServer(http.HandlerFunc(h.serveHub))
	t.Cleanup(func() { close(h.release); h.hub.Close(); h.cdn.Close(); http.DefaultClient.CloseIdleConnections() })
	return h
}

func (h *fakeHub) serveHub(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.token != "" && r.Header.Get("Authorization") != "Bearer "+h.token {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	if r.URL.Path == "/api/models/o/r/tree/main" {
		h.list(w, r)
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/o/r/resolve/main/")
	if !ok && h.commit != "" {
		name, ok = strings.CutPrefix(r.URL.Path, "/o/r/resolve/"+h.commit+"/")
		h.pinned++
	}
	b, there := h.files[name]
	h.asked++
	if !ok || !there {
		http.NotFound(w, r)
		return
	}
	if h.commit != "" {
		w.Header().Set("X-Repo-Commit", h.commit)
	}
	w.Header().Set("X-Linked-Size", strconv.Itoa(len(b)))
	w.Header().Set("X-Linked-Etag", `"`+sum(b)+`"`)
	w.Header().Set("Location", h.cdn.URL+"/"+name)
	w.WriteHeader(http.StatusFound)
}

// list answers with one file a page.
func (h *fakeHub) list(w http.ResponseWriter, r *http.Request) {
	type lfs struct {
		OID  string `json:"oid"`
		Size int    `json:"size"`
	}
	type entry struct {
		Type string `json:"type"`
		Path string `json:"path"`
		Size int    `json:"size"`
		LFS  *lfs   `json:"lfs,omitempty"`
	}
	all := []entry{{Type: "directory", Path: "dir"}, {Type: "file", Path: "README.md", Size: 10}}
	for name, b := range h.files {
		e := entry{Type: "file", Path: name, Size: len(b)}
		if !h.noLFS {
			e.LFS = &lfs{sum(b), len(b)}
		}
		if s, ok := h.lie[name]; ok {
			e.LFS.OID = s
		}
		all = append(all, e)
	}
	if r.URL.Query().Get("cursor") == "" {
		w.Header().Set("Link", `<`+h.hub.URL+r.URL.Path+`?cursor=2>; rel="next"`)
		all = all[:1]
	} else {
		all = all[1:]
	}
	_ = json.NewEncoder(w).Encode(all)
}

func (h *fakeHub) serveCDN(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		h.t.Error("the token went to the CDN")
	}
	b := h.files[strings.TrimPrefix(r.URL.Path, "/")]
	h.mu.Lock()
	h.requests = append(h.requests, r.Header.Get("Range"))
	cut, stall, status := -1, false, 0
	if len(h.fail) > 0 {
		status, h.fail = h.fail[0], h.fail[1:]
	} else if len(h.cutAfter) > 0 {
		cut, h.cutAfter = h.cutAfter[0], h.cutAfter[1:]
	} else if h.stall > 0 {
		h.stall--
		cut, stall = len(b)/3, true
	}
	noRange, etag := h.noRange, h.etag
	h.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("ETag", etag)
	if noRange {
		r.Header.Del("Range")
	}
	if cut < 0 {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
		return
	}
	http.ServeContent(&cutter{ResponseWriter: w, left: cut}, r, "", time.Time{}, bytes.NewReader(b))
	if stall {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-h.release:
		}
		return
	}
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// cutter lets only some bytes of an answer through.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	n := min(len(b), c.left)
	c.left -= n
	if _, err := c.ResponseWriter.Write(b[:n]); err != nil {
		return 0, err
	}
	if n < len(b) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func (h *fakeHub) client(o hub.Options) *hub.Client {
	h.t.Helper()
	o.Endpoint = h.hub.URL
	if o.Backoff == 0 {
		o.Backoff = time.Millisecond
	}
	tr := &http.Transport{}
	h.t.Cleanup(tr.CloseIdleConnections)
	o.Transport = tr
	c, err := hub.New(o)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func ref(t *testing.T, s string) hub.Ref {
	t.Helper()
	r, err := hub.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	if r.String() != s {
		t.Errorf("%s is written as %s", s, r)
	}
	return r
}

func expect(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s is not the hub's file", path)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
