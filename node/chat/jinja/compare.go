package jinja

import (
	"math"
	"math/big"
)

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
		return ok && x.same(y), nil
	}
	return sameNumber(a, b), nil
}

// same reports whether two ranges hold the same numbers.
func (r *Range) same(y *Range) bool {
	return r.n == y.n && (r.n == 0 || r.start == y.start && (r.n == 1 || r.step == y.step))
}

// sameNumber compares numbers by value, and what is none by identity.
func sameNumber(a, b Value) bool {
	if ai, af, aFloat, ok := number(a); ok {
		bi, bf, bFloat, ok := number(b)
		if aFloat || bFloat {
			return ok && af == bf
		}
		return ok && ai == bi
	}
	return a == b
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
