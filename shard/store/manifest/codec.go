package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxBytes bounds an encoded manifest. A model of a terabyte needs 32 MiB for its hashes, a large vocabulary 20 MiB.
const MaxBytes = 256 << 20

const (
	magic    = "weftman1"
	maxFiles = 4096
)

// ErrDamaged is wrapped by the errors of Decode: the bytes are no manifest.
var ErrDamaged = errors.New("damaged manifest")

// Encode is the canonical form: the magic "weftman1"; a uint32 with the number of files; for each a uint64 length and
// its header's bytes; then, tensor after tensor, the hashes of the chunks. Numbers are little-endian.
func (m *Manifest) Encode() []byte {
	n := len(magic) + 4
	for _, h := range m.Headers {
		n += 8 + len(h)
	}
	for i := range m.Tensors {
		n += len(Hash{}) * len(m.Tensors[i].Chunks)
	}
	b := make([]byte, 0, n)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Headers)))
	for _, h := range m.Headers {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(h)))
		b = append(b, h...)
	}
	for i := range m.Tensors {
		for _, c := range m.Tensors[i].Chunks {
			b = append(b, c[:]...)
		}
	}
	return b
}

// Decode reads a manifest from bytes that anybody may have sent. There is one encoding of a manifest: what Decode
// accepts, Encode gives back byte for byte. It allocates no more than a small multiple of len(b). The result keeps
// nothing of b.
func Decode(b []byte) (*Manifest, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrDamaged, len(b), MaxBytes)
	}
	headers, rest, err := decodeHeaders(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	m, err := parse(headers)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := m.decodeChunks(rest); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	m.id = Sum(b)
	return m, nil
}

// DecodeAs is Decode for a manifest whose identity is known; anything else is an error.
func DecodeAs(b []byte, want Hash) (*Manifest, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrDamaged, len(b), MaxBytes)
	}
	if got := Sum(b); got != want {
		return nil, fmt.Errorf("%w: its hash is %s, %s was asked for", ErrDamaged, got.Short(), want.Short())
	}
	return Decode(b)
}

func decodeHeaders(b []byte) (headers [][]byte, rest []byte, err error) {
	if len(b) < len(magic)+4 || string(b[:len(magic)]) != magic {
		return nil, nil, errors.New("it does not begin as one of this version does")
	}
	files := binary.LittleEndian.Uint32(b[len(magic):])
	if files == 0 || files > maxFiles {
		return nil, nil, fmt.Errorf("it is of %d files; 1 to %d were expected", files, maxFiles)
	}
	b = b[len(magic)+4:]
	for i := range files {
		if len(b) < 8 {
			return nil, nil, fmt.Errorf("it ends before header %d", i)
		}
		n := binary.LittleEndian.Uint64(b)
		if b = b[8:]; n > uint64(len(b)) {
			return nil, nil, fmt.Errorf("header %d has %d bytes, only %d follow", i, n, len(b))
		}
		headers, b = append(headers, b[:n:n]), b[n:]
	}
	return headers, b, nil
}

// decodeChunks reads the hashes of all tensors, which are all of b.
func (m *Manifest) decodeChunks(b []byte) error {
	left := uint64(len(b))
	for i := range m.Tensors {
		t := &m.Tensors[i]
		need := chunkCount(t.Size)
		if need > left/uint64(len(Hash{})) {
			return fmt.Errorf("it ends inside the hashes of tensor %s", t.Name)
		}
		chunks := make([]Hash, need)
		for c := range chunks {
			b = b[copy(chunks[c][:], b):]
		}
		if err := t.setChunks(chunks); err != nil {
			return err
		}
		left = uint64(len(b))
	}
	if left != 0 {
		return fmt.Errorf("%d bytes follow its end", left)
	}
	return nil
}
