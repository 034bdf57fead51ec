// Package gguf reads and writes GGUF model files, versions 2 and 3, also split over several files.
//
// It is for everybody who needs a model's metadata or the raw bytes of its tensors: the store, the tokenizers, the
// architectures, and a head that has only received the header from a peer. It never decodes a quantised block (that is
// kernels/quant) and never interprets a key beyond those of the format itself (general.alignment, split.*).
//
// Nothing in a file is trusted: every count, length, offset and type is checked against the bytes that are really
// there before anything is allocated for it, and an error names the file, the key or tensor, the cause and the way out.
//
// Start reading at File (file.go) and Parse; the format itself is in header.go. Builder (writer.go) writes files.
//
// Source of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
package gguf
