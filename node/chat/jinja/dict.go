package jinja

import (
	"math"
	"math/big"
	"strings"
)

// Dict is Python's dict: it keeps insertion order. The zero value is not usable;
// see NewDict.
type Dict struct {
	keys  []Value
	vals  []Value
	index map[any]int
}

// NewDict returns an empty dict.
func NewDict() *Dict { return &Dict{index: map[any]int{}} }

// Len is the number of keys.
func (d *Dict) Len() int { return len(d.keys) }

// Keys returns the keys in insertion order. The slice is the dict's own: read only,
// and valid until the dict changes.
func (d *Dict) Keys() []Value { return d.keys }

// SetString stores v under a string key, in place when the key is there already.
func (d *Dict) SetString(key string, v Value) {
	if i, ok := d.index[key]; ok {
		d.vals[i] = v
		return
	}
	d.index[key] = len(d.keys)
	d.keys = append(d.keys, key)
	d.vals = append(d.vals, v)
}

// Get returns the value stored under key.
func (d *Dict) Get(key Value) (Value, bool) {
	k, err := hashable(key)
	if err != nil {
		return nil, false
	}
	i, ok := d.index[k]
	if !ok {
		return nil, false
	}
	return d.vals[i], true
}

func (d *Dict) set(key, v Value) error {
	k, err := hashable(key)
	if err != nil {
		return err
	}
	if i, ok := d.index[k]; ok {
		d.vals[i] = v
		return nil
	}
	d.index[k] = len(d.keys)
	d.keys = append(d.keys, key)
	d.vals = append(d.vals, v)
	return nil
}

// remove deletes a key; it costs as much as the dict is long.
func (d *Dict) remove(key Value) (Value, bool) {
	k, err := hashable(key)
	if err != nil {
		return nil, false
	}
	at, ok := d.index[k]
	if !ok {
		return nil, false
	}
	v := d.vals[at]
	// Copies, because a loop may still walk the old key slice.
	d.keys = append(append([]Value(nil), d.keys[:at]...), d.keys[at+1:]...)
	d.vals = append(append([]Value(nil), d.vals[:at]...), d.vals[at+1:]...)
	delete(d.index, k)
	for other, i := range d.index {
		if i > at {
			d.index[other] = i - 1
		}
	}
	return v, true
}

func (d *Dict) copy() *Dict {
	out := &Dict{
		keys:  append([]Value(nil), d.keys...),
		vals:  append([]Value(nil), d.vals...),
		index: make(map[any]int, len(d.index)),
	}
	for k, i := range d.index {
		out.index[k] = i
	}
	return out
}

func (d *Dict) pairs() []Value {
	out := make([]Value, len(d.keys))
	for i, k := range d.keys {
		out[i] = &Tuple{Items: []Value{k, d.vals[i]}}
	}
	return out
}

// Key types for values that Go's == would not compare as Python does.
type (
	noneKey  struct{}
	bigKey   string
	tupleKey string
)

// hashable turns a value into a Go map key so that equal Python keys collide:
// True, 1 and 1.0 are one key.
func hashable(v Value) (any, error) {
	switch v := v.(type) {
	case nil:
		return noneKey{}, nil
	case string, int64:
		return v, nil
	case bool:
		i, _, _, _ := number(v)
		return i, nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<62 {
			return int64(v), nil
		}
		return v, nil
	case *big.Int:
		return bigKey(v.String()), nil
	case *Tuple:
		return hashTuple(v)
	case *Undefined:
		return nil, v.fail()
	case *List, *Dict, *namespace:
		return nil, typeErrorf("unhashable type: '%s'", typeName(v))
	}
	return v, nil
}

func hashTuple(t *Tuple) (any, error) {
	var b strings.Builder
	for _, item := range t.Items {
		switch item.(type) {
		case nil, bool, int64, float64, string, *big.Int:
		default:
			return nil, typeErrorf("a tuple with a '%s' in it cannot be a key here", typeName(item))
		}
		k, err := hashable(item)
		if err != nil {
			return nil, err
		}
		if _, ok := k.(noneKey); ok {
			k = nil
		}
		b.WriteString(shortRepr(k))
		b.WriteByte(0)
	}
	return tupleKey(b.String()), nil
}
