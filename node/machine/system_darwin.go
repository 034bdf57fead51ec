package machine

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// systemGPUs tells Apple's own processors, whose graphics part is in every one
// of them and shares their memory.
func systemGPUs() []GPU {
	if runtime.GOARCH != "arm64" {
		return nil
	}
	return []GPU{{Name: cardName(systemCPU(), "Apple") + " GPU", Vendor: "apple", Shared: true}}
}

// systemCPU is the processor's name as the system tells it.
func systemCPU() string {
	name, err := unix.Sysctl("machdep.cpu.brand_string")
	if err != nil {
		return ""
	}
	return cardName(name, "")
}
