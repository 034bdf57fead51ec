package manifest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"
)

// ChunkBytes is the size of a chunk, the unit in which weights are hashed, sent and checked. The last chunk of a tensor
// may be shorter.
const ChunkBytes = 1 << 20

// blakeChunks is how many of BLAKE3's own chunks are in one of ours.
const blakeChunks = ChunkBytes / guts.ChunkSize

// Hash is a BLAKE3 hash.
type Hash [32]byte

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short is the first twelve hexadecimal digits, for people.
func (h Hash) Short() string { return hex.EncodeToString(h[:6]) }

// IsZero reports whether h is unset.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText is the hash in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads a hash in hexadecimal.
func (h *Hash) UnmarshalText(b []byte) error {
	got, err := ParseHash(string(b))
	if err == nil {
		*h = got
	}
	return err
}

// ParseHash reads the 64 hexadecimal digits of a hash.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) {
		return Hash{}, fmt.Errorf("a hash has %d hexadecimal digits, this has %d", 2*len(h), len(s))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("a hash has hexadecimal digits only: %w", err)
	}
	return h, nil
}

// Sum is the BLAKE3 hash of b.
func Sum(b []byte) Hash { return blake3.Sum256(b) }

// ErrWrongChunk is wrapped by the error about a chunk whose bytes do not have the hash that the manifest gives.
var ErrWrongChunk = errors.New("chunk has a wrong hash or length")

// HashChunk is the hash of chunk index of a tensor of size bytes. For a tensor of one chunk that is the BLAKE3 hash of
// its bytes. Otherwise it is the chaining value of the chunk's subtree in the BLAKE3 tree over the whole tensor
// (section 2.1 of the BLAKE3 paper): reading the bytes once gives the hashes of the chunks and, by Root, the tensor's.
func HashChunk(b []byte, index int, size uint64) Hash {
	if size <= ChunkBytes {
		return Sum(b)
	}
	return wordsToHash(guts.ChainingValue(subtree(b, uint64(index)*blakeChunks)))
}

// subtree is the node of BLAKE3's tree over b, whose first BLAKE3 chunk has the number counter.
func subtree(b []byte, counter uint64) guts.Node {
	const simd = guts.MaxSIMD * guts.ChunkSize
	switch {
	case len(b) == simd:
		return guts.CompressBuffer((*[simd]byte)(b), simd, &guts.IV, counter, 0)
	case len(b) < simd:
		var buf [simd]byte // the compressor reads all of it
		n := copy(buf[:], b)
		return guts.CompressBuffer(&buf, n, &guts.IV, counter, 0)
	}
	left := 1 << (bits.Len(uint(len(b)-1)) - 1)
	l := guts.ChainingValue(subtree(b[:left], counter))
	r := guts.ChainingValue(subtree(b[left:], counter+uint64(left/guts.ChunkSize)))
	return guts.ParentNode(l, r, &guts.IV, 0)
}

// Root is the BLAKE3 hash of a tensor's bytes, from the hashes of its chunks (at least one) in order.
func Root(chunks []Hash) Hash {
	if len(chunks) == 1 {
		return chunks[0]
	}
	n := parent(chunks)
	n.Flags |= guts.FlagRoot
	words := guts.CompressNode(n)
	return wordsToHash([8]uint32(words[:8]))
}

func parent(chunks []Hash) guts.Node {
	left := 1 << (bits.Len(uint(len(chunks)-1)) - 1)
	return guts.ParentNode(chaining(chunks[:left]), chaining(chunks[left:]), &guts.IV, 0)
}

func chaining(chunks []Hash) [8]uint32 {
	if len(chunks) == 1 {
		return hashToWords(chunks[0])
	}
	return guts.ChainingValue(parent(chunks))
}

func wordsToHash(w [8]uint32) (h Hash) {
	for i, x := range w {
		h[4*i], h[4*i+1], h[4*i+2], h[4*i+3] = byte(x), byte(x>>8), byte(x>>16), byte(x>>24)
	}
	return h
}

func hashToWords(h Hash) (w [8]uint32) {
	for i := range w {
		w[i] = uint32(h[4*i]) | uint32(h[4*i+1])<<8 | uint32(h[4*i+2])<<16 | uint32(h[4*i+3])<<24
	}
	return w
}
