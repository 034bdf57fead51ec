// Package library opens shared libraries of the system at run time, without cgo
// and without needing them at build time: the GPU drivers' libraries are there
// on some machines and not on others.
//
// It knows no library in particular and declares no function's arguments: who
// calls passes integers and addresses as the library's header says. Functions
// that take or give floating-point numbers by value cannot be called. A build
// with the tag static has no loader (a binary with one needs libc's dynamic
// linker on Linux); there Open says so. Start at Open.
package library

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNone is the cause of Open's error where the build has no loader.
var ErrNone = errors.New("this build opens no libraries (made with the tag static, or for a system that has no loader here)")

// Library is an open library. It stays open as long as the process runs: to
// unload a driver is not safe.
type Library struct {
	name   string
	handle uintptr
}

// Open opens the first of names that the system finds. The error tells why each
// was refused.
func Open(names ...string) (*Library, error) {
	var refused error
	for _, name := range names {
		handle, err := open(name)
		if err == nil {
			return &Library{name, handle}, nil
		}
		if errors.Is(err, ErrNone) {
			return nil, err
		}
		if !strings.HasPrefix(err.Error(), name) { // most systems name it
			err = fmt.Errorf("%s: %w", name, err)
		}
		if refused != nil {
			err = fmt.Errorf("%w; %w", refused, err)
		}
		refused = err
	}
	return nil, refused
}

// Name is the name by which the library was found.
func (l *Library) Name() string { return l.name }

// Symbol is the address of a function, to be used with Call.
func (l *Library) Symbol(name string) (uintptr, error) {
	fn, err := symbol(l.handle, name)
	if err != nil {
		return 0, fmt.Errorf("library %s has no %s: %w", l.name, name, err)
	}
	return fn, nil
}
