// Package arith holds the scalar functions of the arithmetic contract (see
// package kernels) in portable Go: the same bits on every processor, with no
// use of a fused multiply-add that the compiler or the machine might add.
//
// It is the reference that assembly and OpenCL forms are compared with, and
// the only place where weft computes sines, cosines and powers: rotary tables
// are built here once, in float64, and handed to devices ready made.
//
// It knows nothing of tensors, formats or threads. Start at FMA and Floor,
// then Exp and what is built on it, then RopeTable.
package arith
