//go:build !linux && !noasm

package cpu

// tilesPermitted says no: only Linux is known to give matrix tiles to a process
// that asks for them.
func tilesPermitted() bool { return false }
