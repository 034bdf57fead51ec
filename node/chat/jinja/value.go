package jinja

import (
	"fmt"
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
