package icd

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/opencl/library"
)

// names are what the library is called: the loader of installed drivers, and on macOS the
// system's framework.
func names() []string {
	switch runtime.GOOS {
	case "darwin":
		return []string{"/System/Library/Frameworks/OpenCL.framework/OpenCL"}
	case "windows":
		return []string{"OpenCL.dll"}
	}
	return []string{"libOpenCL.so.1", "libOpenCL.so"}
}

func load() (*functions, error) {
	lib, err := library.Open(names()...)
	if err != nil {
		return nil, fmt.Errorf("%w: no OpenCL library: %w", driver.ErrAbsent, err)
	}
	return resolve(lib)
}

// functions holds the addresses of the functions that are used, all of OpenCL 1.2.
type functions struct {
	getPlatformIDs, getPlatformInfo, getDeviceIDs, getDeviceInfo                                                           uintptr
	createContext, releaseContext, createQueue, releaseQueue                                                               uintptr
	createProgram, buildProgram, getBuildInfo, releaseProgram                                                              uintptr
	createKernel, releaseKernel, setKernelArg                                                                              uintptr
	createBuffer, createSubBuffer, releaseMem, migrateMem                                                                  uintptr
	enqueueWrite, enqueueRead, enqueueNDRange, mapBuffer, unmapMem, enqueueMarker, waitEvents, releaseEvent, flush, finish uintptr
}

// resolve finds all functions; a library without one of them is older than OpenCL 1.2.
func resolve(lib *library.Library) (*functions, error) {
	l := &functions{}
	for _, f := range []struct {
		to   *uintptr
		name string
	}{
		{&l.getPlatformIDs, "clGetPlatformIDs"},
		{&l.getPlatformInfo, "clGetPlatformInfo"},
		{&l.getDeviceIDs, "clGetDeviceIDs"},
		{&l.getDeviceInfo, "clGetDeviceInfo"},
		{&l.createContext, "clCreateContext"},
		{&l.releaseContext, "clReleaseContext"},
		{&l.createQueue, "clCreateCommandQueue"},
		{&l.releaseQueue, "clReleaseCommandQueue"},
		{&l.createProgram, "clCreateProgramWithSource"},
		{&l.buildProgram, "clBuildProgram"},
		{&l.getBuildInfo, "clGetProgramBuildInfo"},
		{&l.releaseProgram, "clReleaseProgram"},
		{&l.createKernel, "clCreateKernel"},
		{&l.releaseKernel, "clReleaseKernel"},
		{&l.setKernelArg, "clSetKernelArg"},
		{&l.createBuffer, "clCreateBuffer"},
		{&l.createSubBuffer, "clCreateSubBuffer"},
		{&l.releaseMem, "clReleaseMemObject"},
		{&l.migrateMem, "clEnqueueMigrateMemObjects"},
		{&l.enqueueWrite, "clEnqueueWriteBuffer"},
		{&l.enqueueRead, "clEnqueueReadBuffer"},
		{&l.enqueueNDRange, "clEnqueueNDRangeKernel"},
		{&l.flush, "clFlush"},
		{&l.finish, "clFinish"},
		{&l.mapBuffer, "clEnqueueMapBuffer"},
		{&l.unmapMem, "clEnqueueUnmapMemObject"},
		{&l.enqueueMarker, "clEnqueueMarkerWithWaitList"},
		{&l.waitEvents, "clWaitForEvents"},
		{&l.releaseEvent, "clReleaseEvent"},
	} {
		a, err := lib.Symbol(f.name)
		if err != nil {
			return nil, fmt.Errorf("%w: the OpenCL library is older than version 1.2: %w", driver.ErrAbsent, err)
		}
		*f.to = a
	}
	return l, nil
}

// loaded loads the library once in a process: it cannot be unloaded again safely.
var loaded = sync.OnceValues(load)

// code is an OpenCL function's result.
type code int32

// The codes that are told apart, from the OpenCL specification's cl.h.
const (
	success              code = 0
	deviceNotFound       code = -1
	memAllocationFailure code = -4
	outOfResources       code = -5
	outOfHostMemory      code = -6
	invalidBufferSize    code = -61
	platformNotFound     code = -1001
)

var codeNames = map[code]string{
	-1: "device not found", -2: "device not available", -3: "compiler not available", -4: "memory object allocation failure",
	-5: "out of resources", -6: "out of host memory", -11: "build program failure", -14: "a command before it failed", -30: "invalid value",
	-33: "invalid device", -34: "invalid context", -36: "invalid command queue", -38: "invalid memory object", -42: "invalid binary",
	-43: "invalid build options", -44: "invalid program", -45: "invalid program executable", -46: "invalid kernel name", -48: "invalid kernel",
	-49: "invalid argument index", -50: "invalid argument value", -51: "invalid argument size", -52: "invalid kernel arguments",
	-54: "invalid work-group size", -55: "invalid work-item size", -59: "invalid operation", -61: "invalid buffer size",
	-63: "invalid global work size", -1001: "no driver is installed", -9999: "illegal read or write",
}

func (c code) Error() string {
	if name, ok := codeNames[c]; ok {
		return fmt.Sprintf("%s (OpenCL error %d)", name, int32(c))
	}
	return fmt.Sprintf("OpenCL error %d", int32(c))
}

func codeOf(r uintptr) code { return code(int32(r)) }

// cstring is s with C's end.
func cstring(s string) *byte { return unsafe.SliceData(append([]byte(s), 0)) }
