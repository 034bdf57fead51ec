// Package kv keeps the accounts of paged KV memory: which block belongs to which sequence, which blocks hold a prefix that
// another sequence may use, and how much is promised. It never touches the memory itself, has no clock and starts no
// goroutine; it is for one goroutine at a time.
//
// A block holds BlockPositions positions. Full blocks of confirmed positions are keyed by a hash chain over their tokens
// and are never written again, so sequences share them without copies. A sequence reserves its worst case when it opens,
// so no sequence can run out of blocks half-way; blocks that nobody references stay as a cache until they are needed.
//
// Start reading at Pool, then Seq.
package kv
