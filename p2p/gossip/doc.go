// Package gossip keeps every node's picture of the mesh: who is there, what
// each machine can do, and how fast the links are. Membership is
// hashicorp/memberlist over libp2p streams; a node's name in it is its peer
// id. What a machine can do is its Record: gossip carries only its version
// and digest, and the record is fetched by a stream when the version changes.
//
// A node enters the picture by direct contact alone: this node has met it on
// a connection on which it proved its membership. Hearsay makes the node try,
// nothing more, so neither ghosts nor departed nodes come alive by gossip. A
// loop keeps trying the peers that are missing.
//
// The package never looks inside the models or plans that a record names, and
// it plans nothing. Start with New; transport.go carries memberlist,
// contact.go has the rules of meeting, record.go the types.
package gossip
