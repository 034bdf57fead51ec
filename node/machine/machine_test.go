package machine

import (
	"context"
	"runtime"
	"testing"
	"testing/fstest"
)

func TestFactsOfThisMachineAreSane(t *testing.T) {
	i := Facts(context.Background(), t.TempDir())
	if i.Cores < 1 || i.Threads < i.Cores || i.MemTotal <= 0 || i.MemFree <= 0 || i.MemFree > i.MemTotal || i.DiskFree <= 0 || i.CPU == "" {
		t.Fatalf("%+v", i)
	}
	if Resident() < 1<<20 {
		t.Fatalf("resident memory %d", Resident())
	}
}

// TestFreedMemoryIsNoLongerResident holds ReturnMemory to what nodes call it for.
func TestFreedMemoryIsNoLongerResident(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("not run: other systems may keep returned pages resident until they need them")
	}
	const size = 64 << 20
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i)
	}
	full := Resident()
	runtime.KeepAlive(b)
	ReturnMemory()
	if now := Resident(); full-now < size*3/4 {
		t.Errorf("%d bytes resident before, %d after %d were freed", full, now, size)
	}
}

func TestSizesAreReadAsPeopleWriteThem(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "512": 512, "8GB": 8e9, "8 gb": 8e9, "1.5g": 15e8, "512MiB": 512 << 20, "64k": 64e3, "2TiB": 2 << 40, "10b": 10,
	} {
		if got, ok := ParseSize(s); !ok || got != want {
			t.Errorf("%q: %d %v, want %d", s, got, ok, want)
		}
	}
	for _, s := range []string{"", "GB", "-1", "1e40", "nan", "8 parsecs", "1.2.3g"} {
		if n, ok := ParseSize(s); ok {
			t.Errorf("%q was read as %d", s, n)
		}
	}
}

func TestGroupLimitIsFoundInBothVersions(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for name, tc := range map[string]struct {
		fs          fstest.MapFS
		limit, used int64
		ok          bool
	}{
		"two":          {fstest.MapFS{"memory.max": file("4096\n"), "memory.current": file("1024\n")}, 4096, 1024, true},
		"two, none":    {fstest.MapFS{"memory.max": file("max\n")}, 0, 0, false},
		"one":          {fstest.MapFS{"memory/memory.limit_in_bytes": file("8192"), "memory/memory.usage_in_bytes": file("1")}, 8192, 1, true},
		"one, none":    {fstest.MapFS{"memory/memory.limit_in_bytes": file("9223372036854771712")}, 0, 0, false},
		"no group":     {fstest.MapFS{}, 0, 0, false},
		"nonsense":     {fstest.MapFS{"memory.max": file("-7")}, 0, 0, false},
		"long garbage": {fstest.MapFS{"memory.max": file(string(make([]byte, 100)))}, 0, 0, false},
	} {
		limit, used, ok := groupMemory(tc.fs)
		if limit != tc.limit || used != tc.used || ok != tc.ok {
			t.Errorf("%s: %d %d %v", name, limit, used, ok)
		}
	}
}
