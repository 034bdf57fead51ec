package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAFullDiskOfAWholeNodeLosesNothing runs a node whose home is on a small file
// system: a model that does not fit is refused with what is missing, and comes
// when the file system has grown.
func TestAFullDiskOfAWholeNodeLosesNothing(t *testing.T) {
	path := deep(t, 60)
	want := solo(t, path, 4)
	dir := home(t)
	if err := syscall.Mount("weft-test", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skip("not run: a small file system cannot be mounted:", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	a := up(t, "a", home(t), "--memory", "0")
	small := up(t, "small", dir, "--memory", "1GB", "--join", strings.TrimSpace(mustRun(t, a.home, "invite")))
	small.sees(t, 2)
	mustRun(t, a.home, "add", "../shard/testdata/tiny/qwen3-Q4_K_M.gguf", "--name", "fits")
	mustRun(t, a.home, "add", path, "--name", "m", "--ctx", "512")
	small.seesModel(t, "fits")
	small.seesModel(t, "m")
	fits, err := small.ask(t, "fits", 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing is left of the first
		_, err := small.ask(t, "m", 4, nil)
		if err == nil {
			t.Fatal("a model was loaded that does not fit the disk")
		}
		for _, w := range []string{"not enough disk space", "are missing", "--disk"} {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q is not in: %v", w, err)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "models", "*", ".tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	again, err := small.ask(t, "fits", 4, nil)
	if err != nil {
		t.Fatalf("the model that was there before: %v", err)
	}
	if diff := cmp.Diff(bytesIn(fits), bytesIn(again)); diff != "" {
		t.Errorf("(-before +after the full disk):\n%s", diff)
	}
	if err := syscall.Mount("weft-test", dir, "tmpfs", syscall.MS_REMOUNT, "size=256m"); err != nil {
		t.Fatal(err)
	}
	got, err := small.ask(t, "m", 4, nil)
	if err != nil {
		t.Fatalf("room was made: %v", err)
	}
	if diff := cmp.Diff(want, bytesIn(got)); diff != "" {
		t.Errorf("(-solo +on the small disk):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(dir, "models", "models.json")); err != nil {
		t.Error(err)
	}
}
