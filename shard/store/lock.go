package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrLocked is wrapped by Lock's error when another process holds the home.
var ErrLocked = errors.New("another weft runs with this home")

// HomeLock is the right to be the one daemon of a home. The operating system takes it back when the process ends,
// however it ends.
type HomeLock struct{ file *os.File }

// Lock takes the lock of a home without waiting, creating the home if it is not there.
func Lock(home string) (*HomeLock, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("make the home %s: %w; choose another with WEFT_HOME", home, err)
	}
	path := filepath.Join(home, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", path, err)
	}
	switch err := tryLock(f); {
	case errors.Is(err, errBusy):
		pid := readPID(f)
		_ = f.Close()
		return nil, fmt.Errorf("%w (%s, pid %s); stop it, or set WEFT_HOME to another directory", ErrLocked, home, pid)
	case err != nil:
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w; is the home on a file system without locks?", path, err)
	}
	if err := writePID(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &HomeLock{file: f}, nil
}

// Unlock gives the home back. The lock's file stays: removing it could let two processes lock two different files.
func (l *HomeLock) Unlock() error {
	_ = l.file.Truncate(0)
	return l.file.Close()
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func readPID(f *os.File) string {
	var b [32]byte
	n, _ := f.ReadAt(b[:], 0)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n]))); err == nil && pid > 0 {
		return strconv.Itoa(pid)
	}
	return "unknown"
}
