package gguf

import (
	"errors"
	"fmt"
)

// ErrMissing is wrapped by the error of a getter whose key the file does not have.
var ErrMissing = errors.New("key is missing")

// ErrType is wrapped by the error of a getter whose key has a value of another type or range.
var ErrType = errors.New("wrong value type")

// Meta is a file's metadata: keys in the order of the file, with typed getters. It is safe for concurrent reading.
// A getter's error wraps ErrMissing or ErrType and names the key; the …Or variants give their default for a missing key
// only, so a value of a wrong type is never mistaken for a missing one.
type Meta struct {
	keys []string
	vals map[string]Value
}

// Keys are the keys in file order. The slice is shared: do not change it.
func (m *Meta) Keys() []string { return m.keys }

// Has reports whether the key is there.
func (m *Meta) Has(key string) bool { _, ok := m.vals[key]; return ok }

// Value is the raw value of a key.
func (m *Meta) Value(key string) (v Value, ok bool) { v, ok = m.vals[key]; return v, ok }

func (m *Meta) set(key string, v Value) {
	if m.vals == nil {
		m.vals = make(map[string]Value)
	}
	if _, ok := m.vals[key]; !ok {
		m.keys = append(m.keys, key)
	}
	m.vals[key] = v
}

// get reads key through conv and words the error.
func get[T any](m *Meta, key, want string, conv func(Value) (T, bool)) (T, error) {
	var zero T
	v, ok := m.vals[key]
	if !ok {
		return zero, fmt.Errorf("metadata %s: %w; the file is incomplete or of another kind of model", key, ErrMissing)
	}
	x, ok := conv(v)
	if !ok {
		return zero, typeError(key, want, v)
	}
	return x, nil
}

func typeError(key, want string, v Value) error {
	has := v.TypeName()
	if n, isInt := v.Int(); isInt {
		has = fmt.Sprintf("%s %d", has, n)
	}
	return fmt.Errorf("metadata %s: expected %s, has %s: %w", key, want, has, ErrType)
}

func orDefault[T any](x T, err error, def T) (T, error) {
	if errors.Is(err, ErrMissing) {
		return def, nil
	}
	return x, err
}

// String is a string value.
func (m *Meta) String(key string) (string, error) { return get(m, key, "string", Value.Text) }

// StringOr is String with a default for a missing key.
func (m *Meta) StringOr(key, def string) (string, error) {
	s, err := m.String(key)
	return orDefault(s, err, def)
}

// Uint is a value of any integer type that is not negative.
func (m *Meta) Uint(key string) (uint64, error) {
	return get(m, key, "an integer of at least 0", Value.Uint)
}

// UintOr is Uint with a default for a missing key.
func (m *Meta) UintOr(key string, def uint64) (uint64, error) {
	n, err := m.Uint(key)
	return orDefault(n, err, def)
}

// Int is a value of any integer type.
func (m *Meta) Int(key string) (int64, error) { return get(m, key, "a signed integer", Value.Int) }

// IntOr is Int with a default for a missing key.
func (m *Meta) IntOr(key string, def int64) (int64, error) {
	n, err := m.Int(key)
	return orDefault(n, err, def)
}

// Float is a value of any number type. It may be NaN or infinite: check it where that matters.
func (m *Meta) Float(key string) (float64, error) { return get(m, key, "a number", Value.Float) }

// FloatOr is Float with a default for a missing key.
func (m *Meta) FloatOr(key string, def float64) (float64, error) {
	x, err := m.Float(key)
	return orDefault(x, err, def)
}

// Bool is a bool value.
func (m *Meta) Bool(key string) (bool, error) { return get(m, key, "bool", Value.Bool) }

// BoolOr is Bool with a default for a missing key.
func (m *Meta) BoolOr(key string, def bool) (bool, error) {
	b, err := m.Bool(key)
	return orDefault(b, err, def)
}

// Strings are the elements of an array of strings, shared with the Meta: do not change them.
func (m *Meta) Strings(key string) ([]string, error) {
	return get(m, key, "array of string", Value.Strings)
}

// Uints is a copy of an array of integers of which none is negative.
func (m *Meta) Uints(key string) ([]uint64, error) {
	return get(m, key, "array of integers of at least 0", arrayOf(Value.Uint))
}

// Ints is a copy of an array of integers.
func (m *Meta) Ints(key string) ([]int64, error) {
	return get(m, key, "array of integers", arrayOf(Value.Int))
}

// Floats is a copy of an array of numbers, rounded to float32.
func (m *Meta) Floats(key string) ([]float32, error) {
	return get(m, key, "array of numbers", arrayOf(func(v Value) (float32, bool) {
		x, ok := v.Float()
		return float32(x), ok
	}))
}

// Bools is a copy of an array of bools.
func (m *Meta) Bools(key string) ([]bool, error) {
	return get(m, key, "array of bool", arrayOf(Value.Bool))
}

// PerLayer is a value that a file gives once for all layers, as a number, or once a layer, as an array of n numbers
// (llama.attention.head_count_kv and its like). n is how many there must be.
// It may come from the file: it is refused before anything is allocated if it is absurd.
func (m *Meta) PerLayer(key string, n int) ([]uint64, error) {
	if n < 0 || n > MaxTensors {
		return nil, fmt.Errorf("metadata %s: %d layers; at most %d are possible: %w", key, n, MaxTensors, ErrType)
	}
	if v, ok := m.vals[key]; ok && v.typ == Array {
		if v.Len() != n {
			return nil, fmt.Errorf("metadata %s: expected %d elements (one a layer), has %d: %w", key, n, v.Len(), ErrType)
		}
		return m.Uints(key)
	}
	x, err := m.Uint(key)
	if err != nil {
		return nil, err
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = x
	}
	return out, nil
}

// arrayOf lifts a scalar's conversion to arrays of fixed-size elements.
func arrayOf[T any](conv func(Value) (T, bool)) func(Value) ([]T, bool) {
	return func(v Value) ([]T, bool) {
		if v.typ != Array || v.elem.size() == 0 {
			return nil, false
		}
		raw, n := []byte(v.str), v.elem.size()
		out := make([]T, v.Len())
		for i := range out {
			x, ok := conv(scalar(v.elem, raw[i*n:(i+1)*n]))
			if !ok {
				return nil, false
			}
			out[i] = x
		}
		return out, true
	}
}
