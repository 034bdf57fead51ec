//go:build unix

package machine

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func processLimits() Limits {
	read := func(what int) uint64 {
		var r unix.Rlimit
		if unix.Getrlimit(what, &r) != nil {
			return 0
		}
		if r.Cur >= unix.RLIM_INFINITY&(1<<63-1) {
			return Unlimited
		}
		return r.Cur
	}
	return Limits{Files: read(unix.RLIMIT_NOFILE), LockedMemory: read(unix.RLIMIT_MEMLOCK), AddressSpace: read(unix.RLIMIT_AS)}
}

func openToOthers(st fs.FileInfo) bool { return st.Mode().Perm()&0o077 != 0 }

// foreign says that a file belongs to another user. Root may use all.
func foreign(st fs.FileInfo) bool {
	s, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) != os.Geteuid()
}
