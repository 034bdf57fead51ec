//go:build linux || darwin || freebsd

package cpu

import (
	"fmt"
	"syscall"
)

// reserve gives size bytes of zeros, page aligned, whose pages cost memory
// when they are first used.
func reserve(size int) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	b, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|mapNoReserve)
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes of memory: %w", size, err)
	}
	return b, nil
}

// release gives back what reserve gave.
func release(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return syscall.Munmap(b)
}
