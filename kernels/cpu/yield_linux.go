package cpu

import (
	"runtime"
	"syscall"
)

// yield lets other goroutines run, and other threads of the machine.
func yield() {
	runtime.Gosched()
	_, _, _ = syscall.Syscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
}
