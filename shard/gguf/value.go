package gguf

import (
	"encoding/binary"
	"math"
	"strconv"
)

// ValueType is the type of a metadata value, by its number in the file.
type ValueType uint32

// The metadata value types of the format.
const (
	Uint8   ValueType = 0
	Int8    ValueType = 1
	Uint16  ValueType = 2
	Int16   ValueType = 3
	Uint32  ValueType = 4
	Int32   ValueType = 5
	Float32 ValueType = 6
	Bool    ValueType = 7
	String  ValueType = 8
	Array   ValueType = 9
	Uint64  ValueType = 10
	Int64   ValueType = 11
	Float64 ValueType = 12
)

// valueTypes is indexed by ValueType; size 0 marks the types of variable size.
var valueTypes = [...]struct {
	name string
	size int
}{
	Uint8: {"uint8", 1}, Int8: {"int8", 1}, Uint16: {"uint16", 2}, Int16: {"int16", 2}, Uint32: {"uint32", 4},
	Int32: {"int32", 4}, Float32: {"float32", 4}, Bool: {"bool", 1}, String: {"string", 0}, Array: {"array", 0},
	Uint64: {"uint64", 8}, Int64: {"int64", 8}, Float64: {"float64", 8},
}

// Known reports whether t is a value type of the format.
func (t ValueType) Known() bool { return uint64(t) < uint64(len(valueTypes)) }

// String is the type's name in the format's documentation.
func (t ValueType) String() string {
	if !t.Known() {
		return "value type " + strconv.FormatUint(uint64(t), 10)
	}
	return valueTypes[t].name
}

func (t ValueType) size() int { return valueTypes[t].size }

// Value is one metadata value. The zero Value is a uint8 0.
type Value struct {
	typ  ValueType
	elem ValueType // element type of an array
	bits uint64    // scalars: the value, sign- or zero-extended; floats: their IEEE bits in float64
	str  string    // String; or an array's fixed-size elements as in the file, little-endian
	strs []string  // array of String
	vals []Value   // array of Array
}

// Type is the value's type.
func (v Value) Type() ValueType { return v.typ }

// Elem is the element type of an array; it means nothing for other values.
func (v Value) Elem() ValueType { return v.elem }

// Len is the number of elements of an array, 0 for other values.
func (v Value) Len() int {
	switch {
	case v.typ != Array:
		return 0
	case v.elem == String:
		return len(v.strs)
	case v.elem == Array:
		return len(v.vals)
	}
	return len(v.str) / v.elem.size()
}

// TypeName says the value's type in words, e.g. "array of string".
func (v Value) TypeName() string {
	if v.typ == Array {
		return "array of " + v.elem.String()
	}
	return v.typ.String()
}

// Uint is the value as an unsigned number; ok is false for a value that is negative or no integer.
func (v Value) Uint() (n uint64, ok bool) {
	switch v.typ {
	case Uint8, Uint16, Uint32, Uint64:
		return v.bits, true
	case Int8, Int16, Int32, Int64:
		return v.bits, int64(v.bits) >= 0
	}
	return 0, false
}

// Int is the value as a signed number; ok is false for a value above the range or no integer.
func (v Value) Int() (n int64, ok bool) {
	switch v.typ {
	case Uint8, Uint16, Uint32, Uint64:
		return int64(v.bits), v.bits <= math.MaxInt64
	case Int8, Int16, Int32, Int64:
		return int64(v.bits), true
	}
	return 0, false
}

// Float is the value as a number; ok is false for a value that is neither float nor integer.
func (v Value) Float() (x float64, ok bool) {
	switch v.typ {
	case Float32, Float64:
		return math.Float64frombits(v.bits), true
	case Uint8, Uint16, Uint32, Uint64:
		return float64(v.bits), true
	case Int8, Int16, Int32, Int64:
		return float64(int64(v.bits)), true
	}
	return 0, false
}

// Bool is the value of a bool; ok is false for others.
func (v Value) Bool() (b, ok bool) { return v.bits != 0, v.typ == Bool }

// Text is the value of a string; ok is false for others. The bytes need not be UTF-8.
func (v Value) Text() (s string, ok bool) { return v.str, v.typ == String }

// Strings are the elements of an array of strings, shared with the Value: do not change them.
func (v Value) Strings() (s []string, ok bool) {
	return v.strs, v.typ == Array && v.elem == String
}

// At is element i of an array.
func (v Value) At(i int) Value {
	switch v.elem {
	case String:
		return Value{typ: String, str: v.strs[i]}
	case Array:
		return v.vals[i]
	}
	n := v.elem.size()
	return scalar(v.elem, []byte(v.str[i*n:(i+1)*n]))
}

// scalar decodes a fixed-size value from its little-endian bytes.
func scalar(t ValueType, b []byte) Value {
	v := Value{typ: t}
	switch t {
	case Uint8, Bool:
		v.bits = uint64(b[0])
	case Int8:
		v.bits = uint64(int64(int8(b[0])))
	case Uint16:
		v.bits = uint64(binary.LittleEndian.Uint16(b))
	case Int16:
		v.bits = uint64(int64(int16(binary.LittleEndian.Uint16(b))))
	case Uint32:
		v.bits = uint64(binary.LittleEndian.Uint32(b))
	case Int32:
		v.bits = uint64(int64(int32(binary.LittleEndian.Uint32(b))))
	case Float32:
		v.bits = math.Float64bits(float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
	case Uint64, Int64, Float64:
		v.bits = binary.LittleEndian.Uint64(b)
	}
	return v
}

// appendTo appends the value as it stands in a file, without its type.
func (v Value) appendTo(b []byte) []byte {
	switch v.typ {
	case String:
		return appendString(b, v.str)
	case Array:
		return v.appendArray(b)
	case Float32:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(math.Float64frombits(v.bits))))
	}
	var le [8]byte
	binary.LittleEndian.PutUint64(le[:], v.bits)
	return append(b, le[:v.typ.size()]...)
}

func (v Value) appendArray(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(v.elem))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.Len()))
	switch v.elem {
	case String:
		for _, s := range v.strs {
			b = appendString(b, s)
		}
	case Array:
		for _, e := range v.vals {
			b = e.appendArray(b)
		}
	default:
		b = append(b, v.str...)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}
