package gguf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrHeaderOnly is wrapped by the error of Data on a File that came from headers alone.
var ErrHeaderOnly = errors.New("only the model's header is here, not its weights")

// ErrClosed is wrapped by the error of Data after Close.
var ErrClosed = errors.New("the model file is closed")

// Tensor is one tensor's place and shape.
type Tensor struct {
	Name string
	Type Type
	// Dims has 1 to 4 sizes, none of them 0. Dims[0] is the contiguous one: the length of a row.
	Dims []uint64
	// Part is the index of the file it lies in; 0 unless the model is split.
	Part int
	// Offset is its first byte in that file, from the file's beginning.
	Offset uint64
	// Size is its length in bytes.
	Size uint64
}

// Rows is the number of rows: the product of all dimensions but the first.
func (t Tensor) Rows() uint64 {
	n := uint64(1)
	for _, d := range t.Dims[1:] {
		n *= d
	}
	return n
}

// Elems is the number of elements.
func (t Tensor) Elems() uint64 { return t.Dims[0] * t.Rows() }

// Part is one file of a model as a peer needs it to know the model without its weights.
type Part struct {
	// Header is the file's bytes from its beginning to the end of the tensor infos.
	Header []byte
	// Size is the whole file's size in bytes.
	Size int64
}

// File is a model: one file, or all the files of a split one. Everything but Close is safe for concurrent use.
type File struct {
	// Version is the format's version, 2 or 3.
	Version uint32
	// Alignment is what tensor offsets are multiples of.
	Alignment uint64
	// Meta is the metadata; of a split model that of its first part.
	Meta *Meta
	// Tensors are in file order, part after part. Shared: do not change them.
	Tensors []Tensor

	parts  []part
	byName map[string]int
}

// part is one file behind a File.
type part struct {
	name   string
	size   int64
	header []byte
	data   uint64 // begin of tensor data
	src    source
}

// source gives tensor bytes; nil for a header alone.
type source interface {
	// slice is n bytes from off, which the caller has checked to lie inside the file.
	slice(off, n uint64) ([]byte, error)
	// evict says that the bytes are not needed for now.
	evict(off, n uint64)
	io.Closer
}

// Parse reads a whole model that is one file of size bytes behind r. Data then reads from r, which must stay open and
// be safe for concurrent use. Split models need Open.
func Parse(r io.ReaderAt, size int64) (*File, error) {
	p, h, err := parsePart("", readerSource{r}, r, size)
	if err != nil {
		return nil, err
	}
	if count, err := h.meta.UintOr(splitCountKey, 1); err != nil || count > 1 {
		return nil, errors.Join(err, fmt.Errorf("this is one of %d parts of a split model; open the first part by its path, or parse all headers with ParseHeaders", count))
	}
	return join([]part{p}, []*header{h})
}

// ParseHeader reads a model from the beginning of its only file, of fileSize bytes. b must hold the header; what
// follows it is ignored. Data of the result gives ErrHeaderOnly. The File keeps its own copy of b.
func ParseHeader(b []byte, fileSize int64) (*File, error) {
	return ParseHeaders([]Part{{Header: b, Size: fileSize}})
}

// ParseHeaders is ParseHeader for all parts of a split model, in order, e.g. those of File.Parts at a peer.
func ParseHeaders(files []Part) (*File, error) {
	if len(files) == 0 {
		return nil, errors.New("a model has at least one file; no header was given")
	}
	parts, headers := make([]part, len(files)), make([]*header, len(files))
	for i, f := range files {
		if f.Size < int64(len(f.Header)) {
			return nil, fmt.Errorf("part %d: a header of %d bytes cannot come from a file of %d", i+1, len(f.Header), f.Size)
		}
		h, err := parseHeader(f.Header, uint64(f.Size))
		if errors.Is(err, errShort) {
			err = fmt.Errorf("the header is longer than the %d bytes received: %w", len(f.Header), ErrTruncated)
		}
		if err != nil {
			return nil, fmt.Errorf("part %d: %w", i+1, err)
		}
		parts[i] = part{size: f.Size, header: bytes.Clone(f.Header[:h.end]), data: h.data}
		headers[i] = h
	}
	return join(parts, headers)
}

