//go:build unix

package gguf

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// mapping is a whole file mapped read-only.
type mapping struct {
	b []byte
}

// partSource is what openPart needs: tensor bytes and the header.
type partSource interface {
	source
	io.ReaderAt
}

// openSource maps file and closes it; the mapping outlives the descriptor.
func openSource(file *os.File, size int64) (partSource, error) {
	m := &mapping{}
	var err error
	if size > math.MaxInt {
		err = fmt.Errorf("a file of %d bytes does not fit into this machine's address space", size)
	} else if size > 0 {
		m.b, err = unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("map into memory: %w", err)
	}
	return m, nil
}

func (m *mapping) slice(off, n uint64) ([]byte, error) {
	if m.b == nil {
		return nil, ErrClosed
	}
	return m.b[off : off+n : off+n], nil
}

func (m *mapping) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// evict drops whole pages, also those shared with a neighbour: a read-only mapping of a file just reads them again.
func (m *mapping) evict(off, n uint64) {
	if m.b == nil || n == 0 {
		return
	}
	page := uint64(os.Getpagesize())
	from := off / page * page
	// A kernel that refuses keeps the pages, which costs memory and nothing else.
	_ = unix.Madvise(m.b[from:off+n], unix.MADV_DONTNEED)
}

func (m *mapping) Close() error {
	if m.b == nil {
		return nil
	}
	b := m.b
	m.b = nil
	return unix.Munmap(b)
}
