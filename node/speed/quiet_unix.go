//go:build unix

package speed

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what this process has used of all processors, 0 when not known.
func cpuTime() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
