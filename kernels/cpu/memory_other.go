//go:build !linux && !darwin && !freebsd

package cpu

import "unsafe"

// reserve gives size bytes of zeros, aligned to 64.
func reserve(size int) ([]byte, error) {
	b := make([]byte, size+64)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & 63)
	return b[skip : skip+size : skip+size], nil
}

// release leaves the memory to the garbage collector.
func release([]byte) error { return nil }
