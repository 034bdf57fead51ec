package packed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// LayoutVersion numbers the packed layout. A file of another version is not read but packed again under a new name.
const LayoutVersion = 1

// HeaderBytes is the size of a file's header: a page, so that the planes after it are aligned for any kernel.
const HeaderBytes = 4096

// usedBytes is how much of the header has a meaning; the rest is zero.
const usedBytes = 8 + 4*4 + 5*8 + 32 + 32

var magic = [8]byte{'w', 'e', 'f', 't', 'p', 'a', 'c', 'k'}

// ErrDamaged is wrapped by errors about a file that is not what its name says.
var ErrDamaged = errors.New("damaged packed file")

// Spec says what a file holds, and thereby what it is called.
type Spec struct {
	Tensor manifest.Hash // BLAKE3 of the GGUF bytes
	Type   quant.Type
	Rows   int
	Cols   int
	Size   int64 // of the GGUF bytes
	Raw    bool  // the GGUF bytes as they are; Type, Rows and Cols only say what they mean
}

// SpecOf is the spec of a tensor. One-dimensional tensors and types that kernels/quant does not read are kept raw.
func SpecOf(t *manifest.Tensor) Spec {
	s := Spec{
		Tensor: t.Hash, Type: quant.Type(t.Type),
		Rows: clampInt(t.Rows()), Cols: clampInt(t.Cols()), Size: clampInt64(t.Size),
	}
	s.Raw = len(t.Dims) < 2 || !s.packable()
	return s
}

// packable reports whether the type and shape have a packed form.
func (s Spec) packable() bool {
	size, err := s.Type.Bytes(s.Rows, s.Cols)
	return err == nil && size == s.Size
}

func clampInt(n uint64) int     { return int(min(n, 1<<62)) }
func clampInt64(n uint64) int64 { return int64(min(n, 1<<62)) }

// Name is the file's name.
func (s Spec) Name() string {
	kind := "pack"
	if s.Raw {
		kind = "raw"
	}
	return fmt.Sprintf("%s-%d-%dx%d-v%d.%s", s.Tensor, s.Type, s.Rows, s.Cols, LayoutVersion, kind)
}

// planes are the sizes of the two planes in bytes; a raw tensor is one plane.
func (s Spec) planes() (quants, scales int64, err error) {
	if s.Raw {
		return s.Size, 0, nil
	}
	return planeBytes(s.Type, s.Rows, s.Cols)
}

// Bytes is the size of the file, 0 for a spec that has none.
func (s Spec) Bytes() int64 {
	q, sc, err := s.planes()
	if err != nil {
		return 0
	}
	return HeaderBytes + q + sc
}

// header is the first page of the file.
func (s Spec) header() ([]byte, error) {
	q, sc, err := s.planes()
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, HeaderBytes)
	b = append(b, magic[:]...)
	for _, v := range []uint32{LayoutVersion, rawFlag(s.Raw), uint32(s.Type), 0} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for _, v := range []int64{int64(s.Rows), int64(s.Cols), s.Size, q, sc} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	b = append(b, s.Tensor[:]...)
	sum := manifest.Sum(b)
	b = append(b, sum[:]...)
	return b[:HeaderBytes], nil
}

func rawFlag(raw bool) uint32 {
	if raw {
		return 1
	}
	return 0
}

// decodeHeader reads the first page of a file of size bytes. It accepts exactly what header writes.
func decodeHeader(b []byte, size int64) (Spec, error) {
	if len(b) < HeaderBytes || size < HeaderBytes {
		return Spec{}, fmt.Errorf("%w: it has %d bytes, its header alone has %d", ErrDamaged, size, HeaderBytes)
	}
	if !bytes.Equal(b[:8], magic[:]) {
		return Spec{}, fmt.Errorf("%w: it does not begin as a packed tensor does", ErrDamaged)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != LayoutVersion {
		return Spec{}, fmt.Errorf("%w: it has layout version %d, this build reads %d", ErrDamaged, v, LayoutVersion)
	}
	s := Spec{
		Type: quant.Type(binary.LittleEndian.Uint32(b[16:])),
		Rows: int(binary.LittleEndian.Uint64(b[24:])),
		Cols: int(binary.LittleEndian.Uint64(b[32:])),
		Size: int64(binary.LittleEndian.Uint64(b[40:])),
		Raw:  binary.LittleEndian.Uint32(b[12:]) == 1,
	}
	copy(s.Tensor[:], b[64:])
	possible := s.packable()
	if s.Raw {
		possible = s.Rows > 0 && s.Cols > 0 && s.Size > 0 && s.Size <= 1<<50
	}
	if !possible {
		return Spec{}, fmt.Errorf("%w: its header describes an impossible tensor", ErrDamaged)
	}
	want, err := s.header()
	if err != nil || !bytes.Equal(want, b[:HeaderBytes]) {
		return Spec{}, fmt.Errorf("%w: its header has a wrong checksum", ErrDamaged)
	}
	if s.Bytes() != size {
		return Spec{}, fmt.Errorf("%w: it has %d bytes, %d were expected", ErrDamaged, size, s.Bytes())
	}
	return s, nil
}
