// Package manifest describes a model completely and names it: the GGUF headers of its files and a BLAKE3 hash of every
// MiB of every tensor. A model's identity is the BLAKE3 hash of the manifest's canonical bytes, so two nodes that agree
// on 32 bytes agree on every weight.
//
// The encoding holds nothing twice: names, types, shapes and sizes are in the headers, and a tensor's hash follows from
// the hashes of its chunks. So there is nothing in it that could contradict itself, and a peer that sends a manifest can
// only send a right or a wrong one.
//
// It never touches a file or a socket, and never looks at a weight beyond hashing it. Start reading at Manifest and
// Decode; hash.go says how chunk hashes add up to a tensor's.
package manifest
