// Package hub downloads model files from a Hugging Face style hub, or from any web server together with a SHA-256.
//
// A download goes on where it was cut off, notices a connection that stands still, and is compared with the hash that the
// hub lists before its file gets its name. What a server says is not trusted: sizes are bounded by what the hub listed,
// file names never leave the directory, and the user's token goes to the hub alone, not to where it redirects.
//
// It fetches whole files; or reads them once without keeping them (Scan), after which every node fetches the tensors of
// its own layers by range requests (Source). It knows nothing of tensors in the store or of peers.
// Start reading at Client and Pull (client.go); download.go has one file's way through cuts, scan.go the manifest of a
// model that no disk needs to hold.
package hub
