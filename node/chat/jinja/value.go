package jinja

import (
	"fmt"
	"math"
	"math/big"
	"unicode/utf8"
)

// Value is anything a template can hold: nil (None), bool, int64, *big.Int (integers
// that do not fit 64 bits), float64, string, *List, *Tuple, *Dict, *Undefined and the
// package's own callables and iterators. Other Go types are not values.
type Value any

// List is Python's list. Templates may append to it.
type List struct{ Items []Value }

// Tuple is Python's tuple. Names, where set, are attribute names of the items.
type Tuple struct {
	Items []Value
	Names []string
}

// NewList returns a list that owns items.
func NewList(items ...Value) *List { return &List{Items: items} }

// Undefined is what a missing name, attribute or item evaluates to. It prints as
// nothing and is false; asking anything else of it is an error with its message.
type Undefined struct{ message string }

func (u *Undefined) fail() error { return &Error{Kind: UndefinedError, Message: u.message} }

// Range is the lazy result of range().
type Range struct{ start, stop, step, n int64 }

func (r *Range) at(i int) Value { return r.start + int64(i)*r.step }

// view is what dict.keys(), values() and items() return: iterable, sized, not indexable.
type view struct {
	kind  string
	items []Value
}

// iterator is the result of generator-like filters: it has no length, is always
// true and can be consumed once.
type iterator struct{ rest []Value }

// take removes and returns everything left.
func (it *iterator) take() []Value {
	items := it.rest
	it.rest = nil
	return items
}

// namespace is the object of namespace(): its attributes can be set from inner scopes.
type namespace struct{ vars *Dict }

// function is a callable that Go implements. attrs, where set, are its attributes.
type function struct {
	name  string
	call  func(rt *run, a *arguments) (Value, error)
	attrs func(name string) (Value, bool)
}

func typeName(v Value) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case *List:
		return "list"
	case *Tuple:
		return "tuple"
	case *Dict:
		return "dict"
	case *Range:
		return "range"
	case *view:
		return v.kind
	case *iterator:
		return "generator"
	case *namespace:
		return "Namespace"
	case *Undefined:
		return "Undefined"
	case *macro:
		return "Macro"
	case *loopState:
		return "LoopContext"
	}
	return "function"
}

// objectName names a value as Jinja's messages about missing attributes do.
func objectName(v Value) string {
	switch v.(type) {
	case nil:
		return "None"
	case *namespace:
		return "jinja2.utils.Namespace object"
	case *macro:
		return "jinja2.runtime.Macro object"
	case *loopState:
		return "jinja2.runtime.LoopContext object"
	}
	return typeName(v) + " object"
}

// truth is Python's bool().
func truth(v Value) bool {
	switch v := v.(type) {
	case nil, *Undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case *big.Int:
		return v.Sign() != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case *List:
		return len(v.Items) > 0
	case *Tuple:
		return len(v.Items) > 0
	case *Dict:
		return v.Len() > 0
	case *Range:
		return v.n > 0
	case *view:
		return len(v.items) > 0
	case *loopState:
		return len(v.items) > 0
	}
	return true
}

// length is Python's len(); ok is false for values that have none.
func length(v Value) (n int, ok bool) {
	switch v := v.(type) {
	case string:
		return utf8.RuneCountInString(v), true
	case *List:
		return len(v.Items), true
	case *Tuple:
		return len(v.Items), true
	case *Dict:
		return v.Len(), true
	case *Range:
		return int(v.n), true
	case *view:
		return len(v.items), true
	case *Undefined:
		return 0, true
	case *loopState:
		return len(v.items), true
	}
	return 0, false
}

// items lists what iterating over v yields. The slice may be v's own: read only.
func (rt *run) items(v Value) ([]Value, error) {
	var out []Value
	switch v := v.(type) {
	case *List:
		out = v.Items
	case *Tuple:
		out = v.Items
	case *Dict:
		out = v.Keys()
	case *view:
		out = v.items
	case *iterator:
		out = v.take()
	case *Undefined:
		return nil, nil
	case *Range:
		if err := rt.charge(int(v.n)); err != nil {
			return nil, err
		}
		out = make([]Value, v.n)
		for i := range out {
			out[i] = v.at(i)
		}
		return out, nil
	case string:
		if err := rt.charge(len(v)); err != nil {
			return nil, err
		}
		out = make([]Value, 0, len(v))
		for _, r := range v {
			out = append(out, string(r))
		}
		return out, nil
	default:
		return nil, typeErrorf("'%s' object is not iterable", typeName(v))
	}
	return out, rt.charge(len(out))
}

// number splits a numeric value; bools count as integers as in Python.
func number(v Value) (i int64, f float64, isFloat, ok bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, 1, false, true
		}
		return 0, 0, false, true
	case int64:
		return v, float64(v), false, true
	case float64:
		return 0, v, true, true
	}
	return 0, 0, false, false
}

