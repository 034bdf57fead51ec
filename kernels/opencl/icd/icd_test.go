package icd

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

func TestMain(m *testing.M) {
	if cache, err := os.UserCacheDir(); err == nil && os.Getenv("POCL_CACHE_DIR") == "" {
		_ = os.Setenv("POCL_CACHE_DIR", filepath.Join(cache, "weft-pocl"))
	}
	os.Exit(m.Run())
}

const program = `
__kernel void add_to(__global int *x, __global const int *y, int n, uint u, float f) {
  int i = get_global_id(0);
  if (i < n) x[i] = x[i] + y[i] * n + (int)u + (int)f;
}
__kernel void place(__global int *x, int width) {
  x[get_global_id(1) * width + get_global_id(0)] = (int)(get_group_id(0) * 100 + get_local_id(0) * 10 + get_group_id(1));
}`

func openTest(t *testing.T) driver.Device {
	t.Helper()
	if _, err := New().Devices(); errors.Is(err, driver.ErrAbsent) {
		t.Skipf("not run: no OpenCL platform (on Debian: apt-get install pocl-opencl-icd): %v", err)
	}
	d, err := New().Open(0, driver.Program{Source: program})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func memoryOf(t *testing.T, d driver.Device, n int64) driver.Memory {
	t.Helper()
	m, err := d.Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ints is n numbers of four bytes.
func ints(n int, f func(int) byte) []byte {
	b := make([]byte, 4*n)
	for i := range n {
		b[4*i] = f(i)
	}
	return b
}

func TestDevicesSayWhatTheyAre(t *testing.T) {
	d := openTest(t)
	i := d.Info()
	if i.Name == "" || i.Memory == 0 || i.MaxGroup < driver.MaxGroup || i.LocalMemory < 32<<10 || i.Units < 1 || !strings.HasPrefix(i.DriverName, "opencl (") {
		t.Errorf("%+v", i)
	}
	before, total, err := d.MemoryInfo()
	do(t, err)
	m := memoryOf(t, d, 1<<20)
	after, _, err := d.MemoryInfo()
	do(t, err)
	if before > total || after > before-1<<20 {
		t.Errorf("%d bytes are free of %d, %d with a MiB in use", before, total, after)
	}
	d.Free(m)
	d.Free(m) // as good as once
	if again, _, _ := d.MemoryInfo(); again < before && !d.(*device).amd {
		t.Errorf("%d bytes are free after all is given back, %d before", again, before)
	}
}

func TestLaunchPassesEveryKindOfArgument(t *testing.T) {
	d := openTest(t)
	k, err := d.Kernel("add_to")
	do(t, err)
	if again, _ := d.Kernel("add_to"); again != k || k.Name() != "add_to" {
		t.Error("the same name gives another kernel")
	}
	x, y, z := memoryOf(t, d, 400), memoryOf(t, d, 400), memoryOf(t, d, 2*driver.Align)
	do(t, d.Write(x, 0, ints(100, func(int) byte { return 0 })))
	do(t, d.Write(y, 0, ints(100, func(i int) byte { return byte(i % 2) })))
	do(t, d.Write(z, driver.Align, ints(100, func(int) byte { return 2 })))
	launch := func(args ...driver.Arg) {
		t.Helper()
		do(t, d.Launch(k, [3]int{4, 1, 1}, [3]int{32, 1, 1}, args...))
	}
	launch(driver.Mem(x), driver.Mem(y), driver.Int(100), driver.Uint(3), driver.Float(4))
	launch(driver.Mem(x), driver.MemAt(z, driver.Align), driver.Int(50), driver.Uint(1), driver.Float(4)) // some change
	launch(driver.Mem(x), driver.MemAt(z, driver.Align), driver.Int(50), driver.Uint(1), driver.Float(4)) // none do
	got := make([]byte, 400)
	do(t, d.Read(got, x, 0))
	for i := range 100 {
		want := 100*(i%2) + 7
		if i < 50 {
			want += 2 * (2*50 + 5)
		}
		if have := int(got[4*i]) + int(got[4*i+1])<<8; have != want {
			t.Fatalf("element %d is %d, want %d", i, have, want)
		}
	}
	if err := d.Launch(k, [3]int{1, 1, 1}, [3]int{32, 1, 1}, driver.MemAt(z, 64)); err == nil || !strings.Contains(err.Error(), "multiple of 4096") {
		t.Errorf("an offset of 64: %v", err)
	}
	if err := d.Launch(k, [3]int{1, 1, 1}, [3]int{1 << 20, 1, 1}, driver.Mem(x), driver.Mem(y), driver.Int(1), driver.Uint(1), driver.Float(1)); err == nil || errors.Is(err, driver.ErrLost) {
		t.Errorf("a group of 2^20 items: %v", err)
	}
	if _, err := d.Kernel("nobody"); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a kernel that is not there: %v", err)
	}
}

func TestGroupsLieInAllDimensions(t *testing.T) {
	d := openTest(t)
	k, err := d.Kernel("place")
	do(t, err)
	m := memoryOf(t, d, 4*6*3)
	do(t, d.Launch(k, [3]int{3, 3, 1}, [3]int{2, 1, 1}, driver.Mem(m), driver.Int(6)))
	got := make([]byte, 4*6*3)
	do(t, d.Read(got, m, 0))
	for i := range 18 {
		x, y := i%6, i/6
		if want := x/2*100 + x%2*10 + y; int(got[4*i]) != want&255 {
			t.Fatalf("item %d,%d wrote %d, want %d", x, y, got[4*i], want)
		}
	}
}

func TestWritesKeepTheirOrderAndTheirBytes(t *testing.T) {
	for name, shared := range map[string]bool{"in host memory": true, "in its own memory": false} {
		t.Run(name, func(t *testing.T) { writes(t, shared) })
	}
}

func writes(t *testing.T, shared bool) {
	d := openTest(t)
	d.(*device).info.Shared = shared
	const piece = 60 << 10
	m := memoryOf(t, d, 64*piece)
	src := make([]byte, piece)
	for range 20 { // several times the room of staging
		for i := range 64 {
			for j := range src {
				src[j] = byte(i + j)
			}
			do(t, d.Write(m, int64(i)*piece, src))
		}
	}
	whole := memoryOf(t, d, 5*slotBytes+7)
	large := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7}, 5*slotBytes/7+8)[:5*slotBytes+7]
	do(t, d.Write(whole, 0, large))
	back := make([]byte, len(large))
	do(t, d.Read(back, whole, 0))
	if !bytes.Equal(back, large) {
		t.Error("a large piece came back with other bytes")
	}
	big := bytes.Repeat([]byte{0xab}, 3*piece)
	do(t, d.Write(m, 10*piece, big))
	do(t, d.Write(m, 11*piece, []byte{1, 2, 3}))
	clear(src)
	got := make([]byte, 64*piece)
	do(t, d.Read(got, m, 0))
	for i, b := range got {
		want := byte(i/piece + i%piece)
		if i >= 10*piece && i < 13*piece {
			want = 0xab
		}
		if at := i - 11*piece; at >= 0 && at < 3 {
			want = byte(at + 1)
		}
		if b != want {
			t.Fatalf("byte %d is %d, want %d", i, b, want)
		}
	}
	part := make([]byte, 5)
	do(t, d.Read(part, m, 11*piece+1))
	if !bytes.Equal(part, []byte{2, 3, 0xab, 0xab, 0xab}) {
		t.Errorf("part %v", part)
	}
	for name, err := range map[string]error{
		"write behind the end": d.Write(m, 64*piece-1, []byte{1, 2}), "write before it": d.Write(m, -1, []byte{1}),
		"read behind the end": d.Read(part, m, 64*piece-1), "read before it": d.Read(part, m, -1),
	} {
		if err == nil || errors.Is(err, driver.ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	do(t, d.Sync())
}

func TestTooMuchMemoryIsAnError(t *testing.T) {
	d := openTest(t)
	for _, n := range []int64{1 << 60, int64(d.Info().MaxAlloc) + 1} {
		if _, err := d.Alloc(n); !errors.Is(err, driver.ErrNoMemory) || errors.Is(err, driver.ErrLost) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := d.Alloc(0); err == nil {
		t.Error("no bytes are no error")
	}
	do(t, d.Sync()) // it goes on
	d.Free(memoryOf(t, d, 1<<20))
}

func TestProgramThatDoesNotBuildSaysWhy(t *testing.T) {
	openTest(t)
	_, err := New().Open(0, driver.Program{Source: "__kernel void f() { no_such_function_xyz(1, } "})
	if err == nil || !strings.Contains(err.Error(), "compiler says") {
		t.Errorf("error %v", err)
	}
	if _, err := New().Open(77, driver.Program{Source: program}); err == nil || !strings.Contains(err.Error(), "77") {
		t.Errorf("a device that is not there: %v", err)
	}
}

// The list of drivers is read once in a process, so this looks in one of its own.
func TestNoPlatformIsAbsent(t *testing.T) {
	if os.Getenv("WEFT_TEST_NO_PLATFORM") != "" {
		_, err := New().Devices()
		_, oerr := New().Open(0, driver.Program{Source: program})
		if !errors.Is(err, driver.ErrAbsent) || !errors.Is(oerr, driver.ErrAbsent) {
			t.Errorf("devices: %v; open: %v", err, oerr)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoPlatformIsAbsent$")
	empty := t.TempDir()
	cmd.Env = append(os.Environ(), "WEFT_TEST_NO_PLATFORM=1", "OCL_ICD_VENDORS="+empty, "OPENCL_VENDOR_PATH="+empty)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestErrorsSayWhatBecomesOfTheDevice(t *testing.T) {
	for c, want := range map[code]error{-5: driver.ErrLost, -36: driver.ErrLost, -14: driver.ErrLost, -9999: driver.ErrLost, -4: driver.ErrNoMemory, -6: driver.ErrNoMemory, -52: nil, -54: nil} {
		err := opError("norm", c)
		for _, s := range []error{driver.ErrLost, driver.ErrNoMemory} {
			if errors.Is(err, s) != (s == want) {
				t.Errorf("launch, code %d: %v", c, err)
			}
		}
		if !errors.Is(err, c) || !strings.Contains(err.Error(), "norm") {
			t.Errorf("launch, code %d: %v", c, err)
		}
	}
	for c, want := range map[code]error{-4: driver.ErrNoMemory, -5: driver.ErrNoMemory, -61: driver.ErrNoMemory, -34: driver.ErrLost} {
		if err := allocError(1, c); !errors.Is(err, want) {
			t.Errorf("alloc, code %d: %v", c, err)
		}
	}
	if opError("x", success) != nil {
		t.Error("success is an error")
	}
	if got := code(-777).Error(); got != "OpenCL error -777" {
		t.Errorf("unknown code: %s", got)
	}
}

func TestVersionsAndPlacesAreRead(t *testing.T) {
	for s, want := range map[string][2]int{"OpenCL 1.2 CUDA": {1, 2}, "OpenCL 3.0 PoCL 3.1": {3, 0}, "nonsense": {0, 0}, "": {0, 0}} {
		if major, minor := version(s); major != want[0] || minor != want[1] {
			t.Errorf("%q is %d.%d", s, major, minor)
		}
	}
	if got := pci(0, 0x65, 0, 0); got != "0000:65:00.0" {
		t.Errorf("place %s", got)
	}
}

// A static build has no loader, and so no need of a dynamic linker.
func TestStaticBuildHasNoLoader(t *testing.T) {
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("not run: no go command")
	}
	for tag, want := range map[string]bool{"static": false, "none": true} {
		cmd := exec.Command(tool, "list", "-deps", "-tags", tag, ".")
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(out), "ebitengine/purego"); got != want {
			t.Errorf("tag %s: the loader is in the build: %v", tag, got)
		}
	}
}
