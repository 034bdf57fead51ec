package library_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl/library"
)

func TestALibraryThatIsAbsentIsAnOrdinaryError(t *testing.T) {
	l, err := library.Open("libweft-there-is-none.so.1", "libweft-nor-this.so")
	if err == nil {
		t.Fatalf("opened %s", l.Name())
	}
	if !library.Loads {
		if !errors.Is(err, library.ErrNone) {
			t.Errorf("a build without a loader says %v", err)
		}
		return
	}
	for _, name := range []string{"libweft-there-is-none.so.1", "libweft-nor-this.so"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
}

// probe has one function of many arguments and one that writes through its
// pointers.
const probe = `
long weft_sum(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k) {
	return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h + 9*i + 10*j + 11*k;
}
int weft_store(int *p, void **where) { *p = 42; *where = p; return -3; }
`

func TestArgumentsArriveAndResultsComeBack(t *testing.T) {
	lib := build(t, probe)
	sum, err := lib.Symbol("weft_sum")
	if err != nil {
		t.Fatal(err)
	}
	if got := library.Call(sum, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11); got != 506 {
		t.Errorf("sum is %d, want 506", got)
	}
	store, err := lib.Symbol("weft_store")
	if err != nil {
		t.Fatal(err)
	}
	var value int32
	var where unsafe.Pointer
	got := library.Call(store, uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&where)))
	if int32(got) != -3 || value != 42 || where != unsafe.Pointer(&value) {
		t.Errorf("returned %d, stored %d at %p, want -3 and 42 at %p", int32(got), value, where, &value)
	}
	if _, err := lib.Symbol("weft_none"); err == nil || !strings.Contains(err.Error(), "weft_none") {
		t.Errorf("a function that is not there: %v", err)
	}
	args := []uintptr{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	if n := testing.AllocsPerRun(100, func() {
		if library.CallSlice(sum, args) != 506 {
			t.Error("another sum")
		}
	}); n != 0 {
		t.Errorf("a call allocates %v times", n)
	}
}

// build compiles C text to a library and opens it.
func build(t *testing.T, text string) *library.Library {
	t.Helper()
	if !library.Loads || runtime.GOOS == "windows" {
		t.Skip("not run: this build opens no libraries outside of the system's folder")
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("not run: no C compiler")
	}
	dir := t.TempDir()
	source, object := filepath.Join(dir, "probe.c"), filepath.Join(dir, "probe.so")
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-O1", "-o", object, source).CombinedOutput(); err != nil {
		t.Skipf("not run: the C compiler makes no library: %v\n%s", err, out)
	}
	lib, err := library.Open(object)
	if err != nil {
		t.Fatal(err)
	}
	return lib
}
