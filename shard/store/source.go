package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/weft-mesh/weft/shard/store/manifest"
)

// ErrSource is wrapped by errors about a user's file that is not what it was when it was added.
var ErrSource = errors.New("the model's file is gone or was changed")

// refFile notes a file as it is now.
func refFile(path string) (FileRef, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return FileRef{}, err
	}
	st, err := os.Stat(abs)
	if err != nil {
		return FileRef{}, err
	}
	if !st.Mode().IsRegular() {
		return FileRef{}, fmt.Errorf("%s is not a regular file", abs)
	}
	return FileRef{Path: abs, Size: st.Size(), ModTime: st.ModTime().UnixNano()}, nil
}

// open opens a file for reading and makes sure that it is still the one that was hashed.
func (r FileRef) open() (*os.File, error) {
	f, err := os.Open(r.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; put it back, or add the model again with weft add", ErrSource, err)
	}
	if err := r.check(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// check compares an open file with what was noted.
func (r FileRef) check(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSource, err)
	}
	if st.Size() != r.Size || st.ModTime().UnixNano() != r.ModTime {
		return fmt.Errorf("%w: %s has %d bytes of %s, it was added with %d bytes; add it again with weft add",
			ErrSource, r.Path, st.Size(), st.ModTime().Format("2006-01-02 15:04:05"), r.Size)
	}
	return nil
}

// intact reports whether all files of an entry are as they were.
func intact(files []FileRef) bool {
	for _, f := range files {
		st, err := os.Stat(f.Path)
		if err != nil || st.Size() != f.Size || st.ModTime().UnixNano() != f.ModTime {
			return false
		}
	}
	return len(files) > 0
}

// tensorBytes reads one tensor of an open file.
func tensorBytes(f io.ReaderAt, t *manifest.Tensor) *io.SectionReader {
	return io.NewSectionReader(f, int64(t.Offset), int64(t.Size))
}

// checkTensor reads a tensor and compares its hashes. It is the last word on whether a source is what it should be.
func checkTensor(src io.ReaderAt, t *manifest.Tensor, buf []byte) error {
	for i := range t.Chunks {
		b := buf[:t.ChunkSize(i)]
		if n, err := src.ReadAt(b, int64(i)*manifest.ChunkBytes); n < len(b) {
			return fmt.Errorf("read tensor %s: %w", t.Name, err)
		}
		if err := t.Check(i, b); err != nil {
			return err
		}
	}
	return nil
}
