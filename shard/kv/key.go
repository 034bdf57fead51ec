package kv

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/weft-mesh/weft/kernels"
)

// Key names the content of a block: everything that decides its bits. The key of a sequence's block is the hash of the key
// before it and the block's tokens; before the first stands a Seed.
type Key [sha256.Size]byte

// Seed hashes what sets sequences apart before their first token: profile, model, tenant. Parts are length-prefixed, so
// that no two lists of parts give the same bytes.
func Seed(parts ...[]byte) Key {
	h := sha256.New()
	h.Write([]byte("weft kv 1"))
	for _, p := range parts {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	var k Key
	h.Sum(k[:0])
	return k
}

// next is the key of the block that holds tokens, after the block of key k.
func (k Key) next(tokens []int32) Key {
	var b [sha256.Size + 4*kernels.BlockPositions]byte
	copy(b[:], k[:])
	for i, t := range tokens[:kernels.BlockPositions] {
		binary.LittleEndian.PutUint32(b[sha256.Size+4*i:], uint32(t))
	}
	return sha256.Sum256(b[:])
}
