package machine

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// returnProgram unmaps the program's own code and constants, which the system
// keeps in its file cache and maps again, a few pages at a time, as they are
// used. A node that has started uses a third of what its start has touched; where
// the file lies in the cache in large pieces, the system maps all of a piece again.
func returnProgram() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range bytes.Lines(maps) {
		if at, size, ok := programPart(string(line), self); ok {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, at, size, unix.MADV_DONTNEED)
		}
	}
}

// programPart reads a line of /proc/PID/maps: where a part of that file is mapped
// that nobody writes to, so that its pages are the file's.
func programPart(line, file string) (at, size uintptr, ok bool) {
	f := strings.Fields(line)
	if len(f) != 6 || f[5] != file || len(f[1]) != 4 || f[1][1] != '-' || f[1][3] != 'p' {
		return 0, 0, false
	}
	from, to, ok := strings.Cut(f[0], "-")
	if !ok {
		return 0, 0, false
	}
	begin, err := strconv.ParseUint(from, 16, 8*int(unsafe.Sizeof(at)))
	if err != nil {
		return 0, 0, false
	}
	end, err := strconv.ParseUint(to, 16, 8*int(unsafe.Sizeof(at)))
	if err != nil || end <= begin {
		return 0, 0, false
	}
	return uintptr(begin), uintptr(end - begin), true
}
