package machine

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestLimitsAndInterfacesOfThisMachineAreSane(t *testing.T) {
	l := ProcessLimits()
	if l.Files < 16 || l.AddressSpace < 1<<20 || l.Memory < 1<<20 {
		t.Errorf("%+v", l)
	}
	for _, i := range Interfaces() {
		if i.Name == "" || i.MTU < 0 {
			t.Errorf("%+v", i)
		}
	}
}

func TestTheStateDirectoryIsLookedAt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	if h := HomeState(dir); !h.Missing || h.Error != nil {
		t.Errorf("a missing one: %+v", h)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if h := HomeState(dir); h.Missing || h.Open || h.Error != nil || len(h.Foreign) != 0 {
		t.Errorf("a good one: %+v", h)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if h := HomeState(file); h.Error == nil {
		t.Error("a file is a directory")
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if h := HomeState(dir); !h.Open {
		t.Error("everybody may read it, and that is not said")
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 12345, -1); err != nil {
			t.Skipf("not run: ownership cannot be changed: %v", err)
		}
		if h := HomeState(dir); len(h.Foreign) != 1 || h.Foreign[0] != "file" {
			t.Errorf("another's file: %+v", h)
		}
		return
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if h := HomeState(dir); h.Error == nil {
		t.Error("a directory that cannot be written is fine")
	}
}
