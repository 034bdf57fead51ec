package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
)

// str is Python's str(): what printing a value gives.
func (rt *run) str(v Value) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case *Undefined:
		return "", nil
	}
	return rt.repr(v)
}

// repr is Python's repr().
func (rt *run) repr(v Value) (string, error) {
	var b strings.Builder
	err := rt.writeRepr(&b, v, 0)
	return b.String(), err
}

func (rt *run) writeRepr(b *strings.Builder, v Value, depth int) error {
	if depth > maxDepth {
		return limitErrorf("values nested deeper than %d cannot be printed", maxDepth)
	}
	if err := rt.text(b.Len()); err != nil {
		return limitErrorf("a text grows past the limit while printing a %s", typeName(v))
	}
	// The line above prices the text so far by its length; give that back, so that
	// only growth is paid for.
	rt.steps += b.Len() / 64
	switch v := v.(type) {
	case string:
		if err := rt.charge(len(v) / 16); err != nil {
			return err
		}
		b.WriteString(quote(v))
		return nil
	case *List:
		return rt.writeItems(b, "[", v.Items, "]", depth)
	case *Tuple:
		if len(v.Items) == 1 {
			return rt.writeItems(b, "(", v.Items, ",)", depth)
		}
		return rt.writeItems(b, "(", v.Items, ")", depth)
	case *view:
		return rt.writeItems(b, v.kind+"([", v.items, "])", depth)
	case *Dict:
		return rt.writeDict(b, v, depth)
	case *namespace:
		b.WriteString("<Namespace ")
		err := rt.writeDict(b, v.vars, depth)
		b.WriteString(">")
		return err
	}
	b.WriteString(scalarRepr(v))
	return nil
}

func (rt *run) writeItems(b *strings.Builder, begin string, items []Value, end string, depth int) error {
	b.WriteString(begin)
	for i, item := range items {
		if i > 0 {
			b.WriteString(", ")
		}
		if err := rt.writeRepr(b, item, depth+1); err != nil {
			return err
		}
	}
	b.WriteString(end)
	return nil
}

func (rt *run) writeDict(b *strings.Builder, d *Dict, depth int) error {
	b.WriteByte('{')
	for i, k := range d.keys {
		if i > 0 {
			b.WriteString(", ")
		}
		if err := rt.writeRepr(b, k, depth+1); err != nil {
			return err
		}
		b.WriteString(": ")
		if err := rt.writeRepr(b, d.vals[i], depth+1); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

// scalarRepr prints what has no parts.
func scalarRepr(v Value) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int64:
		return strconv.FormatInt(v, 10)
	case *big.Int:
		return v.String()
	case float64:
		return formatFloat(v)
	case *Undefined:
		return "Undefined"
	case *Range:
		if v.step != 1 {
			return fmt.Sprintf("range(%d, %d, %d)", v.start, v.stop, v.step)
		}
		return fmt.Sprintf("range(%d, %d)", v.start, v.stop)
	case *macro:
		return "<Macro " + quote(v.sig.name) + ">"
	case *loopState:
		return fmt.Sprintf("<LoopContext %d/%d>", v.index+1, len(v.items))
	case *function:
		return "<function " + v.name + ">"
	case *iterator:
		return "<generator object>"
	}
	return "<" + typeName(v) + ">"
}

// shortRepr prints a value inside a message or a key, scalars only.
func shortRepr(v Value) string {
	if s, ok := v.(string); ok {
		return quote(s)
	}
	switch v.(type) {
	case *List, *Tuple, *Dict, *namespace, *view:
		return "<" + typeName(v) + ">"
	}
	return scalarRepr(v)
}

// formatFloat is Python's repr of a float: the shortest text that reads back as the
// same number, with an exponent below 1e-4 and from 1e16 on.
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// quote is Python's repr of a string.
func quote(s string) string {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	var b strings.Builder
	b.WriteByte(q)
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte(q)
	return b.String()
}
