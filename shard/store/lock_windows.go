package store

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// errBusy says that another open file holds the lock.
var errBusy = errors.New("lock is held")

// tryLock takes an exclusive lock that lives as long as the open file.
func tryLock(f *os.File) error {
	err := lockFile(f, windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errBusy
	}
	return err
}

// waitLock is tryLock that waits.
func waitLock(f *os.File) error { return lockFile(f, windows.LOCKFILE_EXCLUSIVE_LOCK) }

// lockFile locks a byte far behind the content, which stays readable for the process that wants to know who holds it.
func lockFile(f *os.File, flags uint32) error {
	at := windows.Overlapped{OffsetHigh: 1}
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &at)
}
