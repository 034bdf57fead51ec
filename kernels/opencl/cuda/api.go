package cuda

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/weft-mesh/weft/kernels/opencl/library"
)

// function is one of the driver API's functions that the package calls.
type function int

// The functions, by the names of cuda.h. Those with _v2 are what its macros
// call; every driver since CUDA 4.0 has them all but where symbols says so.
const (
	cuInit function = iota
	cuDriverGetVersion
	cuGetErrorName
	cuGetErrorString
	cuDeviceGetCount
	cuDeviceGet
	cuDeviceGetName
	cuDeviceTotalMem
	cuDeviceGetAttribute
	cuDeviceGetPCIBusID
	cuDevicePrimaryCtxRetain
	cuDevicePrimaryCtxRelease
	cuDevicePrimaryCtxReset
	cuDevicePrimaryCtxSetFlags
	cuCtxSetCurrent
	cuModuleLoadDataEx
	cuModuleUnload
	cuModuleGetFunction
	cuMemAlloc
	cuMemFree
	cuMemGetInfo
	cuMemHostAlloc
	cuMemFreeHost
	cuMemcpyHtoDAsync
	cuMemcpyDtoHAsync
	cuStreamCreate
	cuStreamDestroy
	cuStreamSynchronize
	cuStreamQuery
	cuEventCreate
	cuEventDestroy
	cuEventRecord
	cuEventSynchronize
	cuLaunchKernel
	// From here on functions that drivers before CUDA 11.4 do not have all.
	cuStreamBeginCapture
	cuStreamEndCapture
	cuGraphInstantiate
	cuGraphDestroy
	cuGraphLaunch
	cuGraphExecDestroy
	functions
)

// symbols are the exported names, the newest first: drivers before CUDA 11
// have the primary context's functions without _v2.
var symbols = [functions][]string{
	cuInit:                     {"cuInit"},
	cuDriverGetVersion:         {"cuDriverGetVersion"},
	cuGetErrorName:             {"cuGetErrorName"},
	cuGetErrorString:           {"cuGetErrorString"},
	cuDeviceGetCount:           {"cuDeviceGetCount"},
	cuDeviceGet:                {"cuDeviceGet"},
	cuDeviceGetName:            {"cuDeviceGetName"},
	cuDeviceTotalMem:           {"cuDeviceTotalMem_v2"},
	cuDeviceGetAttribute:       {"cuDeviceGetAttribute"},
	cuDeviceGetPCIBusID:        {"cuDeviceGetPCIBusId"},
	cuDevicePrimaryCtxRetain:   {"cuDevicePrimaryCtxRetain"},
	cuDevicePrimaryCtxRelease:  {"cuDevicePrimaryCtxRelease_v2", "cuDevicePrimaryCtxRelease"},
	cuDevicePrimaryCtxReset:    {"cuDevicePrimaryCtxReset_v2", "cuDevicePrimaryCtxReset"},
	cuDevicePrimaryCtxSetFlags: {"cuDevicePrimaryCtxSetFlags_v2", "cuDevicePrimaryCtxSetFlags"},
	cuCtxSetCurrent:            {"cuCtxSetCurrent"},
	cuModuleLoadDataEx:         {"cuModuleLoadDataEx"},
	cuModuleUnload:             {"cuModuleUnload"},
	cuModuleGetFunction:        {"cuModuleGetFunction"},
	cuMemAlloc:                 {"cuMemAlloc_v2"},
	cuMemFree:                  {"cuMemFree_v2"},
	cuMemGetInfo:               {"cuMemGetInfo_v2"},
	cuMemHostAlloc:             {"cuMemHostAlloc"},
	cuMemFreeHost:              {"cuMemFreeHost"},
	cuMemcpyHtoDAsync:          {"cuMemcpyHtoDAsync_v2"},
	cuMemcpyDtoHAsync:          {"cuMemcpyDtoHAsync_v2"},
	cuStreamCreate:             {"cuStreamCreate"},
	cuStreamDestroy:            {"cuStreamDestroy_v2"},
	cuStreamSynchronize:        {"cuStreamSynchronize"},
	cuStreamQuery:              {"cuStreamQuery"},
	cuEventCreate:              {"cuEventCreate"},
	cuEventDestroy:             {"cuEventDestroy_v2"},
	cuEventRecord:              {"cuEventRecord"},
	cuEventSynchronize:         {"cuEventSynchronize"},
	cuLaunchKernel:             {"cuLaunchKernel"},
	cuStreamBeginCapture:       {"cuStreamBeginCapture_v2"},
	cuStreamEndCapture:         {"cuStreamEndCapture"},
	cuGraphInstantiate:         {"cuGraphInstantiateWithFlags"},
	cuGraphDestroy:             {"cuGraphDestroy"},
	cuGraphLaunch:              {"cuGraphLaunch"},
	cuGraphExecDestroy:         {"cuGraphExecDestroy"},
}

// Attributes of a device, by the numbers of cuda.h.
const (
	attrMaxThreads      = 1  // CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK
	attrLocalMemory     = 8  // CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK
	attrUnits           = 16 // CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
	attrIntegrated      = 18 // CU_DEVICE_ATTRIBUTE_INTEGRATED
	attrCapabilityMajor = 75 // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
	attrCapabilityMinor = 76 // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
)

// Flags and options of cuda.h.
const (
	ctxBlockingSync    = 4 // CU_CTX_SCHED_BLOCKING_SYNC: a wait leaves the core to others
	streamNonBlocking  = 1 // CU_STREAM_NON_BLOCKING: the null stream of others does not hold it up
	eventBlockingSync  = 1 // CU_EVENT_BLOCKING_SYNC
	eventDisableTiming = 2 // CU_EVENT_DISABLE_TIMING
	jitErrorLog        = 5 // CU_JIT_ERROR_LOG_BUFFER
	jitErrorLogSize    = 6 // CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES
)

// api is the driver's library with the addresses of its functions.
type api struct {
	lib *library.Library
	fn  [functions]uintptr
}

// names are the driver's library by system.
func names() []string {
	if runtime.GOOS == "windows" {
		return []string{"nvcuda.dll"}
	}
	return []string{"libcuda.so.1", "libcuda.so"}
}

// system opens the system's driver once: cuInit takes a while, and a driver
// that is not there will not come while the process runs.
var system = sync.OnceValues(func() (*api, error) { return load(names()...) })

// load opens the library and starts the driver.
func load(names ...string) (*api, error) {
	lib, err := library.Open(names...)
	if err != nil {
		return nil, err
	}
	a := &api{lib: lib}
	for f := range a.fn {
		for _, name := range symbols[f] {
			if a.fn[f], err = lib.Symbol(name); err == nil {
				break
			}
		}
		if err != nil && function(f) < cuStreamBeginCapture {
			return nil, err
		}
	}
	switch r := a.call(cuInit, 0); r {
	case success:
		return a, nil
	case noDevice:
		return nil, fmt.Errorf("%w: %s", errNoDevice, a.text(r))
	default:
		return nil, fmt.Errorf("%w: %s", errStart, a.text(r))
	}
}

// What the driver may say when it is started.
var (
	errNoDevice = errors.New("NVIDIA's library knows no card")
	errStart    = errors.New("NVIDIA's driver does not start")
)

// call calls a function. What its arguments point to stays in place meanwhile.
//
//go:uintptrescapes
func (a *api) call(f function, args ...uintptr) result {
	return result(uint32(library.Call(a.fn[f], args...)))
}

// again is call with a slice that the caller keeps.
func (a *api) again(f function, args []uintptr) result {
	return result(uint32(library.CallSlice(a.fn[f], args)))
}
