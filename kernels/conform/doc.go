// Package conform is the conformance suite of the arithmetic contract: a device
// that passes it gives the bits that package kernels defines, for every
// operation, weight type and activation width, at odd shapes, on hostile data,
// with any number of threads and any mix of rows.
//
// The suite runs each scenario on the device and on Naive, a device of plain
// scalar loops written from the contract's text, and compares bits and faults.
// Naive shares no code with any other device; it is slow and clear.
//
// It needs no test: a program runs it before it computes on a device whose
// driver it has not met before (Check with Quick). Package kernelstest runs all
// of it in tests. The suite measures no speed and makes no devices. Start at
// Check, then at the list of cases, then at Naive.
package conform
