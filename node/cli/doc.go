// Package cli is weft's command line, one file a verb. It reaches a node only
// through package api: the client of a daemon's socket, or a Starter that main
// hands in. It prints and asks; it computes nothing and stores nothing.
//
// Start reading at Main, then connect, which finds or starts the node, and
// run.go.
package cli
