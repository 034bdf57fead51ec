// Package packed is the file that holds one tensor in the form that kernels read: a header of one page, then the plane of
// quants, then the plane of scales, as kernels/quant lays them out. A tensor that has no packed form is kept as its GGUF
// bytes in a file of the same kind.
//
// A file is written under a temporary name and appears under its own when it is whole and on disk. Its name says what is
// in it (the hash of the tensor's GGUF bytes, type, shape, layout version), so it never changes, and any number of
// processes may map it.
//
// It knows no models and no names; that is package store. Start reading at Spec, then Create and Open.
package packed
