// Package host is a node's presence on the network: its identity key, its
// listening port, its encrypted connections, and the rule that nobody but a
// member of the mesh gets a byte read.
//
// Every connection is encrypted and bound to the peer's Ed25519 key by
// libp2p. On top, both sides show their mesh certificates right after
// connecting (the hello protocol); handlers added by Handle run for peers
// with a valid one and reset the stream of any other. Only hello itself,
// protocols added by HandleStranger and libp2p's identify answer strangers,
// within narrow limits.
//
// The package knows nothing of what flows over the streams and never decides
// who is a member: an Authority does. Start with New.
package host
