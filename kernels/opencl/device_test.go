package opencl_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/kernelstest"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/opencl/icd"
)

// TestMain keeps compiled kernels where the next run finds them: PoCL compiles one for each
// size of a work-group when it is first launched.
func TestMain(m *testing.M) {
	if cache, err := os.UserCacheDir(); err == nil && os.Getenv("POCL_CACHE_DIR") == "" {
		_ = os.Setenv("POCL_CACHE_DIR", filepath.Join(cache, "weft-pocl"))
	}
	os.Exit(m.Run())
}

// openCard opens the first OpenCL device for a program.
func openCard(t testing.TB, p driver.Program) driver.Device {
	t.Helper()
	d := icd.New()
	if _, err := d.Devices(); errors.Is(err, driver.ErrAbsent) {
		t.Skipf("not run: no OpenCL platform (on Debian: apt-get install pocl-opencl-icd): %v", err)
	}
	dev, err := d.Open(0, p)
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

// newDevice makes a device that the test must close.
func newDevice(t testing.TB) *opencl.Device {
	t.Helper()
	d, err := opencl.New(openCard(t, opencl.Source()))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDeviceKeepsTheContract(t *testing.T) {
	kernelstest.Run(t, func(int) kernels.Device { return newDevice(t) })
}
