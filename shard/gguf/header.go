package gguf

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Bounds on what a header may claim. They are far above real files and keep a hostile one from costing memory.
const (
	// MaxDims is the most dimensions a tensor has.
	MaxDims = 4
	// MaxTensors is the most tensors a file has.
	MaxTensors = 1 << 18
	// MaxKeys is the most metadata keys a file has.
	MaxKeys = 1 << 16
	// MaxNameBytes is the longest tensor name.
	MaxNameBytes = 256
	// MaxKeyBytes is the longest metadata key.
	MaxKeyBytes = 1<<16 - 1
	// MaxHeaderBytes is the largest header: metadata and tensor infos of one file.
	MaxHeaderBytes = 1 << 30

	maxAlignment    = 1 << 20
	maxArrayDepth   = 3       // arrays in arrays
	maxNestedArrays = 1 << 16 // arrays inside arrays, in one file
	maxElements     = 1 << 48 // of one tensor

	defaultAlignment = 32
	fixedHeaderBytes = 24 // magic, version, tensor count, key count
	minKeyBytes      = 8 + 1 + 4 + 1
	minTensorBytes   = 8 + 1 + 4 + 8 + 4 + 8

	// AlignmentKey is the metadata key of the alignment of tensor data; without it the alignment is 32.
	AlignmentKey = "general.alignment"
)

// ErrNotGGUF is wrapped by the error about a file that does not begin with the format's magic.
var ErrNotGGUF = errors.New("not a GGUF file")

// header is one file's parsed header.
type header struct {
	version   uint32
	meta      Meta
	tensors   []Tensor
	alignment uint64
	end       uint64 // of the tensor infos
	data      uint64 // begin of tensor data: end rounded up
}

// parseHeader reads a header from the beginning of a file of size bytes, of which b is at hand. The result shares no
// memory with b. It returns errShort if b ends inside the header.
func parseHeader(b []byte, size uint64) (*header, error) {
	c := &cursor{b: b, size: size}
	h := &header{alignment: defaultAlignment}
	tensors, keys := h.preamble(c)
	h.metadata(c, keys)
	if c.err == nil {
		h.setAlignment(c)
	}
	h.tensorInfos(c, tensors)
	if c.err != nil {
		return nil, c.err
	}
	h.end = c.off
	h.data = (h.end + h.alignment - 1) / h.alignment * h.alignment
	return h, h.place(size)
}

// preamble reads magic, version and the two counts.
func (h *header) preamble(c *cursor) (tensors, keys uint64) {
	if c.size < fixedHeaderBytes {
		c.fail("%w: it has %d bytes, a header has at least %d", ErrNotGGUF, c.size, fixedHeaderBytes)
		return 0, 0
	}
	magic := c.take(4, "magic")
	h.version = c.u32("version")
	switch {
	case c.err != nil:
	case string(magic) == "FUGG", string(magic) == "GGUF" && h.version&0xffff == 0 && h.version != 0:
		c.fail("the file is big-endian, which is not supported; convert it with gguf_convert_endian.py or fetch the little-endian file")
	case string(magic) != "GGUF":
		c.fail("%w: it begins with %q instead of \"GGUF\"; is it a model in another format, or an error page saved as a file?", ErrNotGGUF, magic)
	case h.version == 1:
		c.fail("GGUF version 1 is not supported (2 and 3 are); fetch a newer conversion of the model")
	case h.version != 2 && h.version != 3:
		c.fail("GGUF version %d is not known (2 and 3 are); a newer build may read it", h.version)
	}
	tensors = c.count(minTensorBytes, MaxTensors, "the tensor count")
	keys = c.count(minKeyBytes, MaxKeys, "the key count")
	return tensors, keys
}

func (h *header) metadata(c *cursor, n uint64) {
	nested := 0
	for i := uint64(0); i < n && c.err == nil; i++ {
		key := string(c.bytes(MaxKeyBytes, fmt.Sprintf("the name of key %d", i)))
		if c.err != nil {
			return
		}
		if key == "" {
			c.fail("key %d has an empty name", i)
			return
		}
		if h.meta.Has(key) {
			c.fail("key %q is there twice; the file is damaged", key)
			return
		}
		what := fmt.Sprintf("the value of key %q", key)
		if v := readValue(c, ValueType(c.u32(what)), what, 0, &nested); c.err == nil {
			h.meta.set(key, v)
		}
	}
}

func readValue(c *cursor, t ValueType, what string, depth int, nested *int) Value {
	if c.err == nil && !t.Known() {
		c.fail("%s has %s, which the format does not define", what, t)
	}
	if c.err != nil {
		return Value{}
	}
	switch t {
	case String:
		return Value{typ: String, str: string(c.bytes(math.MaxUint64, what))}
	case Array:
		return readArray(c, what, depth, nested)
	}
	b := c.take(uint64(t.size()), what)
	if b == nil {
		return Value{}
	}
	if t == Bool && b[0] > 1 {
		c.fail("%s is a bool of %d; 0 or 1 was expected", what, b[0])
	}
	return scalar(t, b)
}

