// Package weftv1 holds the messages that nodes exchange: how they are admitted
// and what they can do (mesh.proto), how a typed code lets a machine in and who is
// shut out (admission.proto), how a plan comes about (plan.proto), what flows
// through its stages (run.proto) and how weights travel (weights.proto).
//
// It is generated from the .proto files beside it and contains no behaviour:
// framing, limits and checks live in p2p/wire and in the packages that serve
// each protocol. Start reading at run.proto.
//
// Regenerate after an edit with
//
//	go generate ./proto/...
package weftv1

//go:generate go -C ../../gen run . -root ..
