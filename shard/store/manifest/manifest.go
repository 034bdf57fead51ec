package manifest

import (
	"fmt"

	"github.com/weft-mesh/weft/shard/gguf"
)

// Manifest describes a model. It is not changed after New or Decode, so any number of goroutines may read it.
type Manifest struct {
	// Headers are the headers of the model's files in the order of the split: from the magic to the last tensor info.
	Headers [][]byte
	// Tensors are all tensors: of the first file in the order of its header, then of the second, and so on.
	Tensors []Tensor
	// Header is the model as gguf reads it from the headers alone: metadata and tensor infos, for those who build the
	// vocabulary or the architecture.
	Header *gguf.File

	id     Hash
	byName map[string]int
}

// Tensor is one tensor of a model.
type Tensor struct {
	Name   string
	Type   gguf.Type
	Dims   []uint64 // as in the file: fastest-running first
	Size   uint64   // of the GGUF bytes
	File   int      // index of the file that holds it
	Offset uint64   // of the first byte in that file
	Hash   Hash     // BLAKE3 of the GGUF bytes
	Chunks []Hash   // of each ChunkBytes, as HashChunk gives them
}

// Rows is the number of rows of a tensor seen as a matrix: the product of all dimensions but the first.
func (t *Tensor) Rows() uint64 {
	n := uint64(1)
	for _, d := range t.Dims[1:] {
		n *= d // bounded: gguf refuses products beyond 2^48
	}
	return n
}

// Cols is the length of a row.
func (t *Tensor) Cols() uint64 { return t.Dims[0] }

// ChunkSize is the length of chunk index in bytes, 0 if there is none.
func (t *Tensor) ChunkSize(index int) int {
	if index < 0 || index >= len(t.Chunks) {
		return 0
	}
	return int(min(t.Size-uint64(index)*ChunkBytes, ChunkBytes))
}

// Check returns an error that wraps ErrWrongChunk unless b is chunk index.
func (t *Tensor) Check(index int, b []byte) error {
	want := t.ChunkSize(index)
	if want == 0 {
		return fmt.Errorf("tensor %s has no chunk %d, only %d: %w", t.Name, index, len(t.Chunks), ErrWrongChunk)
	}
	if len(b) != want {
		return fmt.Errorf("tensor %s, chunk %d: %d bytes came, %d were expected: %w", t.Name, index, len(b), want, ErrWrongChunk)
	}
	if HashChunk(b, index, t.Size) != t.Chunks[index] {
		return fmt.Errorf("tensor %s, chunk %d: %w", t.Name, index, ErrWrongChunk)
	}
	return nil
}

// chunkCount is how many chunks size bytes make.
func chunkCount(size uint64) uint64 { return (size + ChunkBytes - 1) / ChunkBytes }

// ID is the model's identity: the hash of Encode.
func (m *Manifest) ID() Hash { return m.id }

// Tensor finds a tensor by name. The result is shared: do not change it.
func (m *Manifest) Tensor(name string) (*Tensor, bool) {
	i, ok := m.byName[name]
	if !ok {
		return nil, false
	}
	return &m.Tensors[i], true
}

// Size is the number of bytes of all tensors.
func (m *Manifest) Size() uint64 {
	n := uint64(0)
	for i := range m.Tensors {
		n += m.Tensors[i].Size
	}
	return n
}

// New makes a manifest of headers and the chunk hashes of each tensor, in the order of Manifest.Tensors. The slices
// of hashes . Errors are those of a damaged or inconsistent header.
func New(headers [][]byte, chunks [][]Hash) (*Manifest, error) {
	m, err := parse(headers)
	if err != nil {
		return nil, err
	}
	if len(chunks) != len(m.Tensors) {
		return nil, fmt.Errorf("the headers have %d tensors, there are hashes of %d", len(m.Tensors), len(chunks))
	}
	for i := range m.Tensors {
		if err := m.Tensors[i].setChunks(chunks[i]); err != nil {
			return nil, err
		}
	}
	b := m.Encode()
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("the model's manifest would have %d bytes, at most %d are allowed", len(b), MaxBytes)
	}
	m.id = Sum(b)
	return m, nil
}

// parse reads the headers into a manifest without hashes.
func parse(headers [][]byte) (*Manifest, error) {
	// The sizes of the files are no part of a manifest: that a file really holds its tensors is checked where it is read.
	const unknownSize = 1 << 62
	parts := make([]gguf.Part, len(headers))
	for i, h := range headers {
		parts[i] = gguf.Part{Header: h, Size: unknownSize}
	}
	f, err := gguf.ParseHeaders(parts)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Header: f, Tensors: make([]Tensor, len(f.Tensors)), byName: make(map[string]int, len(f.Tensors))}
	for i, p := range f.Parts() {
		if len(p.Header) != len(headers[i]) {
			return nil, fmt.Errorf("header %d is followed by %d bytes that do not belong to it", i, len(headers[i])-len(p.Header))
		}
		m.Headers = append(m.Headers, p.Header)
	}
	for i, t := range f.Tensors {
		m.Tensors[i] = Tensor{Name: t.Name, Type: t.Type, Dims: t.Dims, Size: t.Size, File: t.Part, Offset: t.Offset}
		m.byName[t.Name] = i
	}
	return m, nil
}

func (t *Tensor) setChunks(chunks []Hash) error {
	if uint64(len(chunks)) != chunkCount(t.Size) {
		return fmt.Errorf("tensor %s of %d bytes has %d chunks, there are hashes of %d", t.Name, t.Size, chunkCount(t.Size), len(chunks))
	}
	t.Chunks, t.Hash = chunks, Root(chunks)
	return nil
}
