//go:build !noasm

package cpu

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Numbers of arch_prctl(2): a process asks to use a part of the processor's
// state that is larger than what every process gets.
const (
	archReqXcompPerm = 0x1023
	xfeatureTileData = 18
)

// tilesPermitted asks Linux for matrix tiles, once for the whole process, and
// reports whether it may use them. Linux refuses where it does not know them,
// and where a thread's stack for signals could not hold the tiles, 8 KiB, in a
// signal's frame: that of Go's threads, 32 KiB, can.
var tilesPermitted = sync.OnceValue(func() bool {
	_, _, errno := unix.RawSyscall(unix.SYS_ARCH_PRCTL, archReqXcompPerm, xfeatureTileData, 0)
	return errno == 0
})
