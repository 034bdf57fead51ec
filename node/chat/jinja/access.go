package jinja

import (
	"math"
	"strings"
	"unicode/utf8"
)

// attribute is "object.name": first an attribute or a method, then a key.
func (rt *run) attribute(v Value, name string) (Value, error) {
	if u, ok := v.(*Undefined); ok {
		return nil, u.fail()
	}
	if attr, ok := member(v, name); ok {
		return attr, nil
	}
	if d, ok := v.(*Dict); ok {
		if item, ok := d.Get(name); ok {
			return item, nil
		}
	}
	return missing(v, name), nil
}

// item is "object[key]": first an index or a key, then an attribute.
func (rt *run) item(v, key Value) (Value, error) {
	if err := rt.scan(key); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case *Undefined:
		return nil, v.fail()
	case *Dict:
		if item, ok := v.Get(key); ok {
			return item, nil
		}
	case string, *List, *Tuple, *Range:
		if i, _, isFloat, ok := number(key); ok && !isFloat {
			return rt.index(v, i, key)
		}
	}
	if name, ok := key.(string); ok {
		if attr, ok := member(v, name); ok {
			return attr, nil
		}
	}
	return missing(v, key), nil
}

func (rt *run) index(v Value, i int64, key Value) (Value, error) {
	if err := rt.scan(v); err != nil {
		return nil, err
	}
	n, _ := length(v)
	if i < 0 {
		i += int64(n)
	}
	if i < 0 || i >= int64(n) {
		return missing(v, key), nil
	}
	switch v := v.(type) {
	case *List:
		return v.Items[i], nil
	case *Tuple:
		return v.Items[i], nil
	case *Range:
		return v.at(int(i)), nil
	}
	s := v.(string)
	if len(s) == n {
		return s[i : i+1], nil
	}
	return string([]rune(s)[i]), rt.charge(n / 16)
}

// member finds a method or attribute of a value.
func member(v Value, name string) (Value, bool) {
	switch v := v.(type) {
	case *namespace:
		return v.vars.Get(name)
	case *loopState:
		return v.attribute(name)
	case *macro:
		return v.attribute(name)
	case *function:
		if v.attrs != nil {
			return v.attrs(name)
		}
	case string:
		if m, ok := stringMethods[name]; ok {
			return bound(name, priced(m), v), true
		}
	case *List:
		if m, ok := listMethods[name]; ok {
			return bound(name, m, v), true
		}
	case *Dict:
		if m, ok := dictMethods[name]; ok {
			return bound(name, m, v), true
		}
	case *Tuple:
		return tupleMember(v, name)
	}
	return nil, false
}

func tupleMember(t *Tuple, name string) (Value, bool) {
	for i, n := range t.Names {
		if n == name {
			return t.Items[i], true
		}
	}
	if name == "index" || name == "count" {
		return bound(name, listMethods[name], &List{Items: t.Items}), true
	}
	return nil, false
}

// priced charges a method for reading its whole text.
func priced(m stringMethod) stringMethod {
	return func(rt *run, s string, a *arguments) (Value, error) {
		if err := rt.scan(s); err != nil {
			return nil, err
		}
		return m(rt, s, a)
	}
}

// bound makes a method value.
func bound[T any](name string, m func(*run, T, *arguments) (Value, error), self T) *function {
	return &function{name: name, call: func(rt *run, a *arguments) (Value, error) { return m(rt, self, a) }}
}

// slice is "v[start:stop:step]"; missing bounds are nil.
func (rt *run) slice(v Value, bounds [3]Value) (Value, error) {
	if u, ok := v.(*Undefined); ok {
		return nil, u.fail()
	}
	n, ok := length(v)
	switch v.(type) {
	case string, *List, *Tuple, *Range:
	default:
		ok = false
	}
	if !ok {
		return missing(v, "slice"), nil
	}
	start, stop, step, err := sliceBounds(bounds, int64(n))
	if err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		return rt.sliceText(s, n, start, stop, step)
	}
	var items []Value
	if r, ok := v.(*Range); ok {
		return sliceRange(r, start, stop, step), nil
	}
	if l, ok := v.(*List); ok {
		items = l.Items
	} else {
		items = v.(*Tuple).Items
	}
	var out []Value
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		out = append(out, items[i])
	}
	if err := rt.made(len(out)); err != nil {
		return nil, err
	}
	if _, ok := v.(*List); ok {
		return &List{Items: out}, nil
	}
	return &Tuple{Items: out}, nil
}

func sliceRange(r *Range, start, stop, step int64) *Range {
	n := max((stop-start+step-sgn(step))/step, 0)
	return &Range{start: r.start + start*r.step, stop: r.start + stop*r.step, step: r.step * step, n: n}
}

func sgn(i int64) int64 {
	if i < 0 {
		return -1
	}
	return 1
}

// sliceBounds clamps the bounds as Python does, so that walking from start to stop
// by step stays inside n items.
func sliceBounds(bounds [3]Value, n int64) (start, stop, step int64, err error) {
	var set [3]bool
	var b [3]int64
	for i, v := range bounds {
		if v == nil {
			continue
		}
		if b[i], err = integer(v, "slice bounds"); err != nil {
			return 0, 0, 0, err
		}
		set[i] = true
	}
	step = 1
	if set[2] {
		step = max(b[2], -math.MaxInt64)
	}
	if step == 0 {
		return 0, 0, 0, valueErrorf("slice step cannot be zero")
	}
	low, high := int64(0), n
	if step < 0 {
		low, high = -1, n-1
	}
	clamp := func(i int, otherwise int64) int64 {
		if !set[i] {
			return otherwise
		}
		x := b[i]
		if x < 0 {
			x += n
		}
		return min(max(x, low), high)
	}
	if step > 0 {
		step = min(step, n+1)
		return clamp(0, low), clamp(1, high), step, nil
	}
	step = max(step, -n-1)
	return clamp(0, high), clamp(1, low), step, nil
}

func (rt *run) sliceText(s string, n int, start, stop, step int64) (Value, error) {
	if err := rt.text(len(s)); err != nil {
		return nil, err
	}
	if step == 1 {
		if start >= stop {
			return "", nil
		}
		if len(s) == n {
			return s[start:stop], nil
		}
		from := runeOffset(s, int(start))
		return s[from : from+runeOffset(s[from:], int(stop-start))], nil
	}
	if err := rt.charge(n / 8); err != nil {
		return nil, err
	}
	runes := []rune(s)
	var b strings.Builder
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		b.WriteRune(runes[i])
	}
	return b.String(), nil
}

// runeOffset is the byte position of the n-th code point.
func runeOffset(s string, n int) int {
	pos := 0
	for ; n > 0 && pos < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[pos:])
		pos += size
	}
	return pos
}
