// Package admission decides who belongs to a mesh. A mesh is the hash of an
// Ed25519 root key; the root signs admitters, admitters sign members, and a
// node proves its place by a chain of one or two certificates bound to its
// libp2p peer id. New machines come in by an invitation token, which holds a
// one-use secret and never a key.
//
// The package never dials or listens by itself: a Service speaks over the
// Network it is given, which package host implements. Certificates, tokens
// and the invitation book have no clock and no socket of their own.
//
// Start with Mesh, the node's own membership; certificate.go has the format,
// join.go the protocol.
package admission
