// Package model knows architectures: which tensors a layer range of a model needs, and what is computed with them.
//
// A Config says what a model file describes; it is read from the file's header alone and every field is checked, for the
// file may be hostile. A Graph is a layer range loaded on a kernels.Device; it computes batches of rows and knows nothing
// of sessions, epochs or sampling, which are package shard's, nor of files and peers, which are package store's.
//
// Start reading at Parse (config.go), then Graph (graph.go). A new family is one file beside llama.go: what it reads from
// the metadata, and how its block differs from the plain one.
package model