// firstRead is how much of a file is read at first; headers of big vocabularies are up to some 10 MB.
const firstRead = 1 << 20

// parsePart reads a header through r with growing reads.
func parsePart(name string, src source, r io.ReaderAt, size int64) (part, *header, error) {
	for n := int64(firstRead); ; n *= 4 {
		n = min(n, size, MaxHeaderBytes)
		b := make([]byte, max(n, 0))
		if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			return part{}, nil, fmt.Errorf("read header: %w", err)
		}
		h, err := parseHeader(b, uint64(max(size, 0)))
		if errors.Is(err, errShort) && n < MaxHeaderBytes && n < size {
			continue
		}
		if errors.Is(err, errShort) {
			err = fmt.Errorf("the header is longer than %d bytes; the file is damaged", n)
		}
		if err != nil {
			return part{}, nil, err
		}
		return part{name: name, size: size, header: bytes.Clone(b[:h.end]), data: h.data, src: src}, h, nil
	}
}

// Tensor finds a tensor by name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return f.Tensors[i], true
}

// Data is a tensor's bytes as they stand in the file. From Open on unix it is the mapped file itself: read-only, valid
// until Close, and a page fault kills the process if somebody truncates the file meanwhile. Otherwise it is a fresh copy.
func (f *File) Data(t Tensor) ([]byte, error) {
	if t.Part < 0 || t.Part >= len(f.parts) {
		return nil, fmt.Errorf("tensor %q: part %d does not exist, the model has %d", t.Name, t.Part, len(f.parts))
	}
	p := f.parts[t.Part]
	if p.src == nil {
		return nil, fmt.Errorf("tensor %q: %w", t.Name, ErrHeaderOnly)
	}
	if t.Offset > uint64(p.size) || t.Size > uint64(p.size)-t.Offset {
		return nil, fmt.Errorf("tensor %q: bytes %d+%d are outside the file of %d bytes", t.Name, t.Offset, t.Size, p.size)
	}
	b, err := p.src.slice(t.Offset, t.Size)
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	return b, nil
}

// Evict tells the system that a tensor's bytes will not be read soon, so that its pages leave this process's resident
// memory. They stay readable. It does nothing where files are not mapped.
func (f *File) Evict(t Tensor) {
	if t.Part >= 0 && t.Part < len(f.parts) && f.parts[t.Part].src != nil && t.Offset <= uint64(f.parts[t.Part].size) {
		p := f.parts[t.Part]
		p.src.evict(t.Offset, min(t.Size, uint64(p.size)-t.Offset))
	}
}

// HeaderBytes is the first file's raw bytes from its beginning to the end of the tensor infos, for hashing or for a
// peer. Shared: do not change them. A split model has several: see Parts.
func (f *File) HeaderBytes() []byte { return f.parts[0].header }

// Parts are the headers and sizes of all files of the model: what ParseHeaders needs at a peer. Header bytes are shared.
func (f *File) Parts() []Part {
	out := make([]Part, len(f.parts))
	for i, p := range f.parts {
		out[i] = Part{Header: p.header, Size: p.size}
	}
	return out
}

// Paths are the paths of the model's files, in order; nil unless it came from Open.
func (f *File) Paths() []string {
	var out []string
	for _, p := range f.parts {
		if p.name != "" {
			out = append(out, p.name)
		}
	}
	return out
}

// Close unmaps the files. Slices from Data must not be touched afterwards; Close must not run beside other calls.
func (f *File) Close() error { return closeParts(f.parts) }

func closeParts(parts []part) error {
	var err error
	for _, p := range parts {
		if p.src != nil {
			err = errors.Join(err, p.src.Close())
		}
	}
	return err
}

// readerSource copies from a reader that belongs to the caller.
type readerSource struct{ r io.ReaderAt }

func (s readerSource) slice(off, n uint64) ([]byte, error) {
	b := make([]byte, n)
	got, err := s.r.ReadAt(b, int64(off))
	if got < len(b) {
		return nil, fmt.Errorf("read %d bytes at %d: %w", n, off, err)
	}
	return b, nil
}

func (readerSource) evict(_, _ uint64) {}
func (readerSource) Close() error      { return nil }
