package jinja

import (
	"math"
	"math/big"
	"strings"
)

// maxIntDigits bounds integer literals and, through maxIntBits, arithmetic.
const (
	maxIntDigits = 4000
	maxIntBits   = 16384
)

// normalInt keeps integers that fit in an int64 as such.
func normalInt(i *big.Int) Value {
	if i.IsInt64() {
		return i.Int64()
	}
	return i
}

func bigInt(v Value) (*big.Int, bool) {
	if i, ok := v.(*big.Int); ok {
		return i, true
	}
	i, _, isFloat, ok := number(v)
	return big.NewInt(i), ok && !isFloat
}

func toFloat(v Value) (float64, bool) {
	if i, ok := v.(*big.Int); ok {
		f, _ := new(big.Float).SetInt(i).Float64()
		return f, true
	}
	_, f, _, ok := number(v)
	return f, ok
}

func (rt *run) binaryOp(op string, a, b Value) (Value, error) {
	if op == "~" {
		return rt.concat(a, b)
	}
	for _, v := range []Value{a, b} {
		if u, ok := v.(*Undefined); ok {
			return nil, u.fail()
		}
	}
	x, intA := bigInt(a)
	y, intB := bigInt(b)
	if intA && intB && op != "/" {
		return intOp(op, x, y)
	}
	f, okA := toFloat(a)
	g, okB := toFloat(b)
	if okA && okB {
		return floatOp(op, f, g)
	}
	if v, done, err := rt.sequenceOp(op, a, b); done || err != nil {
		return v, err
	}
	return nil, typeErrorf("unsupported operand types for %s: '%s' and '%s'", op, typeName(a), typeName(b))
}

func (rt *run) concat(a, b Value) (Value, error) {
	x, err := rt.str(a)
	if err != nil {
		return nil, err
	}
	y, err := rt.str(b)
	if err != nil {
		return nil, err
	}
	if err := rt.text(len(x) + len(y)); err != nil {
		return nil, err
	}
	return x + y, nil
}

func intOp(op string, x, y *big.Int) (Value, error) {
	out := new(big.Int)
	switch op {
	case "+":
		out.Add(x, y)
	case "-":
		out.Sub(x, y)
	case "*":
		out.Mul(x, y)
	case "**":
		return intPower(x, y)
	default:
		if y.Sign() == 0 {
			return nil, valueErrorf("division by zero")
		}
		quotient, rest := new(big.Int).QuoRem(x, y, out)
		// Python rounds towards minus infinity, Go towards zero.
		if rest.Sign() != 0 && rest.Sign() != y.Sign() {
			rest.Add(rest, y)
			quotient.Sub(quotient, big.NewInt(1))
		}
		if op == "//" {
			out = quotient
		} else {
			out = rest
		}
	}
	if out.BitLen() > maxIntBits {
		return nil, limitErrorf("an integer grows past %d bits", maxIntBits)
	}
	return normalInt(out), nil
}

func intPower(x, y *big.Int) (Value, error) {
	if y.Sign() < 0 {
		f, _ := toFloat(x)
		g, _ := toFloat(y)
		return floatOp("**", f, g)
	}
	if x.BitLen() > 1 && (!y.IsInt64() || y.Int64() > maxIntBits || int64(x.BitLen())*y.Int64() > 2*maxIntBits) {
		return nil, limitErrorf("an integer grows past %d bits", maxIntBits)
	}
	if x.BitLen() <= 1 {
		// 0, 1 and -1 need no more than the exponent's parity.
		if y.Sign() > 0 {
			y = big.NewInt(2 - int64(y.Bit(0)))
		}
	}
	return normalInt(new(big.Int).Exp(x, y, nil)), nil
}

