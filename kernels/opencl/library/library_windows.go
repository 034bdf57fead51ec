//go:build !static

package library

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// Loads says whether this build can open libraries.
const Loads = true

// open looks in the system's folder alone, where drivers put their libraries:
// a file of that name beside the program or in the working folder is not taken.
func open(name string) (uintptr, error) {
	h, err := windows.LoadLibraryEx(name, 0, windows.LOAD_LIBRARY_SEARCH_SYSTEM32)
	return uintptr(h), err
}

func symbol(handle uintptr, name string) (uintptr, error) {
	return windows.GetProcAddress(windows.Handle(handle), name)
}

// Call calls the function at fn with integers and addresses and returns what it
// returns. What uintptr(unsafe.Pointer(p)) in the call's arguments points to
// stays where it is until the function has returned. It blocks as long as the
// function does, without keeping other goroutines from running.
//
//go:uintptrescapes
func Call(fn uintptr, args ...uintptr) uintptr {
	r, _, _ := syscall.SyscallN(fn, args...)
	return r
}

// CallSlice is Call for hot paths: it allocates nothing. What addresses in args point to
// must lie in the heap or outside of Go's memory, and the caller keeps it alive.
func CallSlice(fn uintptr, args []uintptr) uintptr {
	r, _, _ := syscall.SyscallN(fn, args...)
	return r
}
