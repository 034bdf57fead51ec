package cuda

import (
	"fmt"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// result is the driver API's CUresult.
type result uint32

const (
	success     result = 0
	outOfMemory result = 2
	noDevice    result = 100
	notReady    result = 600
)

// lost are the results after which a context cannot be used again: the device
// went away, or a kernel did what left its context in an unknown state.
var lost = map[result]bool{
	3:   true, // CUDA_ERROR_NOT_INITIALIZED: the driver was unloaded
	4:   true, // CUDA_ERROR_DEINITIALIZED
	46:  true, // CUDA_ERROR_DEVICE_UNAVAILABLE
	100: true, // CUDA_ERROR_NO_DEVICE
	101: true, // CUDA_ERROR_INVALID_DEVICE
	214: true, // CUDA_ERROR_ECC_UNCORRECTABLE
	220: true, // CUDA_ERROR_NVLINK_UNCORRECTABLE
	700: true, // CUDA_ERROR_ILLEGAL_ADDRESS
	702: true, // CUDA_ERROR_LAUNCH_TIMEOUT
	709: true, // CUDA_ERROR_CONTEXT_IS_DESTROYED
	710: true, // CUDA_ERROR_ASSERT
	714: true, // CUDA_ERROR_HARDWARE_STACK_ERROR
	715: true, // CUDA_ERROR_ILLEGAL_INSTRUCTION
	716: true, // CUDA_ERROR_MISALIGNED_ADDRESS
	717: true, // CUDA_ERROR_INVALID_ADDRESS_SPACE
	718: true, // CUDA_ERROR_INVALID_PC
	719: true, // CUDA_ERROR_LAUNCH_FAILED
	721: true, // CUDA_ERROR_CONTAINED
	802: true, // CUDA_ERROR_SYSTEM_NOT_READY
	803: true, // CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
	911: true, // CUDA_ERROR_EXTERNAL_DEVICE
	999: true, // CUDA_ERROR_UNKNOWN
}

// failure is a result other than success as an error: what was done, the
// driver's own words, and the kind that callers ask for.
func (a *api) failure(op string, r result) error {
	kind := error(nil)
	switch {
	case r == outOfMemory:
		kind = driver.ErrNoMemory
	case lost[r]:
		kind = driver.ErrLost
	}
	text := fmt.Sprintf("cuda: %s: %s", op, a.text(r))
	if kind == nil {
		return fmt.Errorf("%s", text)
	}
	return fmt.Errorf("%s: %w", text, kind)
}

// text is the driver's name and description of a result. Both functions answer
// with a string of the library's own.
func (a *api) text(r result) string {
	var name, words *byte
	a.call(cuGetErrorName, uintptr(r), uintptr(unsafe.Pointer(&name)))
	a.call(cuGetErrorString, uintptr(r), uintptr(unsafe.Pointer(&words)))
	if name == nil {
		return fmt.Sprintf("error %d", r)
	}
	return fmt.Sprintf("%s (%s, %d)", cstring(words), cstring(name), r)
}

// maxText bounds what is read of a string of the driver's.
const maxText = 512

// cstring copies a zero-terminated string.
func cstring(p *byte) string {
	if p == nil {
		return ""
	}
	n := 0
	for n < maxText && *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(p, n))
}
