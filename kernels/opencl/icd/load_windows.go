//go:build !static && (amd64 || arm64)

package icd

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// load opens the library of the system's folder only: a file of that name elsewhere on the
// search path is not the system's.
func load() (*library, error) {
	handle, err := windows.LoadLibraryEx("OpenCL.dll", 0, windows.LOAD_LIBRARY_SEARCH_SYSTEM32)
	if err != nil {
		return nil, fmt.Errorf("%w: no OpenCL library: OpenCL.dll: %w", driver.ErrAbsent, err)
	}
	return resolve(func(name string) (uintptr, error) { return windows.GetProcAddress(handle, name) })
}

// call calls a C function. Pointers among args must be converted in the call itself.
//
//go:uintptrescapes
func call(f uintptr, args ...uintptr) uintptr {
	r, _, _ := syscall.SyscallN(f, args...)
	return r
}
