package cpu

import "syscall"

// mapNoReserve keeps unused pages out of the kernel's commitment.
const mapNoReserve = syscall.MAP_NORESERVE

// preferLargePages asks for large pages where the system has them to give: a
// head's keys and values are read in pieces that lie far apart, each of which
// would cost a walk of the page tables. A refusal changes nothing else.
func preferLargePages(b []byte) {
	if len(b) > 0 {
		_ = syscall.Madvise(b, syscall.MADV_HUGEPAGE)
	}
}
