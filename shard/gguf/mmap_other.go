//go:build !unix

package gguf

import (
	"io"
	"os"
)

// partSource is what openPart needs: tensor bytes and the header.
type partSource interface {
	source
	io.ReaderAt
}

// fileSource reads through the file, for systems without mmap.
type fileSource struct {
	readerSource
	file *os.File
}

func openSource(file *os.File, _ int64) (partSource, error) {
	return fileSource{readerSource{file}, file}, nil
}

func (s fileSource) ReadAt(p []byte, off int64) (int, error) { return s.file.ReadAt(p, off) }

func (s fileSource) Close() error { return s.file.Close() }
