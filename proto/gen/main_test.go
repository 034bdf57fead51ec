package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestGeneratedFilesAreUpToDate generates into a copy of the sources and wants
// the bytes that are committed.
func TestGeneratedFilesAreUpToDate(t *testing.T) {
	names, err := sources("..")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, n := range names {
		copyFile(t, filepath.Join("..", n), filepath.Join(root, n))
	}
	if err := run(root); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		made := n[:len(n)-len(".proto")] + ".pb.go"
		want, err := os.ReadFile(filepath.Join("..", made))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, made))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s differs from what its source gives; run go generate ./proto/...", made)
		}
	}
}

func TestBadSourceIsAnError(t *testing.T) {
	root := t.TempDir()
	if err := run(root); err == nil {
		t.Error("an empty root was accepted")
	}
	if err := os.WriteFile(filepath.Join(root, "a.proto"), []byte("message {"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(root); err == nil {
		t.Error("a broken source was accepted")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
