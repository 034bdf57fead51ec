//go:build !static && (amd64 || arm64) && (linux || darwin)

package icd

import (
	"fmt"
	"runtime"

	"github.com/ebitengine/purego"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// names are what the library is called: the loader of installed drivers, and on macOS the
// system's framework.
func names() []string {
	if runtime.GOOS == "darwin" {
		return []string{"/System/Library/Frameworks/OpenCL.framework/OpenCL"}
	}
	return []string{"libOpenCL.so.1", "libOpenCL.so"}
}

func load() (*library, error) {
	var handle uintptr
	var err error
	for _, name := range names() {
		if handle, err = purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: no OpenCL library: %w", driver.ErrAbsent, err)
	}
	return resolve(func(name string) (uintptr, error) { return purego.Dlsym(handle, name) })
}

// call calls a C function. Pointers among args must be converted in the call itself.
//
//go:uintptrescapes
func call(f uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(f, args...)
	return r
}
