// Package api is a node's HTTP surface and the client of it. The whole API is
// served on a unix socket in the node's home, for the command line of the same
// user; the OpenAI-compatible part of it also over TCP, guarded against web
// pages, rebound names and strangers.
//
// It computes nothing and keeps nothing: everything behind it is a Node. It
// never logs a prompt or a key. Start reading at Node in types.go, then
// ServeLocal and ServeHTTP; Client is the other end of ServeLocal and a Node
// itself.
package api
