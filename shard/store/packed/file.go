package packed

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/weft-mesh/weft/kernels/quant"
)

// File is a mapped packed file. Its bytes are shared by every process that maps it and may be evicted; reading them
// after Close crashes, so the owner counts its users.
type File struct {
	spec   Spec
	data   []byte
	matrix *quant.Packed // nil for a raw file
}

// Open maps the file of spec in dir. An error that wraps os.ErrNotExist says that it is not there, one that wraps
// ErrDamaged that it is not what its name says.
func Open(dir string, spec Spec) (*File, error) {
	path := filepath.Join(dir, spec.Name())
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // a mapping outlives its descriptor
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var head [HeaderBytes]byte
	n, _ := f.ReadAt(head[:], 0)
	got, err := decodeHeader(head[:n], st.Size())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if got != spec {
		return nil, fmt.Errorf("open %s: %w: it holds another tensor", path, ErrDamaged)
	}
	data, err := mapFile(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	file := &File{spec: spec, data: data}
	if !spec.Raw {
		if file.matrix, err = quant.View(spec.Type, spec.Rows, spec.Cols, data[HeaderBytes:]); err != nil {
			_ = unmapFile(data)
			return nil, fmt.Errorf("open %s: %w: %w", path, ErrDamaged, err)
		}
	}
	return file, nil
}

// Spec is what the file holds.
func (f *File) Spec() Spec { return f.spec }

// Matrix is the packed weights, in the mapped memory; nil for a raw file. Do not write to it.
func (f *File) Matrix() *quant.Packed { return f.matrix }

// WillNeed asks the system to read the file in before it is used.
func (f *File) WillNeed() { willNeed(f.data) }

// Evict gives the file's resident memory back; it is read again when touched.
func (f *File) Evict() { dontNeed(f.data) }

// Close unmaps the file.
func (f *File) Close() error {
	data := f.data
	f.data, f.matrix = nil, nil
	return unmapFile(data)
}

// ReadAt gives GGUF bytes: those of a raw file, or unpacked ones. b must lie inside the tensor.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || int64(len(b)) > f.spec.Size-off {
		return 0, fmt.Errorf("bytes %d to %d are no part of a tensor of %d", off, off+int64(len(b)), f.spec.Size)
	}
	if f.spec.Raw {
		return copy(b, f.data[HeaderBytes+off:]), nil
	}
	group, err := f.spec.Type.RowBytes(f.spec.Cols)
	if err != nil {
		return 0, err
	}
	group *= quant.GroupRows
	var buf []byte
	for n := 0; n < len(b); {
		at := off + int64(n)
		first := at / group
		size := min(group, f.spec.Size-first*group)
		buf = grow(buf, size)
		if err := f.matrix.Unpack(buf, int(first), 1); err != nil {
			return n, err
		}
		n += copy(b[n:], buf[at-first*group:])
	}
	return len(b), nil
}

// Floats decodes raw F32, F16 or BF16 bytes, the form in which norms and biases are kept.
func Floats(t quant.Type, b []byte) ([]float32, error) {
	size := 2
	if t == quant.F32 {
		size = 4
	}
	if !t.Float() || len(b)%size != 0 {
		return nil, fmt.Errorf("%d bytes of %s are no vector of floats; F32, F16 or BF16 was expected", len(b), t)
	}
	out := make([]float32, len(b)/size)
	for i := range out {
		switch t {
		case quant.F32:
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		case quant.BF16:
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		default:
			out[i] = half(binary.LittleEndian.Uint16(b[2*i:]))
		}
	}
	return out, nil
}

// half is the value of an IEEE half.
func half(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	case exp != 0:
		return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
	}
	v := float32(frac) / (1 << 24) // exact
	if sign != 0 {
		return -v
	}
	return v
}
