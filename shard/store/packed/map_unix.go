//go:build unix

package packed

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// mapFile maps a whole file for reading, shared with every other process that maps it.
func mapFile(f *os.File, size int64) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
}

func unmapFile(b []byte) error { return unix.Munmap(b) }

// willNeed asks the system to read the pages in soon; it may decline.
func willNeed(b []byte) { _ = unix.Madvise(b, unix.MADV_WILLNEED) }

// dontNeed gives the resident pages back; they are read from the file again when touched.
func dontNeed(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTNEED) }

func freeSpace(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil //nolint:unconvert // the types differ between systems
}

func isQuota(err error) bool { return errors.Is(err, syscall.EDQUOT) }
