package hub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/store/hub"
	"github.com/weft-mesh/weft/shard/store/packed"
)

func TestPullFollowsRedirectsAndChecksTheHash(t *testing.T) {
	data := noise(3 << 20)
	h := newHub(t, map[string][]byte{"m-Q4_K_M.gguf": data, "m-Q8_0.gguf": noise(99)})
	h.token = "secret"
	var last hub.Status
	paths, err := h.client(hub.Options{Token: "secret"}).Pull(t.Context(), ref(t, "hf:o/r"), t.TempDir(), func(s hub.Status) { last = s })
	if err != nil {
		t.Fatal(err)
	}
	expect(t, paths[0], data)
	if last.Done != uint64(len(data)) || last.Total != last.Done || last.File != "m-Q4_K_M.gguf" {
		t.Errorf("%+v", last)
	}
}

func TestPullGoesOnAfterCutsInTheMiddle(t *testing.T) {
	data := noise(2 << 20)
	h := newHub(t, map[string][]byte{"m.gguf": data})
	h.cutAfter = []int{1000, 500000, 0, 0, 700000}
	h.fail = []int{503}
	paths, err := h.client(hub.Options{Retries: 4}).Pull(t.Context(), ref(t, "hf:o/r"), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, paths[0], data)
	want := []string{"", "", "bytes=1000-", "bytes=501000-", "bytes=501000-", "bytes=501000-", "bytes=1201000-"}
	if d := cmp.Diff(want, h.requests); d != "" {
		t.Error(d)
	}
}

func TestPullGoesOnInTheNextRunOfTheProgram(t *testing.T) {
	data := noise(2 << 20)
	h := newHub(t, map[string][]byte{"m.gguf": data})
	h.cutAfter = []int{300000, 0, 0}
	dir := t.TempDir()
	if _, err := h.client(hub.Options{Retries: 2}).Pull(t.Context(), ref(t, "hf:o/r"), dir, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("the cut was not reported: %v", err)
	}
	h.mu.Lock()
	h.cutAfter, h.requests = nil, nil
	h.mu.Unlock()
	paths, err := h.client(hub.Options{}).Pull(t.Context(), ref(t, "hf:o/r"), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, paths[0], data)
	if d := cmp.Diff([]string{"bytes=300000-"}, h.requests); d != "" {
		t.Error(d)
	}
	if _, err := h.client(hub.Options{}).Pull(t.Context(), ref(t, "hf:o/r"), dir, nil); err != nil || len(h.requests) != 1 {
		t.Errorf("a file that is there was asked for again: %v %v", err, h.requests)
	}
}

func TestFileThatChangedAtTheServerIsFetchedAnew(t *testing.T) {
	data := noise(1 << 20)
	h := newHub(t, map[string][]byte{"m.gguf": noise(1<<20 - 1)})
	h.files["m.gguf"] = append(bytes.Repeat([]byte{7}, 1<<20-5), 1, 2, 3, 4, 5)
	h.cutAfter = []int{300000, 0}
	dir := t.TempDir()
	if _, err := h.client(hub.Options{Retries: 1}).Pull(t.Context(), ref(t, "hf:o/r"), dir, nil); err == nil {
		t.Fatal("the cut was not reported")
	}
	h.mu.Lock()
	h.files["m.gguf"], h.etag, h.cutAfter, h.requests = data, `"v2"`, nil, nil
	h.mu.Unlock()
	paths, err := h.client(hub.Options{}).Pull(t.Context(), ref(t, "hf:o/r"), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, paths[0], data)
}

func TestServerThatIgnoresRangesIsReadFromTheBeginning(t *testing.T) {
	data := noise(1 << 20)
	h := newHub(t, map[string][]byte{"m.gguf": data})
	h.cutAfter, h.noRange = []int{400000}, true
	var last hub.Status
	paths, err := h.client(hub.Options{}).Pull(t.Context(), ref(t, "hf:o/r"), t.TempDir(), func(s hub.Status) { last = s })
	if err != nil {
		t.Fatal(err)
	}
	expect(t, paths[0], data)
	if last.Done != uint64(len(data)) {
		t.Errorf("%+v", last)
	}
}

