package cuda

import (
	"bytes"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/opencl/library"
)

// fake is a driver over testdata/fakecuda.c with a library of its own.
type fake struct {
	driver.Driver
	tb  testing.TB
	lib *library.Library
}

// newFake builds the library, with flags of the C compiler. A copy of it has state of its own.
func newFake(tb testing.TB, flags ...string) *fake {
	tb.Helper()
	if !library.Loads || runtime.GOOS == "windows" {
		tb.Skip("not run: this build opens no libraries outside of the system's folder")
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		tb.Skip("not run: no C compiler to build the driver's stand-in")
	}
	object := filepath.Join(tb.TempDir(), "libfakecuda.so")
	if out, err := exec.Command(cc, append(flags, "-shared", "-fPIC", "-O1", "-o", object, filepath.Join("testdata", "fakecuda.c"))...).CombinedOutput(); err != nil {
		tb.Skipf("not run: the C compiler makes no library: %v\n%s", err, out)
	}
	lib, err := library.Open(object)
	if err != nil {
		tb.Fatal(err)
	}
	return &fake{loader{func() (*api, error) { return load(object) }}, tb, lib}
}

//go:uintptrescapes
func (f *fake) call(name string, args ...uintptr) uintptr {
	f.tb.Helper()
	fn, err := f.lib.Symbol(name)
	if err != nil {
		f.tb.Fatal(err)
	}
	return library.Call(fn, args...)
}

// fail makes the call after `after` others of that name answer with a code.
func (f *fake) fail(name string, after, code int) {
	text := append([]byte(name), 0)
	f.call("fake_fail", uintptr(unsafe.Pointer(&text[0])), uintptr(after), uintptr(code))
}

// What the library counts.
const (
	liveDevice = iota
	livePinned
	liveStreams
	liveEvents
	liveModules
	liveContexts
	contextResets
	waits
)

func (f *fake) live(what int) int { return int(f.call("fake_live", uintptr(what))) }

func (f *fake) nothingLeft() {
	f.tb.Helper()
	for what, name := range []string{"memory of the card", "pinned memory", "streams", "events", "modules", "contexts"} {
		if n := f.live(what); n != 0 {
			f.tb.Errorf("%d %s left", n, name)
		}
	}
	if n := f.call("fake_graphs"); n != 0 {
		f.tb.Errorf("%d graphs left", n)
	}
}

func (f *fake) open() driver.Device {
	f.tb.Helper()
	d, err := f.Open(0, opencl.Source())
	if err != nil {
		f.tb.Fatal(err)
	}
	return d
}

