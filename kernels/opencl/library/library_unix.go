//go:build !static && (linux || darwin) && (amd64 || arm64)

package library

import "github.com/ebitengine/purego"

// Loads says whether this build can open libraries.
const Loads = true

func open(name string) (uintptr, error) {
	return purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

func symbol(handle uintptr, name string) (uintptr, error) { return purego.Dlsym(handle, name) }

// Call calls the function at fn with integers and addresses and returns what it
// returns. What uintptr(unsafe.Pointer(p)) in the call's arguments points to
// stays where it is until the function has returned. It blocks as long as the
// function does, without keeping other goroutines from running.
//
//go:uintptrescapes
func Call(fn uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(fn, args...)
	return r
}

// CallSlice is Call for hot paths: it allocates nothing. What addresses in args point to
// must lie in the heap or outside of Go's memory, and the caller keeps it alive.
func CallSlice(fn uintptr, args []uintptr) uintptr {
	r, _, _ := purego.SyscallN(fn, args...)
	return r
}
