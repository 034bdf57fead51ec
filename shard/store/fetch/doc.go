// Package fetch gets tensors from peers: chunk by chunk, from several sources at once, every chunk checked against the
// manifest before it touches the disk, going on where an earlier run was cut off.
//
// A source that sends wrong bytes is set aside for the rest of the fetch and reported; one that fails or is slow is tried
// again later, and others are asked meanwhile. Memory is bounded by the number of requests in flight, one MiB each. A
// tensor that is whole goes to the Sink, which packs it, and its partial file is deleted.
//
// It knows no network: a Source is whatever gives a chunk for a hash and an index. Start reading at Fetch.
package fetch
