package packed

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// FS is what writing files needs of a file system, so that tests can fill a disk.
type FS interface {
	// CreateTemp makes a new file in dir whose name matches pattern as in os.CreateTemp.
	CreateTemp(dir, pattern string) (WriteFile, error)
	// OpenPart opens the file at path for reading and writing, creating it if it is not there.
	OpenPart(path string) (PartFile, error)
	// Rename puts a file under its final name, replacing what is there.
	Rename(from, to string) error
	// Remove removes a file.
	Remove(path string) error
	// SyncDir makes the names in dir survive a crash.
	SyncDir(dir string) error
	// Free is how many bytes may be written in dir.
	Free(dir string) (uint64, error)
}

// WriteFile is a file that is being written.
type WriteFile interface {
	io.Writer
	io.WriterAt
	io.Closer
	Name() string
	Truncate(size int64) error
	Sync() error
}

// PartFile is a file that is filled piece by piece, over several runs of the program.
type PartFile interface {
	WriteFile
	io.ReaderAt
}

// Disk is the real file system.
type Disk struct{}

// CreateTemp makes a new file with os.CreateTemp.
func (Disk) CreateTemp(dir, pattern string) (WriteFile, error) { return os.CreateTemp(dir, pattern) }

// OpenPart opens with os.OpenFile.
func (Disk) OpenPart(path string) (PartFile, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

// Rename renames with os.Rename.
func (Disk) Rename(from, to string) error { return os.Rename(from, to) }

// Remove removes with os.Remove.
func (Disk) Remove(path string) error { return os.Remove(path) }

// SyncDir makes the names in dir survive a crash, where the system can.
func (Disk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, os.ErrPermission) &&
		!errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

// Free is the space that the file system has for this user.
func (Disk) Free(dir string) (uint64, error) { return freeSpace(dir) }

// ErrNoSpace is wrapped by errors about a disk that has no room.
var ErrNoSpace = errors.New("not enough disk space")

// CheckSpace returns an error that wraps ErrNoSpace and says how much is missing, unless dir has room for need bytes. A
// file system that does not say how much it has passes.
func CheckSpace(fs FS, dir string, need uint64) error {
	free, err := fs.Free(dir)
	if err != nil || free >= need {
		return nil
	}
	return fmt.Errorf("%w: %s needs %s, has %s free, %s are missing; make room there or set WEFT_HOME to a larger disk",
		ErrNoSpace, dir, Size(need), Size(free), Size(need-free))
}

// Explain words a write error: a full disk says where it is full, how much writing need bytes to path takes and how much
// is missing. Other errors, and nil, are given back as they are.
func Explain(fs FS, err error, path string, need int64) error {
	if err == nil || !IsFull(err) {
		return err
	}
	dir := filepath.Dir(path)
	free, ferr := fs.Free(dir)
	if ferr != nil {
		return fmt.Errorf("%w: %s is full, writing %s there takes %s: %w", ErrNoSpace, dir, filepath.Base(path), Size(uint64(need)), err)
	}
	missing := uint64(need) - min(uint64(need), free)
	return fmt.Errorf("%w: %s has %s free, writing %s takes %s, at least %s are missing; make room there or set WEFT_HOME to a larger disk: %w",
		ErrNoSpace, dir, Size(free), filepath.Base(path), Size(uint64(need)), Size(missing), err)
}

// IsFull reports whether err says that a disk or a quota is used up.
func IsFull(err error) bool {
	return errors.Is(err, ErrNoSpace) || errors.Is(err, syscall.ENOSPC) || isQuota(err)
}

// Size words a number of bytes for people.
func Size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	x, u := float64(n)/1024, 0
	for x >= 1023.95 && u < len(units)-1 {
		x, u = x/1024, u+1
	}
	return fmt.Sprintf("%.1f %ciB", x, units[u])
}

// ReplaceFile puts b into the file at path, which is then either the old or the new one, also after a crash.
func ReplaceFile(fs FS, path string, b []byte) error {
	dir := filepath.Dir(path)
	f, err := fs.CreateTemp(dir, TempPattern)
	if err != nil {
		return Explain(fs, err, path, int64(len(b)))
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fs.Rename(f.Name(), path)
	}
	if err != nil {
		_ = fs.Remove(f.Name())
		return Explain(fs, err, path, int64(len(b)))
	}
	return fs.SyncDir(dir)
}
