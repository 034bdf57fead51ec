package cpu

import "syscall"

// mapNoReserve keeps unused pages out of the kernel's commitment.
const mapNoReserve = syscall.MAP_NORESERVE
