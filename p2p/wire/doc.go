// Package wire moves frames between two nodes over one long-lived stream: it
// encodes and bounds them, puts long payloads together from parts, queues what
// is sent so that no reader ever waits for a writer, beats while a stream is in
// use, and measures the link. A second, smaller protocol carries requests and
// replies (Exchange).
//
// It never looks into a body beyond what framing needs, knows no model and no
// plan, opens no stream and decides nothing about who may speak: whoever opens
// or accepts the stream checks the peer.
//
// Start reading at Link; NewLink puts one on a stream, Pipe joins two ends in
// memory with the same behaviour.
package wire