func floatOp(op string, x, y float64) (Value, error) {
	switch op {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	case "**":
		if x == 0 && y < 0 {
			return nil, valueErrorf("zero cannot be raised to a negative power")
		}
		p := math.Pow(x, y)
		if math.IsNaN(p) && !math.IsNaN(x) && !math.IsNaN(y) {
			return nil, valueErrorf("a negative number cannot be raised to a fractional power here")
		}
		if math.IsInf(p, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
			return nil, valueErrorf("the result of ** is out of range")
		}
		return p, nil
	}
	if y == 0 {
		return nil, valueErrorf("division by zero")
	}
	if op == "/" {
		return x / y, nil
	}
	rest := math.Mod(x, y)
	if rest != 0 && (rest < 0) != (y < 0) {
		rest += y
	}
	if op == "%" {
		return rest, nil
	}
	return math.Floor((x-rest)/y + 0.5), nil
}

// sequenceOp is + and * on strings, lists and tuples, and % on strings.
func (rt *run) sequenceOp(op string, a, b Value) (v Value, done bool, err error) {
	switch op {
	case "+":
		return rt.join(a, b)
	case "*":
		if n, _, isFloat, ok := number(b); ok && !isFloat {
			return rt.repeat(a, n)
		}
		if n, _, isFloat, ok := number(a); ok && !isFloat {
			return rt.repeat(b, n)
		}
	case "%":
		if s, ok := a.(string); ok {
			out, err := rt.percent(s, b)
			return out, true, err
		}
	}
	return nil, false, nil
}

func (rt *run) join(a, b Value) (Value, bool, error) {
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			if err := rt.text(len(x) + len(y)); err != nil {
				return nil, true, err
			}
			return x + y, true, nil
		}
		return nil, true, typeErrorf("can only concatenate str (not \"%s\") to str; use ~ to join any values", typeName(b))
	}
	x, y, ok := sequencePair(a, b)
	if !ok {
		return nil, false, nil
	}
	if err := rt.made(len(x) + len(y)); err != nil {
		return nil, true, err
	}
	all := append(append(make([]Value, 0, len(x)+len(y)), x...), y...)
	if _, ok := a.(*List); ok {
		return &List{Items: all}, true, nil
	}
	return &Tuple{Items: all}, true, nil
}

func (rt *run) repeat(v Value, n int64) (Value, bool, error) {
	n = max(n, 0)
	var items []Value
	switch v := v.(type) {
	case string:
		if n > 0 && int64(len(v)) > int64(rt.limits.Text)/n {
			return nil, true, limitErrorf("a text grows past %d bytes", rt.limits.Text)
		}
		if err := rt.text(len(v) * int(n)); err != nil {
			return nil, true, err
		}
		if v == "" {
			n = 0
		}
		return strings.Repeat(v, int(n)), true, nil
	case *List:
		items = v.Items
	case *Tuple:
		items = v.Items
	default:
		return nil, false, nil
	}
	if len(items) == 0 {
		n = 0
	}
	if n > 0 && int64(len(items)) > maxItems/n {
		return nil, true, limitErrorf("a list grows past %d items", maxItems)
	}
	if err := rt.made(len(items) * int(n)); err != nil {
		return nil, true, err
	}
	all := make([]Value, 0, len(items)*int(n))
	for range n {
		all = append(all, items...)
	}
	if _, ok := v.(*List); ok {
		return &List{Items: all}, true, nil
	}
	return &Tuple{Items: all}, true, nil
}

// contains is Python's "x in container".
func (rt *run) contains(container, x Value) (bool, error) {
	switch c := container.(type) {
	case string:
		s, ok := x.(string)
		if u, undefined := x.(*Undefined); undefined {
			return false, u.fail()
		}
		if !ok {
			return false, typeErrorf("'in <string>' requires a string on the left, not '%s'", typeName(x))
		}
		return strings.Contains(c, s), rt.charge(len(c) / 64)
	case *Dict:
		if err := rt.scan(x); err != nil {
			return false, err
		}
		if _, err := hashable(x); err != nil {
			return false, err
		}
		_, ok := c.Get(x)
		return ok, nil
	}
	items, err := rt.items(container)
	if err != nil {
		return false, err
	}
	for _, item := range items {
		if same, err := rt.equal(item, x, 0); err != nil || same {
			return same, err
		}
	}
	return false, nil
}
