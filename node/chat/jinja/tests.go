package jinja

import (
	"math/big"
	"strings"
	"unicode"
)

type testFunc func(rt *run, a *arguments) (bool, error)

// tests are the names after "is".
var tests map[string]testFunc

func init() {
	tests = map[string]testFunc{
		"defined":   kindTest(func(v Value) bool { _, u := v.(*Undefined); return !u }),
		"undefined": kindTest(func(v Value) bool { _, u := v.(*Undefined); return u }),
		"none":      kindTest(func(v Value) bool { return v == nil }),
		"boolean":   kindTest(func(v Value) bool { _, ok := v.(bool); return ok }),
		"true":      kindTest(func(v Value) bool { return v == true }),
		"false":     kindTest(func(v Value) bool { return v == false }),
		"string":    kindTest(func(v Value) bool { _, ok := v.(string); return ok }),
		"mapping":   kindTest(func(v Value) bool { _, ok := v.(*Dict); return ok }),
		"integer":   kindTest(isInteger),
		"float":     kindTest(func(v Value) bool { _, ok := v.(float64); return ok }),
		"number":    kindTest(isNumber),
		"sequence":  kindTest(isSequence),
		"iterable":  kindTest(isIterable),
		"callable":  kindTest(isCallable),
		"escaped":   kindTest(func(Value) bool { return false }),
		"upper":     caseTest(unicode.IsUpper, unicode.IsLower),
		"lower":     caseTest(unicode.IsLower, unicode.IsUpper),
		"odd":       remainderTest(func(i int64) bool { return i%2 != 0 }),
		"even":      remainderTest(func(i int64) bool { return i%2 == 0 }),

		"divisibleby": testDivisible,
		"sameas":      testSame,
		"filter":      nameTest(func(n string) bool { _, ok := filters[n]; return ok }),
		"test":        nameTest(func(n string) bool { _, ok := tests[n]; return ok }),
	}
	for op, names := range map[string]string{
		"==": "== eq equalto", "!=": "!= ne", "<": "< lt lessthan", "<=": "<= le",
		">": "> gt greaterthan", ">=": ">= ge", "in": "in",
	} {
		for _, name := range strings.Fields(names) {
			tests[name] = compareTest(op)
		}
	}
}

func kindTest(is func(Value) bool) testFunc {
	return func(_ *run, a *arguments) (bool, error) {
		if len(a.positional) != 1 || len(a.names) > 0 {
			return false, typeErrorf("this test takes no arguments")
		}
		return is(a.positional[0]), nil
	}
}

func isInteger(v Value) bool {
	switch v.(type) {
	case int64, *big.Int:
		return true
	}
	return false
}

func isNumber(v Value) bool { _, ok := toFloat(v); return ok }

func isSequence(v Value) bool {
	switch v.(type) {
	case string, *List, *Tuple, *Dict, *Range, *Undefined:
		return true
	}
	return false
}

func isIterable(v Value) bool {
	switch v.(type) {
	case *view, *iterator, *loopState:
		return true
	}
	return isSequence(v)
}

func isCallable(v Value) bool {
	switch v.(type) {
	case *function, *macro, *loopState, *Undefined:
		return true
	}
	return false
}

// caseTest is Python's str.isupper and islower: some cased letter, all of them right.
func caseTest(right, wrong func(rune) bool) testFunc {
	return func(rt *run, a *arguments) (bool, error) {
		s, err := rt.str(a.positional[0])
		if err == nil {
			err = rt.scan(s)
		}
		return strings.ContainsFunc(s, right) && !strings.ContainsFunc(s, wrong), err
	}
}

func remainderTest(is func(int64) bool) testFunc {
	return func(_ *run, a *arguments) (bool, error) {
		if f, ok := a.positional[0].(float64); ok && f == float64(int64(f)) {
			return is(int64(f)), nil
		}
		i, err := integer(a.positional[0], "the tested value")
		return is(i), err
	}
}

func testDivisible(rt *run, a *arguments) (bool, error) {
	p, err := a.bind("divisibleby", 2, "value", "num")
	if err != nil {
		return false, err
	}
	rest, err := rt.binaryOp("%", p[0], p[1])
	return err == nil && !truth(rest), err
}

func testSame(_ *run, a *arguments) (bool, error) {
	p, err := a.bind("sameas", 2, "value", "other")
	if err != nil {
		return false, err
	}
	return p[0] == p[1], nil
}

func nameTest(known func(string) bool) testFunc {
	return kindTest(func(v Value) bool {
		name, ok := v.(string)
		return ok && known(name)
	})
}

func compareTest(op string) testFunc {
	return func(rt *run, a *arguments) (bool, error) {
		p, err := a.bind("this test", 2, "value", "other")
		if err != nil {
			return false, err
		}
		return rt.compareOp(op, p[0], p[1])
	}
}