func TestWrongHashIsFetchedOnceMoreAfterAResumptionAndThenAnError(t *testing.T) {
	data := noise(1 << 20)
	h := newHub(t, map[string][]byte{"m.gguf": data})
	dir := t.TempDir()
	into := filepath.Join(dir, "o--r")
	if err := errors.Join(os.MkdirAll(into, 0o700), os.WriteFile(filepath.Join(into, "m.gguf.part"), make([]byte, 1000), 0o600)); err != nil {
		t.Fatal(err)
	}
	paths, err := h.client(hub.Options{}).Pull(t.Context(), ref(t, "hf:o/r"), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, paths[0], data)

	h.lie["m.gguf"] = strings.Repeat("ab", 32)
	dir = t.TempDir()
	_, err = h.client(hub.Options{}).Pull(t.Context(), ref(t, "hf:o/r"), dir, nil)
	if !errors.Is(err, hub.ErrHash) {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPartThatIsLongerThanTheFileBeginsAnew(t *testing.T) {
	data := noise(100000)
	h := newHub(t, map[string][]byte{"m.gguf": data})
	dir := t.TempDir()
	into := filepath.Join(dir, "o--r")
	if err := errors.Join(os.MkdirAll(into, 0o700), os.WriteFile(filepath.Join(into, "m.gguf.part"), make([]byte, 200000), 0o600)); err != nil {
		t.Fatal(err)
	}
	paths, err := h.client(hub.Options{}).Pull(t.Context(), ref(t, "hf:o/r"), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, paths[0], data)
}

func TestStandstillIsNoticed(t *testing.T) {
	data := noise(1 << 20)
	h := newHub(t, map[string][]byte{"m.gguf": data})
	h.stall = 2
	paths, err := h.client(hub.Options{Stall: 100 * time.Millisecond}).Pull(t.Context(), ref(t, "hf:o/r"), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, paths[0], data)
}

func TestCancelStopsAPullAtOnce(t *testing.T) {
	h := newHub(t, map[string][]byte{"m.gguf": noise(1 << 20)})
	h.stall = 1
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := h.client(hub.Options{}).Pull(ctx, ref(t, "hf:o/r"), t.TempDir(), nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	h := newHub(t, map[string][]byte{"m.gguf": noise(10)})
	h.token = "secret"
	for _, c := range []struct {
		ref, token string
		want       error
		word       string
	}{
		{"hf:o/r", "", hub.ErrDenied, "set HF_TOKEN"},
		{"hf:o/r", "old", hub.ErrDenied, "expired"},
		{"hf:o/none", "secret", hub.ErrNotFound, "spelling"},
		{"hf:o/r:Q9", "secret", hub.ErrNoFile, "m.gguf"},
	} {
		_, err := h.client(hub.Options{Token: c.token}).Pull(t.Context(), ref(t, c.ref), t.TempDir(), nil)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s with token %q: %v", c.ref, c.token, err)
		}
	}
}

func TestServerThatIsDownIsGivenUpAfterSomeAttempts(t *testing.T) {
	h := newHub(t, map[string][]byte{"m.gguf": noise(10)})
	h.fail = []int{500, 502, 503, 504}
	_, err := h.client(hub.Options{Retries: 3}).Pull(t.Context(), ref(t, "hf:o/r"), t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "3 attempts") || !strings.Contains(err.Error(), "503") {
		t.Fatal(err)
	}
	h.fail = []int{418}
	_, err = h.client(hub.Options{}).Pull(t.Context(), ref(t, "hf:o/r"), t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "418") {
		t.Fatal(err)
	}
}

func TestHashComesFromTheRedirectWhenTheListHasNone(t *testing.T) {
	data := noise(50000)
	h := newHub(t, map[string][]byte{"m.gguf": data})
	h.noLFS = true
	paths, err := h.client(hub.Options{}).Pull(t.Context(), ref(t, "hf:o/r"), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, paths[0], data)
}

// smallDisk has little room, or says that it has much and runs full.
type smallDisk struct {
	packed.Disk
	free uint64
	full bool
}

func (d smallDisk) Free(string) (uint64, error) { return d.free, nil }

func (d smallDisk) OpenPart(path string) (packed.PartFile, error) {
	f, err := d.Disk.OpenPart(path)
	if d.full && err == nil {
		return fullFile{f}, nil
	}
	return f, err
}

type fullFile struct{ packed.PartFile }

func (fullFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.ENOSPC }

func TestFullDiskIsAClearErrorBeforeAndDuringADownload(t *testing.T) {
	h := newHub(t, map[string][]byte{"m.gguf": noise(2 << 20)})
	_, err := h.client(hub.Options{FS: smallDisk{free: 3 << 20}, SpaceFactor: 2}).Pull(t.Context(), ref(t, "hf:o/r"), t.TempDir(), nil)
	if !errors.Is(err, packed.ErrNoSpace) || !strings.Contains(err.Error(), "1.0 MiB are missing") || len(h.requests) != 0 {
		t.Errorf("before: %v", err)
	}
	_, err = h.client(hub.Options{FS: smallDisk{free: 3 << 20, full: true}}).Pull(t.Context(), ref(t, "hf:o/r"), t.TempDir(), nil)
	if !errors.Is(err, packed.ErrNoSpace) {
		t.Errorf("during: %v", err)
	}
}

func TestPullURLChecksTheHashThatTheUserGave(t *testing.T) {
	data := noise(70000)
	h := newHub(t, map[string][]byte{"x/m.gguf": data})
	c := h.client(hub.Options{Token: "secret"})
	path, err := c.PullURL(t.Context(), h.cdn.URL+"/x/m.gguf", strings.ToUpper(sum(data)), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, path, data)
	if _, err := c.PullURL(t.Context(), h.cdn.URL+"/x/m.gguf", sum(nil), t.TempDir(), nil); !errors.Is(err, hub.ErrHash) {
		t.Error(err)
	}
	for _, bad := range [][2]string{{h.cdn.URL + "/x/m.gguf", "12"}, {"ftp://x/y", sum(nil)}, {"nothing", sum(nil)}, {h.cdn.URL + "/none", sum(nil)}} {
		if _, err := c.PullURL(t.Context(), bad[0], bad[1], t.TempDir(), nil); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

func TestFileNamesFromTheServerStayInTheDirectory(t *testing.T) {
	h := newHub(t, nil)
	for _, p := range []string{"..", "a/..", ".hidden", `..\..`, "/", ""} {
		if _, err := h.client(hub.Options{}).Download(t.Context(), []hub.File{{Path: p, Size: 1, SHA256: sum(nil)}}, t.TempDir(), nil); err == nil {
			t.Errorf("%q was accepted", p)
		}
	}
}

func TestHeaderIsReadWithoutTheWeights(t *testing.T) {
	var b gguf.Builder
	b.Set("general.architecture", "llama")
	tokens := make([]string, 150000)
	for i := range tokens {
		tokens[i] = fmt.Sprintf("token-%d", i)
	}
	b.Set("tokenizer.ggml.tokens", tokens) // a header of more than a MiB
	b.Add("x", gguf.F32, 1<<10, 8<<10)
	var file bytes.Buffer
	if err := b.Write(&file, func(ts gguf.Tensor, w io.Writer) error {
		_, err := w.Write(make([]byte, ts.Size))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	h := newHub(t, map[string][]byte{"m.gguf": file.Bytes()})
	h.fail = []int{500}
	c := h.client(hub.Options{})
	files, err := c.List(t.Context(), "o/r")
	if err != nil {
		t.Fatal(err)
	}
	if files, err = hub.Pick(files, ""); err != nil {
		t.Fatal(err)
	}
	g, err := c.Header(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := g.Meta.Strings("tokenizer.ggml.tokens"); err != nil || len(got) != len(tokens) {
		t.Fatal(len(got), err)
	}
	if d := cmp.Diff([]string{"bytes=0-1048575", "bytes=0-1048575", "bytes=0-4194303"}, h.requests); d != "" {
		t.Error(d)
	}
}
