package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
)

// Builder collects what a file holds and writes it. The same calls give the same bytes. The zero Builder writes
// version 3 with the default alignment.
type Builder struct {
	// Version is 2 or 3; 0 means 3.
	Version uint32

	meta    Meta
	tensors []Tensor
	names   map[string]bool
	err     error
}

// Set adds or replaces a metadata value: any Go integer, float32, float64, bool or string (int is written as int64,
// uint as uint64), a slice of one of those, or a Value. The first error is kept and returned by Write.
func (b *Builder) Set(key string, v any) {
	val, err := valueOf(v)
	switch {
	case err != nil:
		b.fail(fmt.Errorf("metadata %s: %w", key, err))
	case key == "" || len(key) > MaxKeyBytes:
		b.fail(fmt.Errorf("metadata key of %d bytes; 1 to %d were expected", len(key), MaxKeyBytes))
	default:
		b.meta.set(key, val)
	}
}

// SetAll copies all of m's keys and values, in order.
func (b *Builder) SetAll(m *Meta) {
	for _, k := range m.Keys() {
		b.meta.set(k, m.vals[k])
	}
}

// Add appends a tensor of the given dimensions (dims[0] contiguous). Its bytes are asked for by Write.
func (b *Builder) Add(name string, t Type, dims ...uint64) {
	if b.names == nil {
		b.names = make(map[string]bool)
	}
	if len(dims) == 0 || len(dims) > MaxDims || name == "" || len(name) > MaxNameBytes || b.names[name] {
		b.fail(fmt.Errorf("tensor %q: 1 to %d dimensions and a name of 1 to %d bytes, used once, were expected; it has %d dimensions", name, MaxDims, MaxNameBytes, len(dims)))
		return
	}
	size, err := tensorBytes(name, t, dims)
	if err != nil {
		b.fail(err)
		return
	}
	b.names[name] = true
	b.tensors = append(b.tensors, Tensor{Name: name, Type: t, Dims: slices.Clone(dims), Size: size})
}

func (b *Builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Write writes the file to out, front to back. For each tensor in order it calls fill, which must write exactly t.Size
// bytes; t.Offset is where they stand in the file.
func (b *Builder) Write(out io.Writer, fill func(t Tensor, w io.Writer) error) error {
	head, tensors, align, err := b.layout()
	if err != nil {
		return fmt.Errorf("write model file: %w", err)
	}
	if _, err := out.Write(head); err != nil {
		return fmt.Errorf("write model file: %w", err)
	}
	for _, t := range tensors {
		w := &exactWriter{w: out, left: t.Size}
		if err := fill(t, w); err != nil {
			return fmt.Errorf("write tensor %q: %w", t.Name, err)
		}
		if w.left != 0 {
			return fmt.Errorf("write tensor %q: %d of its %d bytes were not written", t.Name, w.left, t.Size)
		}
		if _, err := out.Write(make([]byte, padding(t.Size, align))); err != nil {
			return fmt.Errorf("write tensor %q: %w", t.Name, err)
		}
	}
	return nil
}

// layout is the header, padded to where the data begins, and the tensors with their offsets in the file.
func (b *Builder) layout() (head []byte, tensors []Tensor, align uint64, err error) {
	if b.err != nil {
		return nil, nil, 0, b.err
	}
	version := b.Version
	if version == 0 {
		version = 3
	}
	if version != 2 && version != 3 {
		return nil, nil, 0, fmt.Errorf("version %d; 2 or 3 was expected", version)
	}
	align, err = b.meta.UintOr(AlignmentKey, defaultAlignment)
	if err != nil || align == 0 || align&(align-1) != 0 || align > maxAlignment {
		return nil, nil, 0, fmt.Errorf("%s of %d is no power of two up to %d", AlignmentKey, align, maxAlignment)
	}
	head = append(head, "GGUF"...)
	head = binary.LittleEndian.AppendUint32(head, version)
	head = binary.LittleEndian.AppendUint64(head, uint64(len(b.tensors)))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(b.meta.keys)))
	for _, k := range b.meta.keys {
		v := b.meta.vals[k]
		head = appendString(head, k)
		head = binary.LittleEndian.AppendUint32(head, uint32(v.typ))
		head = v.appendTo(head)
	}
	head, tensors = b.appendInfos(head, align)
	return head, tensors, align, nil
}