func alloc(tb testing.TB, d driver.Device, n int64) driver.Memory {
	tb.Helper()
	m, err := d.Alloc(n)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestDevicesTellWhatTheyAre(t *testing.T) {
	f := newFake(t)
	list, err := f.Devices()
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	d := list[0]
	if d.Name != "Fake GTX" || d.Vendor != "NVIDIA" || d.DriverName != "cuda" || d.Bus != "0000:0a:00.0" || d.Memory != 1<<30 || d.Shared || d.CPU ||
		d.MaxGroup != 1024 || d.LocalMemory != 49152 || d.Units != 20 || !d.Dot || !strings.HasSuffix(d.DriverVersion, "CUDA 12.4") {
		t.Errorf("the first is %+v", d)
	}
	if list[1].Dot || list[1].Index != 1 {
		t.Errorf("a card of capability 3.5 is %+v", list[1])
	}
	if _, err := f.Open(1, opencl.Source()); err == nil || !strings.Contains(err.Error(), "3.5") {
		t.Errorf("a card that is too old opens: %v", err)
	}
	f.nothingLeft()
}

func TestAMachineWithoutACardSaysSo(t *testing.T) {
	none := loader{func() (*api, error) { return load("libweft-no-cuda.so.1") }}
	if _, err := none.Devices(); !errors.Is(err, driver.ErrAbsent) {
		t.Errorf("no library: %v", err)
	}
	f := newFake(t)
	f.call("fake_cards", 0)
	if _, err := f.Devices(); !errors.Is(err, driver.ErrAbsent) || !strings.Contains(err.Error(), "knows no card") {
		t.Errorf("no card: %v", err)
	}
	f.call("fake_cards", 1)
	f.fail("cuInit", 0, 803)
	if _, err := f.Devices(); err == nil || errors.Is(err, driver.ErrAbsent) || !strings.Contains(err.Error(), "does not start") {
		t.Errorf("a driver that does not start is hidden as absent: %v", err)
	}
	if _, err := f.Open(5, opencl.Source()); err == nil || !strings.Contains(err.Error(), "device 5") {
		t.Errorf("a device that is not there: %v", err)
	}
}

func TestKernelsOfAnotherSourceAreRefused(t *testing.T) {
	f := newFake(t)
	other := opencl.Source()
	other.Hash[3]++
	if _, err := f.Open(0, other); err == nil || !strings.Contains(err.Error(), "go generate") {
		t.Errorf("opened with %v", err)
	}
	f.nothingLeft()
}

// TestBytesSurviveTheRing writes more than the ring holds, in pieces of odd sizes, changing
// the source each time, while the card copies as late as it may.
func TestBytesSurviveTheRing(t *testing.T) {
	f := newFake(t)
	d := f.open()
	total := 3*slots*slotBytes + 12345
	m := alloc(t, d, int64(total))
	want := make([]byte, total)
	for i := range want {
		want[i] = byte(i*7 + i>>9)
	}
	src := make([]byte, total)
	for at, n := 0, 1; at < total; at, n = at+n, min(2*n+1, slotBytes*2+77, total-at-n) {
		copy(src[:n], want[at:at+n])
		if err := d.Write(m, int64(at), src[:n]); err != nil {
			t.Fatal(err)
		}
		clear(src[:n])
		if n == 0 {
			break
		}
	}
	if f.live(waits) == 0 {
		t.Error("nothing waited for the card, so the ring was not used twice")
	}
	got := make([]byte, total)
	if err := d.Read(got, m, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read back other bytes (%v)", err)
	}
	if err := d.Read(got[:5], m, 77); err != nil || !bytes.Equal(got[:5], want[77:82]) {
		t.Errorf("read from the middle: %v, %v", got[:5], err)
	}
	for _, bad := range []struct {
		offset int64
		n      int
	}{{-1, 2}, {int64(total) - 1, 2}, {math.MaxInt64, 1}} {
		if d.Write(m, bad.offset, src[:bad.n]) == nil || d.Read(src[:bad.n], m, bad.offset) == nil {
			t.Errorf("%d bytes at %d of %d are within", bad.n, bad.offset, total)
		}
	}
	d.Free(m)
	d.Free(m)
	if err := d.Write(m, 0, src[:1]); err == nil {
		t.Error("wrote to memory that was freed")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	f.nothingLeft()
}

func TestArgumentsReachTheKernel(t *testing.T) {
	f := newFake(t)
	d := f.open()
	defer d.Close()
	x, v := alloc(t, d, 1<<16), alloc(t, d, 4096)
	k, err := d.Kernel("norm")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.Kernel("norm"); err != nil || again != k || k.Name() != "norm" {
		t.Errorf("the same name gives %v, %v", again, err)
	}
	if _, err := d.Kernel("none_such"); err == nil {
		t.Error("found a kernel that is not there")
	}
	args := []driver.Arg{
		driver.Mem(x), driver.MemAt(x, 4096), driver.Mem(v), driver.Int(-7), driver.Int(3), driver.Float(1e-5),
		driver.MemAt(x, 8192), driver.Int(9), driver.Uint(0xfedcba98),
	}
	launch := func() error {
		return errors.Join(d.Launch(k, [3]int{5, 4, 3}, [3]int{256, 1, 1}, args...), d.Sync())
	}
	if err := launch(); err != nil {
		t.Fatal(err)
	}
	base, w := uint64(x.(*memory).address), uint64(v.(*memory).address)
	want := []uint64{base, base + 4096, w, uint64(uint32(0xfffffff9)), 3, uint64(math.Float32bits(1e-5)), base + 8192, 9, 0xfedcba98}
	if n := int(f.call("fake_arg", ^uintptr(0))); n != len(want) {
		t.Fatalf("the kernel got %d arguments, want %d", n, len(want))
	}
	for i, w := range want {
		if got := uint64(f.call("fake_arg", uintptr(i))); got != w {
			t.Errorf("argument %d is %x, want %x", i, got, w)
		}
	}
	for i, w := range []int{5, 4, 3, 256, 1, 1} {
		if got := int(f.call("fake_size", uintptr(i))); got != w {
			t.Errorf("size %d is %d, want %d", i, got, w)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = launch() }); n != 0 && !raced {
		t.Errorf("a launch allocates %v times", n)
	}
	before := f.call("fake_launches")
	for name, bad := range map[string][]driver.Arg{
		"too few":      args[:8],
		"too many":     append(args[:9:9], driver.Int(1)),
		"wrong kind":   append([]driver.Arg{driver.Int(1)}, args[1:]...),
		"int as float": append(append(args[:5:5], driver.Int(1)), args[6:]...),
		"beyond":       append([]driver.Arg{driver.MemAt(x, 1<<20)}, args[1:]...),
	} {
		if err := d.Launch(k, [3]int{1, 1, 1}, [3]int{256, 1, 1}, bad...); err == nil {
			t.Errorf("%s: launched", name)
		}
	}
	if err := d.Launch(k, [3]int{1, 1 << 16, 1}, [3]int{256, 1, 1}, args...); err == nil {
		t.Error("launched more groups than a grid has")
	}
	if err := d.Sync(); err != nil || f.call("fake_launches") != before {
		t.Error("a refused launch reached the driver")
	}
}

// TestAWaitAsksBeforeItSleeps: a short wait costs no sleep, a long one no core.
func TestAWaitAsksBeforeItSleeps(t *testing.T) {
	f := newFake(t)
	d := f.open()
	defer d.Close()
	m := alloc(t, d, 4096)
	if err := d.Write(m, 0, make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	f.call("fake_asked")
	before := f.live(waits)
	if err := d.Sync(); err != nil || int(f.call("fake_asked")) != polls || f.live(waits) != before+1 {
		t.Errorf("a long wait: %v, slept %d times", err, f.live(waits)-before)
	}
	if err := d.Sync(); err != nil || int(f.call("fake_asked")) != 1 || f.live(waits) != before+1 {
		t.Errorf("nothing to wait for: %v, slept %d times", err, f.live(waits)-before)
	}
}

func TestMemoryThatIsFullIsNoLoss(t *testing.T) {
	f := newFake(t)
	d := f.open()
	m, err := d.Alloc(2 << 30)
	if !errors.Is(err, driver.ErrNoMemory) || m != nil || !strings.Contains(err.Error(), "out of memory") || !strings.Contains(err.Error(), "Fake GTX") {
		t.Fatalf("%v, %v", m, err)
	}
	if _, err := d.Alloc(0); err == nil {
		t.Error("allocated nothing")
	}
	alloc(t, d, 1<<20)
	free, total, err := d.MemoryInfo()
	if err != nil || total != 1<<30 || free != total-1<<20 {
		t.Errorf("%d of %d free, %v", free, total, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		t.Error(err)
	}
	f.nothingLeft()
}

func TestALostDeviceSaysSoAndOpensAgain(t *testing.T) {
	f := newFake(t)
	d := f.open()
	m := alloc(t, d, 4096)
	f.call("fake_sticky", 719)
	if err := d.Sync(); !errors.Is(err, driver.ErrLost) || !strings.Contains(err.Error(), "CUDA_ERROR_LAUNCH_FAILED") {
		t.Fatalf("sync: %v", err)
	}
	b := make([]byte, 4)
	_, err := d.Alloc(1)
	for i, err := range []error{err, d.Write(m, 0, b), d.Read(b, m, 0), d.Sync()} {
		if !errors.Is(err, driver.ErrLost) {
			t.Errorf("call %d on a lost device: %v", i, err)
		}
	}
	if _, _, err := d.MemoryInfo(); !errors.Is(err, driver.ErrLost) {
		t.Errorf("memory of a lost device: %v", err)
	}
	d.Free(m)
	if err := d.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	f.nothingLeft()
	if f.live(contextResets) != 1 {
		t.Error("the card's context was not reset, so it cannot be opened again")
	}
	d = f.open()
	if err := errors.Join(d.Sync(), d.Close(), d.Close()); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if err := d.Sync(); err == nil {
		t.Error("a closed device goes on")
	}
}

// TestAnyCallMayFail fails each call of a device's life in turn: no leak, no crash, the
// error names what was done.
func TestAnyCallMayFail(t *testing.T) {
	f := newFake(t)
	for _, name := range []string{
		"cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuModuleLoadDataEx", "cuStreamCreate", "cuMemHostAlloc", "cuEventCreate",
		"cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuStreamSynchronize", "cuStreamQuery", "cuEventRecord", "cuEventSynchronize",
		"cuModuleGetFunction", "cuLaunchKernel", "cuMemGetInfo_v2",
	} {
		for _, after := range []int{0, 1, 4} {
			for _, code := range []int{2, 700, 12345} {
				f.fail(name, after, code)
				d, err := f.Open(0, opencl.Source())
				if err == nil {
					err = exercise(d)
					if e := d.Close(); err == nil {
						err = e
					}
				}
				if err != nil && (errors.Is(err, driver.ErrNoMemory) != (code == 2) || errors.Is(err, driver.ErrLost) != (code == 700)) {
					t.Errorf("%s fails with %d: %v", name, code, err)
				}
				if name == "cuModuleLoadDataEx" && after == 0 && !strings.Contains(err.Error(), "line 7") {
					t.Errorf("the compiler's words are lost: %v", err)
				}
				if err == nil && after == 0 {
					t.Errorf("%s fails with %d and nobody tells", name, code)
				}
				f.fail("", 0, 0)
				f.nothingLeft()
				if t.Failed() {
					t.Fatalf("at %s, call %d, code %d", name, after, code)
				}
			}
		}
	}
}

// exercise calls everything of a device.
func exercise(d driver.Device) error {
	n := (slots+1)*slotBytes + 1
	m, err := d.Alloc(int64(n))
	if err != nil {
		return err
	}
	k, err := d.Kernel("zero")
	if err != nil {
		return err
	}
	_, _, err = d.MemoryInfo()
	return errors.Join(err,
		d.Write(m, 0, make([]byte, n)), d.Launch(k, [3]int{1, 1, 1}, [3]int{128, 1, 1}, driver.Mem(m), driver.Int(3)),
		d.Read(make([]byte, n), m, 0), d.Sync())
}

// TestAnyGoroutineMayCall moves a device from thread to thread.
func TestAnyGoroutineMayCall(t *testing.T) {
	f := newFake(t)
	d := f.open()
	m := alloc(t, d, 4096)
	for i := range 20 {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine
			b := []byte{byte(i), 1, 2, 3}
			got := make([]byte, 4)
			err := errors.Join(d.Write(m, 8, b), d.Read(got, m, 8))
			if !bytes.Equal(got, b) {
				err = errors.Join(err, errors.New("other bytes"))
			}
			done <- err
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(kernelModule); err == nil {
		t.Log("this machine has NVIDIA's driver")
	}
}
