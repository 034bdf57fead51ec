//go:build !linux

package cpu

// preferLargePages does nothing here: these systems choose themselves.
func preferLargePages([]byte) {}
