package machine

import (
	"math"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels/opencl/library"
)

func TestTheManagementLibraryIsAsked(t *testing.T) {
	if got := nvmlCards("libweft-no-nvml.so.1"); got != nil {
		t.Errorf("without a library: %+v", got)
	}
	if !library.Loads || runtime.GOOS == "windows" {
		t.Skip("not run: this build opens no libraries outside of the system's folder")
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("not run: no C compiler to build the library's stand-in")
	}
	object := filepath.Join(t.TempDir(), "libfakenvml.so")
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-O1", "-o", object, filepath.Join("testdata", "fakenvml.c")).CombinedOutput(); err != nil {
		t.Skipf("not run: the C compiler makes no library: %v\n%s", err, out)
	}
	want := []GPU{
		{
			Name: "NVIDIA GeForce RTX 3060", Vendor: "nvidia", Driver: "nvidia", VRAMTotal: 12 << 30, VRAMFree: 11 << 30,
			Bus: "0001:0a:03.0", Celsius: 47, Watts: 123.5,
		},
		{Name: strings.Repeat("A", maxCardName), Vendor: "nvidia", Driver: "nvidia", VRAMTotal: math.MaxInt64, VRAMFree: math.MaxInt64},
		{Name: "NVIDIA GPU", Vendor: "nvidia", Driver: "nvidia"},
	}
	if diff := cmp.Diff(want, nvmlCards(object)); diff != "" {
		t.Error(diff)
	}
	lib, err := library.Open(object)
	if err != nil {
		t.Fatal(err)
	}
	call := func(name string, args ...uintptr) uintptr {
		fn, err := lib.Symbol(name)
		if err != nil {
			t.Fatal(err)
		}
		return library.Call(fn, args...)
	}
	if n := call("fake_started"); n != 0 {
		t.Errorf("the library was started %d times more than stopped", n)
	}
	call("fake_refuse", 9)
	if got := nvmlCards(object); got != nil {
		t.Errorf("a library that does not start: %+v", got)
	}
}