func readArray(c *cursor, what string, depth int, nested *int) Value {
	if depth >= maxArrayDepth {
		c.fail("%s nests arrays more than %d deep", what, maxArrayDepth)
		return Value{}
	}
	v := Value{typ: Array, elem: ValueType(c.u32(what))}
	if c.err == nil && !v.elem.Known() {
		c.fail("%s is an array of %s, which the format does not define", what, v.elem)
	}
	if c.err != nil {
		return Value{}
	}
	switch v.elem {
	case String:
		v.strs = readStrings(c, c.count(8, c.size, "the length of "+what), what)
	case Array:
		n := c.count(12, maxNestedArrays, "the length of "+what)
		if *nested += int(n); *nested > maxNestedArrays {
			c.fail("%s brings the file's nested arrays above %d", what, maxNestedArrays)
		}
		for i := uint64(0); i < n && c.err == nil; i++ {
			v.vals = append(v.vals, readArray(c, what, depth+1, nested))
		}
	default:
		size := uint64(v.elem.size())
		b := c.take(size*c.count(size, c.size, "the length of "+what), what)
		if v.elem == Bool && !allBools(b) {
			c.fail("%s holds a bool that is neither 0 nor 1", what)
		}
		v.str = string(b)
	}
	return v
}

func allBools(b []byte) bool {
	for _, x := range b {
		if x > 1 {
			return false
		}
	}
	return true
}

// readStrings reads n strings. A vocabulary has hundreds of thousands, so they share one allocation, which is made
// when all their lengths are known to be good.
func readStrings(c *cursor, n uint64, what string) []string {
	start := c.off
	for i := uint64(0); i < n && c.err == nil; i++ {
		c.bytes(math.MaxUint64, what)
	}
	if c.err != nil {
		return nil
	}
	blob := string(c.b[start:c.off])
	again := cursor{b: c.b[start:c.off], size: c.off - start}
	out := make([]string, n)
	for i := range out {
		l := again.u64(what)
		out[i] = blob[again.off : again.off+l]
		again.off += l
	}
	return out
}

func (h *header) setAlignment(c *cursor) {
	a, err := h.meta.UintOr(AlignmentKey, defaultAlignment)
	switch {
	case err != nil:
		c.err = err
	case a == 0 || a&(a-1) != 0 || a > maxAlignment:
		c.fail("%s is %d; a power of two of at most %d was expected", AlignmentKey, a, maxAlignment)
	default:
		h.alignment = a
	}
}

func (h *header) tensorInfos(c *cursor, n uint64) {
	seen := make(map[string]bool)
	for i := uint64(0); i < n && c.err == nil; i++ {
		t := readTensor(c, i)
		if c.err != nil {
			return
		}
		if seen[t.Name] {
			c.fail("tensor %q is there twice; the file is damaged", t.Name)
			return
		}
		seen[t.Name] = true
		h.tensors = append(h.tensors, t)
	}
}

// readTensor reads one tensor info. Offset is left as in the file: relative to the begin of the data.
func readTensor(c *cursor, i uint64) Tensor {
	what := fmt.Sprintf("the info of tensor %d", i)
	t := Tensor{Name: string(c.bytes(MaxNameBytes, what))}
	if c.err == nil && t.Name == "" {
		c.fail("tensor %d has an empty name", i)
	}
	dims := c.u32(what)
	if c.err == nil && (dims == 0 || dims > MaxDims) {
		c.fail("tensor %q has %d dimensions; 1 to %d were expected", t.Name, dims, MaxDims)
	}
	for d := uint32(0); d < dims && c.err == nil; d++ {
		t.Dims = append(t.Dims, c.u64(what))
	}
	t.Type = Type(c.u32(what))
	t.Offset = c.u64(what)
	if c.err == nil {
		t.Size, c.err = tensorBytes(t.Name, t.Type, t.Dims)
	}
	return t
}

// tensorBytes is the size of a tensor's data. It refuses unknown types, empty and overflowing shapes and rows that are
// no whole number of blocks.
func tensorBytes(name string, t Type, dims []uint64) (uint64, error) {
	if !t.Known() {
		return 0, fmt.Errorf("tensor %q has %s, which this build does not know; fetch the model in another quantisation (e.g. Q4_K_M) or use a newer build", name, t)
	}
	elems := uint64(1)
	for i, d := range dims {
		hi, lo := bits.Mul64(elems, d)
		if d == 0 || hi != 0 || lo > maxElements {
			return 0, fmt.Errorf("tensor %q: dimension %d of %v is empty or makes it too large (at most %d elements)", name, i, dims, uint64(maxElements))
		}
		elems = lo
	}
	row, err := t.RowBytes(dims[0])
	if err != nil {
		return 0, fmt.Errorf("tensor %q: %w; the file is damaged", name, err)
	}
	return row * (elems / dims[0]), nil
}
