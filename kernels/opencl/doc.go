// Package opencl is the device of graphics processors: the arithmetic of package kernels
// in OpenCL C (folder cl), run by whatever library package driver's implementations load.
// It gives the contract's bits on every vendor's card or is refused: package kernelstest
// decides, not what a driver reports.
//
// It loads no library and picks no card: New takes a driver.Device that was opened with
// Source. Nothing here looks at a device's name.
//
// device.go is the device and how kernels are launched, handle.go buffers, vectors and
// tables, batch.go what a batch puts on the device and the faults that come back;
// elementwise.go, norm.go, rotate.go, kv.go and attention.go are the operations of a layer,
// matrix.go, acts.go, matmul.go and embed.go what reads weights. Start at Device.
package opencl
