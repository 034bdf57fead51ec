// Package cuda runs the OpenCL C kernels of weft's GPU device on NVIDIA's cards through the
// driver's own library, libcuda: servers and containers often have it and no OpenCL. The
// kernels are compiled ahead to PTX, NVIDIA's portable assembly (package ptx), which the
// driver turns into the card's code when a device is opened; no CUDA toolkit is needed.
//
// It implements package driver and knows no operation of a model. The text is kernels.ptx.gz;
// go generate writes it anew, and one of another source than the program's is refused. Start
// at New, then at device.
package cuda

//go:generate go run ./ptx/compile
