// Package exact is the device of the exact mode: dequantised weights, inputs
// that are never quantised, sums in float64, keys and values in float32. It
// proves a graph, a tokenizer and a reader of files against an independent
// engine's float results; it is portable Go and slow.
//
// It does not give the contract's bits and does not pass kernelstest: values
// are rounded to float32 where an operation stores them, and nowhere else. Its
// results do not depend on the number of threads or the mix of rows all the
// same. The KV type of a layout and the width of activations are ignored.
//
// Start at New.
package exact
