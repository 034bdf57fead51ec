package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	someFiles = []entry{{name: "weft", data: []byte("program"), run: true}, {name: "README.md", data: bytes.Repeat([]byte("words "), 1000)}}
	someTime  = time.Unix(1_700_000_000, 0).UTC()
)

func TestAnArchiveDependsOnItsContentAlone(t *testing.T) {
	for name, pack := range map[string]func(string, []entry, time.Time) ([]byte, error){"tar": tarred, "zip": zipped} {
		a, err := pack("weft-1", someFiles, someTime)
		if err != nil {
			t.Fatal(err)
		}
		b, err := pack("weft-1", someFiles, someTime.In(time.FixedZone("elsewhere", 3600)))
		if err != nil {
			t.Fatal(err)
		}
		if name == "tar" && !bytes.Equal(a, b) {
			t.Error("a time zone changes the bytes of a tar archive")
		}
		if c, err := pack("weft-1", someFiles, someTime); err != nil || !bytes.Equal(a, c) {
			t.Errorf("%s: the second archive differs: %v", name, err)
		}
	}
}

func TestArchivesHoldTheFilesWithModesAndNoOwner(t *testing.T) {
	b, err := tarred("weft-1", someFiles, someTime)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if z.Name != "" || !z.ModTime.IsZero() {
		t.Errorf("gzip says %q, %v", z.Name, z.ModTime)
	}
	r := tar.NewReader(z)
	for _, e := range someFiles {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil || h.Name != "weft-1/"+e.name || h.Mode != int64(e.mode()) || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || !h.ModTime.Equal(someTime) || !bytes.Equal(data, e.data) {
			t.Errorf("%+v, %v", h, err)
		}
	}
	if b, err = zipped("weft-1", someFiles, someTime); err != nil {
		t.Fatal(err)
	}
	list, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(list.File) != len(someFiles) {
		t.Fatal(err)
	}
	if f := list.File[0]; f.Name != "weft-1/weft" || f.Mode() != 0o755 || !f.Modified.Equal(someTime) {
		t.Errorf("%+v", f)
	}
}

func TestSumsAreWhatSha256sumReads(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"b", "a"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := sums(dir, []string{"b", "a"}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if d := cmp.Diff(fmt.Sprintf("%s  a\n%s  b\n", empty, empty), string(got)); d != "" {
		t.Error(d)
	}
}

func TestTargetsSayHowTheProgramIsLinked(t *testing.T) {
	for s, want := range map[string]string{
		"linux/amd64": "weft-v1-linux-amd64.tar.gz", " linux/arm64/static": "weft-v1-linux-arm64-static.tar.gz",
		"windows/amd64": "weft-v1-windows-amd64.zip",
	} {
		if got, err := parseTarget(s); err != nil || archiveName("v1", got) != want || got.String() != strings.TrimSpace(s) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, bad := range []string{"", "linux", "linux/", "linux/amd64/dynamic", "darwin/arm64/static", "linux/amd64/static/x", "../x/y", "a b/c"} {
		if got, err := parseTarget(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

func TestTimesAndVersionsAreChecked(t *testing.T) {
	if w, err := stamp(t.Context(), "1700000000"); err != nil || !w.Equal(someTime) {
		t.Errorf("%v, %v", w, err)
	}
	for _, bad := range []string{"x", "1", "9999999999"} {
		if _, err := stamp(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "-x", "a b", "v1 -X main.other=2", "../x", strings.Repeat("v", 65)} {
		if err := release(t.Context(), options{version: bad, out: t.TempDir(), targets: allTargets}); err == nil || !strings.Contains(err.Error(), "version") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
