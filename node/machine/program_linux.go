package machine

import (
	"bufio"
	"io"
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
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	for _, p := range programParts(f, self) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, p.at, p.size, unix.MADV_DONTNEED)
	}
}

// part is a mapping of a file.
type part struct{ at, size uintptr }

// programParts reads /proc/PID/smaps: where parts of that file are mapped that
// nobody has written to, so that all their pages are the file's. What the loader
// has relocated looks constant too, but has pages of its own, which nothing would
// bring back. It reads no further than the file's mappings, which are neighbours.
func programParts(smaps io.Reader, file string) []part {
	var out []part
	var last part
	var candidate, seen bool
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 0:
		case !strings.HasSuffix(f[0], ":"): // the first line of a mapping
			own := len(f) == 6 && f[5] == file
			if seen && !own {
				return out
			}
			seen = own
			last, candidate = constantPart(f)
			candidate = candidate && own
		case candidate && len(f) == 3 && f[0] == "Anonymous:" && f[1] == "0":
			out = append(out, last)
		}
	}
	return out
}

// constantPart reads the fields of a mapping's first line; ok is false where its
// pages may be written to or shared.
func constantPart(f []string) (p part, ok bool) {
	if len(f) < 2 || len(f[1]) != 4 || f[1][1] != '-' || f[1][3] != 'p' {
		return part{}, false
	}
	from, to, ok := strings.Cut(f[0], "-")
	if !ok {
		return part{}, false
	}
	begin, err := strconv.ParseUint(from, 16, 8*int(unsafe.Sizeof(p.at)))
	if err != nil {
		return part{}, false
	}
	end, err := strconv.ParseUint(to, 16, 8*int(unsafe.Sizeof(p.at)))
	if err != nil || end <= begin {
		return part{}, false
	}
	return part{uintptr(begin), uintptr(end - begin)}, true
}
