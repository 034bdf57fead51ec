// Package driver is the seam between the OpenCL C kernels of weft's GPU device and
// whatever library runs them: it names the few things that a loader must do, so that the
// device is written once and OpenCL's own library, NVIDIA's, or a test's fake stand behind
// it. It holds interfaces and plain types; it loads nothing and computes nothing.
//
// Kernels keep to what all loaders can give: OpenCL C 1.2 without images, extensions,
// doubles or 64-bit atomics; __local memory only as arrays of fixed size declared in the
// kernel; arguments that are __global pointers, int, uint or float; whole work-groups of
// at most 256 items and no global offset, so that a kernel tests its own bounds.
//
// Start at Driver, then at Device.
package driver

import (
	"errors"
	"math"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrAbsent: the machine has no library of this kind, or the library knows no device.
	ErrAbsent = errors.New("no driver")
	// ErrNoMemory: the device has no room for what was asked. It goes on working.
	ErrNoMemory = errors.New("device memory is full")
	// ErrLost: the device is gone: unplugged, reset, or a kernel was stopped. Nothing of
	// it can be used any more; Close gives back what the host holds.
	ErrLost = errors.New("device is lost")
)

// MaxGroup is the largest work-group that kernels use.
const MaxGroup = 256

// Align is what an Arg's offset into memory must be a multiple of, in bytes: the coarsest
// alignment that OpenCL devices ask of a part of a buffer.
const Align = 4096

// Program is the kernels' source text, the same for every driver.
type Program struct {
	Source string   // OpenCL C
	Hash   [32]byte // of Source; a driver with code compiled ahead checks that it is of this source
}

// Driver finds and opens the devices of one kind of library. Its methods may be called
// from any goroutine.
type Driver interface {
	// Name is the library's kind: "opencl", "cuda".
	Name() string
	// Devices lists what the library knows. A machine without the library, or a library
	// without a device, is ErrAbsent with the reason.
	Devices() ([]Info, error)
	// Open makes the device of that index in Devices ready for a program. It may take
	// seconds: the driver compiles. What the driver's compiler says is in the error.
	Open(index int, source Program) (Device, error)
}

// Info says what a device is. What it reports decides nothing about results: that a
// device keeps the contract is tested on it.
type Info struct {
	Index         int    // in its driver's list
	Name          string // "NVIDIA GeForce RTX 3060"
	Vendor        string
	DriverName    string // "opencl", with its platform: "opencl, Portable Computing Language"
	DriverVersion string // of the vendor's driver
	Bus           string // "0000:01:00.0", or a UUID, or empty: tells two views of one card apart
	Memory        uint64 // bytes
	Shared        bool   // its memory is the host's
	MaxGroup      int    // items of a work-group at most
	LocalMemory   int    // bytes of a work-group at most
	MaxAlloc      uint64 // bytes of one Alloc at most
	Units         int    // compute units
	CPU           bool   // a processor through a library for GPUs, not a GPU
	Dot           bool   // has an integer dot product of four bytes
}

// Memory is a piece of a device's memory.
type Memory interface {
	Bytes() int64
}

// Kernel is a function of the program.
type Kernel interface {
	Name() string
}

// Device is an opened device with one queue: all that is asked of it runs in the order in
// which it was asked. It is used by one goroutine at a time (a queue of OS threads is the
// driver's own business).
type Device interface {
	Info() Info
	// Alloc makes memory of at least one byte, which holds anything. No room is
	// ErrNoMemory.
	Alloc(bytes int64) (Memory, error)
	// Free gives memory back once all that was asked before has ended. It may wait for it.
	Free(m Memory)
	// Write copies src to memory at a byte offset. It need not wait, but src may change
	// when it has returned.
	Write(dst Memory, offset int64, src []byte) error
	// Read waits for all that was asked and copies memory from a byte offset on.
	Read(dst []byte, src Memory, offset int64) error
	// Kernel gives a kernel of the program by its name. The same name gives the same one.
	Kernel(name string) (Kernel, error)
	// Launch runs a kernel over groups[i] work-groups of local[i] items in each dimension.
	// It does not wait and keeps neither args nor what they hold.
	Launch(k Kernel, groups, local [3]int, args ...Arg) error
	// Sync waits for all that was asked.
	Sync() error
	// MemoryInfo gives the bytes that are free now and all there are. Where the driver
	// cannot tell, free is all less what this Device holds.
	MemoryInfo() (free, total uint64, err error)
	// Close waits and gives everything back, memory included.
	Close() error
}

// ArgKind says what an Arg holds.
type ArgKind uint8

// The kinds of arguments.
const (
	ArgMemory ArgKind = iota // a __global pointer: Memory from Offset on
	ArgInt                   // an int
	ArgUint                  // a uint
	ArgFloat                 // a float
)

// Arg is one argument of a kernel. Making one allocates nothing.
type Arg struct {
	Memory Memory // of ArgMemory
	Offset int64  // of ArgMemory, in bytes, a multiple of Align
	Bits   uint32 // the value's bits, of the other kinds
	Kind   ArgKind
}

// Mem is memory from its start.
func Mem(m Memory) Arg { return Arg{Memory: m} }

// MemAt is memory from a byte offset on, a multiple of Align.
func MemAt(m Memory, offset int64) Arg { return Arg{Memory: m, Offset: offset} }

// Int is an int.
func Int(v int) Arg { return Arg{Bits: uint32(int32(v)), Kind: ArgInt} }

// Uint is a uint.
func Uint(v uint32) Arg { return Arg{Bits: v, Kind: ArgUint} }

// Float is a float.
func Float(v float32) Arg { return Arg{Bits: math.Float32bits(v), Kind: ArgFloat} }