// integer accepts what Python accepts as an index or a count.
func integer(v Value, what string) (int64, error) {
	switch v := v.(type) {
	case *Undefined:
		return 0, v.fail()
	case *big.Int:
		return 0, valueErrorf("%s: the integer is too large", what)
	}
	i, _, isFloat, ok := number(v)
	if !ok || isFloat {
		return 0, typeErrorf("%s must be an integer, not '%s'", what, typeName(v))
	}
	return i, nil
}

// maxDepth bounds recursion into nested values, in expressions and in statements.
const maxDepth = 400

// equal is Python's ==.
func (rt *run) equal(a, b Value, depth int) (bool, error) {
	if depth > maxDepth {
		return false, limitErrorf("values nested deeper than %d cannot be compared", maxDepth)
	}
	if err := rt.charge(1); err != nil {
		return false, err
	}
	switch x := a.(type) {
	case nil:
		return b == nil, nil
	case string:
		y, ok := b.(string)
		if !ok || len(x) != len(y) {
			return false, nil
		}
		return x == y, rt.charge(len(x) / 64)
	case *Undefined:
		_, ok := b.(*Undefined)
		return ok, nil
	case *big.Int:
		y, ok := b.(*big.Int)
		return ok && x.Cmp(y) == 0, nil
	case *List:
		if y, ok := b.(*List); ok {
			return rt.equalItems(x.Items, y.Items, depth)
		}
		return false, nil
	case *Tuple:
		if y, ok := b.(*Tuple); ok {
			return rt.equalItems(x.Items, y.Items, depth)
		}
		return false, nil
	case *Dict:
		if y, ok := b.(*Dict); ok {
			return rt.equalDicts(x, y, depth)
		}
		return false, nil
	case *Range:
		y, ok := b.(*Range)
		return ok && x.n == y.n && (x.n == 0 || x.start == y.start && (x.n == 1 || x.step == y.step)), nil
	}
	if ai, af, aFloat, ok := number(a); ok {
		bi, bf, bFloat, ok := number(b)
		if aFloat || bFloat {
			return ok && af == bf, nil
		}
		return ok && ai == bi, nil
	}
	return a == b, nil
}

func (rt *run) equalItems(a, b []Value, depth int) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if same, err := rt.equal(a[i], b[i], depth+1); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func (rt *run) equalDicts(a, b *Dict, depth int) (bool, error) {
	if a.Len() != b.Len() {
		return false, nil
	}
	for i, k := range a.keys {
		other, ok := b.Get(k)
		if !ok {
			return false, nil
		}
		if same, err := rt.equal(a.vals[i], other, depth+1); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// compare orders two values as Python's < does: -1, 0 or 1, and an error for types
// that have no order. unordered is true when a NaN is involved.
func (rt *run) compare(a, b Value, op string, depth int) (c int, unordered bool, err error) {
	if depth > maxDepth {
		return 0, false, limitErrorf("values nested deeper than %d cannot be compared", maxDepth)
	}
	for _, v := range []Value{a, b} {
		if u, ok := v.(*Undefined); ok {
			return 0, false, u.fail()
		}
	}
	if err := rt.charge(1); err != nil {
		return 0, false, err
	}
	if x, y, ok := sequencePair(a, b); ok {
		return rt.compareItems(x, y, op, depth)
	}
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return compareStrings(x, y), false, rt.charge(min(len(x), len(y)) / 64)
		}
	}
	ai, af, aFloat, okA := number(a)
	bi, bf, bFloat, okB := number(b)
	switch {
	case !okA || !okB:
		return 0, false, typeErrorf("'%s' not supported between instances of '%s' and '%s'", op, typeName(a), typeName(b))
	case !aFloat && !bFloat:
		return sign(ai < bi, ai > bi), false, nil
	case math.IsNaN(af) || math.IsNaN(bf):
		return 0, true, nil
	}
	return sign(af < bf, af > bf), false, nil
}

func sequencePair(a, b Value) (x, y []Value, ok bool) {
	switch a := a.(type) {
	case *List:
		if b, ok := b.(*List); ok {
			return a.Items, b.Items, true
		}
	case *Tuple:
		if b, ok := b.(*Tuple); ok {
			return a.Items, b.Items, true
		}
	}
	return nil, nil, false
}

func (rt *run) compareItems(x, y []Value, op string, depth int) (int, bool, error) {
	for i := 0; i < len(x) && i < len(y); i++ {
		same, err := rt.equal(x[i], y[i], depth+1)
		if err != nil {
			return 0, false, err
		}
		if !same {
			return rt.compare(x[i], y[i], op, depth+1)
		}
	}
	return sign(len(x) < len(y), len(x) > len(y)), false, nil
}

func compareStrings(x, y string) int { return sign(x < y, x > y) }

func sign(less, more bool) int {
	switch {
	case less:
		return -1
	case more:
		return 1
	}
	return 0
}

// missing is the undefined value for an attribute or item that v does not have.
func missing(v, key Value) Value {
	if u, ok := v.(*Undefined); ok {
		return u
	}
	if name, ok := key.(string); ok {
		return &Undefined{message: fmt.Sprintf("'%s' has no attribute %s", objectName(v), quote(name))}
	}
	return &Undefined{message: fmt.Sprintf("%s has no element %s", objectName(v), shortRepr(key))}
}
