package machine

import "syscall"

// systemCores counts the performance cores of Apple's processors; 0 when not
// told.
func systemCores() int {
	n, err := syscall.SysctlUint32("hw.perflevel0.physicalcpu")
	if err != nil || n > maxProcessors {
		return 0
	}
	return int(n)
}
