package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

var numberFilters = map[string]builtin{
	"abs":   filterAbs,
	"int":   filterInt,
	"float": filterFloat,
	"round": filterRound,
}

func filterAbs(rt *run, a *arguments) (Value, error) {
	v, _, err := a.filterArgs("abs")
	if err != nil {
		return nil, err
	}
	if u, ok := v.(*Undefined); ok {
		return nil, u.fail()
	}
	if i, ok := bigInt(v); ok {
		return normalInt(new(big.Int).Abs(i)), nil
	}
	if f, ok := v.(float64); ok {
		return math.Abs(f), nil
	}
	return nil, typeErrorf("bad operand type for abs(): '%s'", typeName(v))
}

func filterInt(rt *run, a *arguments) (Value, error) {
	v, p, err := a.filterArgs("int", "default", "base")
	if err != nil {
		return nil, err
	}
	otherwise := or(p[0], int64(0))
	if err := rt.scan(v); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case *Undefined:
		return nil, v.fail()
	case *big.Int:
		return v, nil
	case float64:
		return truncate(v, otherwise), nil
	case string:
		base, err := integer(or(p[1], int64(10)), "base")
		if err != nil {
			return nil, err
		}
		if base < 2 || base > 36 {
			return nil, valueErrorf("int() base must be from 2 to 36")
		}
		if i, ok := parseInt(v, int(base)); ok {
			return i, nil
		}
		if f, ok := parseFloat(v); ok {
			return truncate(f, otherwise), nil
		}
		return otherwise, nil
	}
	if i, _, _, ok := number(v); ok {
		return i, nil
	}
	return otherwise, nil
}

func truncate(f float64, otherwise Value) Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return otherwise
	}
	i, _ := big.NewFloat(f).Int(nil)
	return normalInt(i)
}

// parseInt is Python's int(text, base): blanks around, a sign, single underscores.
func parseInt(s string, base int) (Value, bool) {
	s, ok := cleanNumber(s)
	if !ok {
		return nil, false
	}
	prefix := map[int]string{16: "0x", 8: "0o", 2: "0b"}[base]
	body := strings.TrimLeft(s, "+-")
	if len(s)-len(body) > 1 {
		return nil, false
	}
	if prefix != "" && len(body) > 2 && strings.EqualFold(body[:2], prefix) {
		s = s[:len(s)-len(body)] + body[2:]
	}
	return bigOrInt(s, base)
}

// cleanNumber trims a numeral and removes underscores between digits.
func cleanNumber(s string) (string, bool) {
	s = strings.TrimFunc(s, isSpace)
	if strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") {
		return "", false
	}
	return strings.ReplaceAll(s, "_", ""), s != ""
}

func parseFloat(s string) (float64, bool) {
	s, ok := cleanNumber(s)
	if !ok || strings.ContainsAny(s, "xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil || math.IsInf(f, 0)
}

func filterFloat(rt *run, a *arguments) (Value, error) {
	v, p, err := a.filterArgs("float", "default")
	if err != nil {
		return nil, err
	}
	if u, ok := v.(*Undefined); ok {
		return nil, u.fail()
	}
	if f, ok := toFloat(v); ok {
		return f, nil
	}
	if err := rt.scan(v); err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		if f, ok := parseFloat(s); ok {
			return f, nil
		}
	}
	return or(p[0], float64(0)), nil
}

func filterRound(rt *run, a *arguments) (Value, error) {
	v, p, err := a.filterArgs("round", "precision", "method")
	if err != nil {
		return nil, err
	}
	precision, err := integer(or(p[0], int64(0)), "precision")
	if err != nil {
		return nil, err
	}
	if precision < -300 || precision > 300 {
		return nil, valueErrorf("round() precision must be from -300 to 300")
	}
	f, ok := toFloat(v)
	if !ok {
		if u, undefined := v.(*Undefined); undefined {
			return nil, u.fail()
		}
		return nil, typeErrorf("round() needs a number, not '%s'", typeName(v))
	}
	scale := math.Pow(10, float64(precision))
	switch or(p[1], "common") {
	case "common":
		return roundHalfEven(v, f, int(precision)), nil
	case "ceil":
		return math.Ceil(f*scale) / scale, nil
	case "floor":
		return math.Floor(f*scale) / scale, nil
	}
	return nil, valueErrorf("round() method must be common, ceil or floor")
}

// roundHalfEven is Python's round: integers stay integers, halves go to even.
func roundHalfEven(v Value, f float64, precision int) Value {
	if _, isFloat := v.(float64); !isFloat && precision >= 0 {
		i, _ := bigInt(v)
		return normalInt(i)
	}
	if precision >= 0 {
		rounded, err := strconv.ParseFloat(strconv.FormatFloat(f, 'f', precision, 64), 64)
		if err != nil {
			return f
		}
		return rounded
	}
	scale := math.Pow(10, float64(-precision))
	f = math.RoundToEven(f/scale) * scale
	if i, isInt := bigInt(v); isInt && i.IsInt64() {
		return int64(f)
	}
	return f
}
