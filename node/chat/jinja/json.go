package jinja

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// maxJSONDepth bounds the nesting of JSON that becomes template values.
const maxJSONDepth = 200

// FromJSON decodes one JSON value. Objects keep the order of their keys, and
// integers their digits. Nothing of data is kept.
func FromJSON(data []byte) (Value, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := decode(d, 0)
	if err != nil {
		return nil, fmt.Errorf("decode JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decode JSON: more text after the value")
	}
	return v, nil
}

func decode(d *json.Decoder, depth int) (Value, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
	}
	t, err := d.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		return numberFromText(t.String())
	case json.Delim:
		if t == '[' {
			return decodeList(d, depth)
		}
		return decodeDict(d, depth)
	}
	return t, nil
}

func decodeList(d *json.Decoder, depth int) (Value, error) {
	l := &List{}
	for d.More() {
		v, err := decode(d, depth+1)
		if err != nil {
			return nil, err
		}
		l.Items = append(l.Items, v)
	}
	_, err := d.Token()
	return l, err
}

func decodeDict(d *json.Decoder, depth int) (Value, error) {
	out := NewDict()
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return nil, err
		}
		v, err := decode(d, depth+1)
		if err != nil {
			return nil, err
		}
		out.SetString(k.(string), v)
	}
	_, err := d.Token()
	return out, err
}

func numberFromText(s string) (Value, error) {
	if strings.ContainsAny(s, ".eE") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return nil, err
		}
		return f, nil
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, nil
	}
	i, ok := new(big.Int).SetString(s, 10)
	if !ok || len(s) > maxIntDigits {
		return nil, fmt.Errorf("integer with more than %d digits", maxIntDigits)
	}
	return i, nil
}

// isValue reports whether v is a Value at its top level.
func isValue(v Value) bool {
	switch v.(type) {
	case nil, bool, int64, *big.Int, float64, string, *List, *Tuple, *Dict, *Undefined, *Range:
		return true
	}
	return false
}

// jsonWriter prints values as Python's json.dumps does.
type jsonWriter struct {
	rt         *run
	b          strings.Builder
	ascii      bool
	sortKeys   bool
	indent     string
	pretty     bool
	itemSep    string
	keySep     string
	chargedFor int
}

// grow pays for the text written since the last call.
func (w *jsonWriter) grow() error {
	n := w.b.Len()
	if n > w.rt.limits.Text {
		return limitErrorf("a text grows past %d bytes", w.rt.limits.Text)
	}
	paid := (n - w.chargedFor) / 16
	w.chargedFor = n
	return w.rt.charge(paid)
}

func (w *jsonWriter) write(v Value, depth int) error {
	if depth > maxDepth {
		return limitErrorf("values nested deeper than %d cannot become JSON", maxDepth)
	}
	if err := w.grow(); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		w.b.WriteString("null")
	case bool:
		w.b.WriteString(strconv.FormatBool(v))
	case string:
		w.quote(v)
	case float64:
		w.b.WriteString(jsonFloat(v))
	case int64, *big.Int:
		w.b.WriteString(scalarRepr(v))
	case *List:
		return w.list(v.Items, depth)
	case *Tuple:
		return w.list(v.Items, depth)
	case *Dict:
		return w.dict(v, depth)
	default:
		return typeErrorf("Object of type %s is not JSON serializable", typeName(v))
	}
	return nil
}

func jsonFloat(f float64) string {
	switch s := formatFloat(f); s {
	case "nan":
		return "NaN"
	case "inf":
		return "Infinity"
	case "-inf":
		return "-Infinity"
	default:
		return s
	}
}

func (w *jsonWriter) newline(depth int) {
	if w.pretty {
		w.b.WriteByte('\n')
		for range depth {
			w.b.WriteString(w.indent)
		}
	}
}

func (w *jsonWriter) list(items []Value, depth int) error {
	if len(items) == 0 {
		w.b.WriteString("[]")
		return nil
	}
	w.b.WriteByte('[')
	for i, item := range items {
		if i > 0 {
			w.b.WriteString(w.itemSep)
		}
		w.newline(depth + 1)
		if err := w.write(item, depth+1); err != nil {
			return err
		}
	}
	w.newline(depth)
	w.b.WriteByte(']')
	return nil
}

func (w *jsonWriter) dict(d *Dict, depth int) error {
	if d.Len() == 0 {
		w.b.WriteString("{}")
		return nil
	}
	order, err := w.order(d)
	if err != nil {
		return err
	}
	w.b.WriteByte('{')
	for n, i := range order {
		if n > 0 {
			w.b.WriteString(w.itemSep)
		}
		w.newline(depth + 1)
		switch k := d.keys[i].(type) {
		case string:
			w.quote(k)
		case nil:
			w.b.WriteString(`"null"`)
		case bool:
			w.b.WriteString(strconv.Quote(strconv.FormatBool(k)))
		case int64, *big.Int:
			w.b.WriteString(`"` + scalarRepr(k) + `"`)
		case float64:
			w.b.WriteString(`"` + jsonFloat(k) + `"`)
		default:
			return typeErrorf("keys must be str, int, float, bool or None, not %s", typeName(k))
		}
		w.b.WriteString(w.keySep)
		if err := w.write(d.vals[i], depth+1); err != nil {
			return err
		}
	}
	w.newline(depth)
	w.b.WriteByte('}')
	return nil
}

// order lists the positions of a dict's entries in the order to print them.
func (w *jsonWriter) order(d *Dict) ([]int, error) {
	order := make([]int, d.Len())
	for i := range order {
		order[i] = i
	}
	var failed error
	if w.sortKeys {
		slices.SortStableFunc(order, func(a, b int) int {
			c, _, err := w.rt.compare(d.keys[a], d.keys[b], "<", 0)
			if err != nil {
				failed = err
			}
			return c
		})
	}
	return order, failed
}

func (w *jsonWriter) quote(s string) {
	w.b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			w.b.WriteByte('\\')
			w.b.WriteRune(r)
		case r < 0x20:
			w.b.WriteString(controlEscape(r))
		case r < 0x7f || !w.ascii && r != 0x7f:
			w.b.WriteRune(r)
		case r == 0x7f:
			w.b.WriteByte(0x7f)
		case r >= 0x10000:
			fmt.Fprintf(&w.b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			fmt.Fprintf(&w.b, `\u%04x`, r)
		}
	}
	w.b.WriteByte('"')
}

func controlEscape(r rune) string {
	switch r {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	case '\b':
		return `\b`
	case '\f':
		return `\f`
	}
	return fmt.Sprintf(`\u%04x`, r)
}
