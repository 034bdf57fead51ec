// Package store keeps models on disk under $WEFT_HOME/models: which there are and what they are called, their manifests,
// their tensors in the packed form that kernels map, and the pieces that other nodes ask for.
//
// Everything is named by the hash of its content, so nothing is kept twice and nothing can be taken for something else.
// A model that a user added stays in the user's file and is referenced; what was pulled or fetched is kept packed only
// and unpacked when a peer wants it. The user's files are never written and never deleted.
//
// It never opens a socket: weights come from a fetch.Source that somebody else provides (package fetch), or as files
// (package hub downloads them). It knows no architecture either; which tensors a layer range needs follows from their
// names (Manifest.Range).
//
// Start reading at Store and Open; Entry is what a name stands for; Model gives a stage its tensors; ReadChunk serves a
// peer.
package store