func (b *Builder) appendInfos(head []byte, align uint64) ([]byte, []Tensor) {
	tensors := slices.Clone(b.tensors)
	off := uint64(0)
	for i := range tensors {
		t := &tensors[i]
		head = appendString(head, t.Name)
		head = binary.LittleEndian.AppendUint32(head, uint32(len(t.Dims)))
		for _, d := range t.Dims {
			head = binary.LittleEndian.AppendUint64(head, d)
		}
		head = binary.LittleEndian.AppendUint32(head, uint32(t.Type))
		head = binary.LittleEndian.AppendUint64(head, off)
		t.Offset = off
		off += t.Size + padding(t.Size, align)
	}
	head = append(head, make([]byte, padding(uint64(len(head)), align))...)
	for i := range tensors {
		tensors[i].Offset += uint64(len(head))
	}
	return head, tensors
}

func padding(n, align uint64) uint64 { return (align - n%align) % align }

// exactWriter lets through no more than a tensor's bytes.
type exactWriter struct {
	w    io.Writer
	left uint64
}

func (w *exactWriter) Write(p []byte) (int, error) {
	if uint64(len(p)) > w.left {
		return 0, fmt.Errorf("%d bytes more than the tensor has", uint64(len(p))-w.left)
	}
	n, err := w.w.Write(p)
	w.left -= uint64(n)
	return n, err
}

// valueOf makes a Value of a Go value.
func valueOf(v any) (Value, error) {
	switch v := v.(type) {
	case Value:
		return v, nil
	case string:
		return Value{typ: String, str: v}, nil
	case bool:
		return Value{typ: Bool, bits: boolBits(v)}, nil
	case float32:
		return Value{typ: Float32, bits: math.Float64bits(float64(v))}, nil
	case float64:
		return Value{typ: Float64, bits: math.Float64bits(v)}, nil
	case []string:
		return Value{typ: Array, elem: String, strs: slices.Clone(v)}, nil
	}
	if val, ok := integerValue(v); ok {
		return val, nil
	}
	if val, ok := sliceValue(v); ok {
		return val, nil
	}
	return Value{}, fmt.Errorf("a Go %T has no metadata type", v)
}

func boolBits(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func integerValue(v any) (Value, bool) {
	switch v := v.(type) {
	case uint8:
		return Value{typ: Uint8, bits: uint64(v)}, true
	case int8:
		return Value{typ: Int8, bits: uint64(int64(v))}, true
	case uint16:
		return Value{typ: Uint16, bits: uint64(v)}, true
	case int16:
		return Value{typ: Int16, bits: uint64(int64(v))}, true
	case uint32:
		return Value{typ: Uint32, bits: uint64(v)}, true
	case int32:
		return Value{typ: Int32, bits: uint64(int64(v))}, true
	case uint64:
		return Value{typ: Uint64, bits: v}, true
	case int64:
		return Value{typ: Int64, bits: uint64(v)}, true
	case uint:
		return Value{typ: Uint64, bits: uint64(v)}, true
	case int:
		return Value{typ: Int64, bits: uint64(int64(v))}, true
	}
	return Value{}, false
}

func sliceValue(v any) (Value, bool) {
	switch v := v.(type) {
	case []uint8:
		return rawArray(Uint8, v), true
	case []int8:
		return rawArray(Int8, v), true
	case []uint16:
		return rawArray(Uint16, v), true
	case []int16:
		return rawArray(Int16, v), true
	case []uint32:
		return rawArray(Uint32, v), true
	case []int32:
		return rawArray(Int32, v), true
	case []uint64:
		return rawArray(Uint64, v), true
	case []int64:
		return rawArray(Int64, v), true
	case []float32:
		return rawArray(Float32, v), true
	case []float64:
		return rawArray(Float64, v), true
	case []bool:
		return rawArray(Bool, v), true
	case []Value:
		return nestedArray(v)
	}
	return Value{}, false
}

// rawArray lays fixed-size elements out as in the file.
func rawArray(elem ValueType, v any) Value {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		panic(err) // only slices of fixed-size elements come here
	}
	return Value{typ: Array, elem: elem, str: string(b)}
}

// nestedArray is an array of arrays.
func nestedArray(vals []Value) (Value, bool) {
	for _, v := range vals {
		if v.typ != Array {
			return Value{}, false
		}
	}
	return Value{typ: Array, elem: Array, vals: slices.Clone(vals)}, true
}
