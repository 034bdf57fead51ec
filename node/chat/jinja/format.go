package jinja

import (
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// spec is a format specification, of % formatting or of str.format.
type spec struct {
	fill      string
	align     byte // '<', '>', '^', '=' or 0
	sign      byte // '+', ' ' or 0
	alternate bool
	comma     string
	width     int
	precision int // -1 when absent
	verb      byte
}

// maxWidth bounds widths and precisions.
const maxWidth = 4096

// percent is "text % values": C-like formatting.
func (rt *run) percent(s string, values Value) (Value, error) {
	items := []Value{values}
	if t, ok := values.(*Tuple); ok {
		items = t.Items
	}
	mapping, _ := values.(*Dict)
	if err := rt.scan(s); err != nil {
		return "", err
	}
	next := 0
	take := func() (Value, error) {
		if next >= len(items) {
			return nil, typeErrorf("not enough arguments for format string")
		}
		next++
		return items[next-1], nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		end, key, sp, err := parsePercent(s, i+1, take)
		if err != nil {
			return nil, err
		}
		i = end - 1
		if sp.verb == '%' {
			b.WriteByte('%')
			continue
		}
		var v Value
		if key == nil {
			v, err = take()
		} else if mapping == nil {
			err = typeErrorf("format requires a mapping")
		} else {
			next = len(items)
			var ok bool
			if v, ok = mapping.Get(*key); !ok {
				err = valueErrorf("format: no key %s", quote(*key))
			}
		}
		if err != nil {
			return nil, err
		}
		out, err := rt.formatPercent(v, sp)
		if err != nil {
			return nil, err
		}
		b.WriteString(out)
		if err := rt.text(b.Len()); err != nil {
			return nil, err
		}
	}
	if next < len(items) && mapping == nil {
		return nil, typeErrorf("not all arguments converted during string formatting")
	}
	return b.String(), nil
}

// parsePercent reads what follows a % up to its verb.
func parsePercent(s string, i int, take func() (Value, error)) (end int, key *string, sp spec, err error) {
	sp = spec{fill: " ", precision: -1}
	if i < len(s) && s[i] == '(' {
		n := strings.IndexByte(s[i:], ')')
		if n < 0 {
			return 0, nil, sp, valueErrorf("incomplete format key")
		}
		k := s[i+1 : i+n]
		key, i = &k, i+n+1
	}
	for ; i < len(s); i++ {
		switch s[i] {
		case '-':
			sp.align = '<'
		case '+':
			sp.sign = '+'
		case ' ':
			if sp.sign == 0 {
				sp.sign = ' '
			}
		case '#':
			sp.alternate = true
		case '0':
			sp.fill = "0"
		default:
			goto flagsDone
		}
	}
flagsDone:
	if sp.width, i, err = count(s, i, take); err != nil {
		return 0, nil, sp, err
	}
	sp.width = max(sp.width, 0)
	if i < len(s) && s[i] == '.' {
		if sp.precision, i, err = count(s, i+1, take); err != nil {
			return 0, nil, sp, err
		}
		sp.precision = max(sp.precision, 0)
	}
	for i < len(s) && strings.IndexByte("hlL", s[i]) >= 0 {
		i++
	}
	if i >= len(s) {
		return 0, nil, sp, valueErrorf("incomplete format")
	}
	sp.verb = s[i]
	return i + 1, key, sp, nil
}

// count reads digits or a * at i; -1 stands for none.
func count(s string, i int, take func() (Value, error)) (n, end int, err error) {
	if take != nil && i < len(s) && s[i] == '*' {
		v, err := take()
		if err != nil {
			return 0, 0, err
		}
		w, err := integer(v, "format width")
		if err != nil {
			return 0, 0, err
		}
		if w < 0 || w > maxWidth {
			return 0, 0, limitErrorf("format width %d", w)
		}
		return int(w), i + 1, nil
	}
	end = i
	for end < len(s) && isDecimal(s[end]) {
		end++
	}
	if end == i {
		return -1, i, nil
	}
	n, err = strconv.Atoi(s[i:end])
	if err != nil || n > maxWidth {
		return 0, 0, limitErrorf("format width %s, more than the %d allowed", s[i:end], maxWidth)
	}
	return n, end, nil
}

func (rt *run) formatPercent(v Value, sp spec) (string, error) {
	switch sp.verb {
	case 's', 'r', 'a':
		text, err := rt.str(v)
		if sp.verb != 's' {
			text, err = rt.repr(v)
		}
		sp.fill = " "
		return sp.text(text), err
	case 'c':
		if s, ok := v.(string); ok && utf8.RuneCountInString(s) == 1 {
			return sp.text(s), nil
		}
		i, err := integer(v, "%c argument")
		if err != nil || i < 0 || i > utf8.MaxRune {
			return "", valueErrorf("%%c needs a character or its code")
		}
		return sp.text(string(rune(i))), nil
	case 'i', 'u':
		sp.verb = 'd'
	case 'd', 'x', 'X', 'o', 'e', 'E', 'f', 'F', 'g', 'G':
	default:
		return "", valueErrorf("unsupported format character '%c'", rune(sp.verb))
	}
	if u, ok := v.(*Undefined); ok {
		return "", u.fail()
	}
	if sp.align == 0 && sp.fill == "0" {
		sp.align = '='
	} else if sp.align == '<' {
		sp.fill = " "
	}
	if strings.IndexByte("dxXo", sp.verb) >= 0 {
		if _, isFloat := v.(float64); isFloat && sp.verb != 'd' {
			return "", typeErrorf("%%%c format: an integer is required, not float", rune(sp.verb))
		}
		i, ok := isIntText(v)
		if !ok {
			return "", typeErrorf("%%%c format: a number is required, not %s", rune(sp.verb), typeName(v))
		}
		return sp.integer(i), nil
	}
	f, ok := toFloat(v)
	if !ok {
		return "", typeErrorf("must be real number, not %s", typeName(v))
	}
	return sp.float(f), nil
}

// text pads a text, after cutting it to the precision.
func (sp spec) text(s string) string {
	if sp.precision >= 0 {
		s = s[:runeOffset(s, sp.precision)]
	}
	if sp.align == 0 && sp.verb != 0 {
		sp.align = '>'
	}
	return sp.pad("", s)
}

func (sp spec) integer(i *big.Int) string {
	base, prefix := 10, ""
	switch sp.verb {
	case 'x', 'X':
		base, prefix = 16, "0x"
	case 'o':
		base, prefix = 8, "0o"
	case 'b':
		base, prefix = 2, "0b"
	}
	digits := new(big.Int).Abs(i).Text(base)
	if sp.precision > len(digits) {
		digits = strings.Repeat("0", sp.precision-len(digits)) + digits
	}
	if !sp.alternate {
		prefix = ""
	}
	if sp.verb == 'X' {
		digits, prefix = strings.ToUpper(digits), strings.ToUpper(prefix)
	}
	return sp.pad(sp.signOf(i.Sign() < 0)+prefix, group(digits, sp.comma))
}

func (sp spec) signOf(negative bool) string {
	switch {
	case negative:
		return "-"
	case sp.sign != 0:
		return string(rune(sp.sign))
	}
	return ""
}

// group puts separators between thousands, before any fraction.
func group(digits, sep string) string {
	if sep == "" {
		return digits
	}
	whole, rest := digits, ""
	if i := strings.IndexAny(digits, ".e"); i >= 0 {
		whole, rest = digits[:i], digits[i:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + sep + whole[i:]
	}
	return whole + rest
}

func (sp spec) float(f float64) string {
	negative := f < 0 || f == 0 && 1/f < 0
	precision := sp.precision
	if precision < 0 {
		precision = 6
	}
	if negative {
		f = -f
	}
	var s string
	switch sp.verb {
	case '%':
		s = strconv.FormatFloat(f*100, 'f', precision, 64) + "%"
	case 'g', 'G':
		s = general(f, max(precision, 1))
	default:
		s = strconv.FormatFloat(f, sp.verb|0x20, precision, 64)
	}
	if s == "+Inf" || s == "NaN" {
		s = strings.ToLower(strings.TrimPrefix(s, "+"))
	}
	if sp.verb >= 'A' && sp.verb <= 'Z' {
		s = strings.ToUpper(s)
	}
	return sp.pad(sp.signOf(negative), group(s, sp.comma))
}

// general is C's %g.
func general(f float64, precision int) string {
	s := strconv.FormatFloat(f, 'e', precision-1, 64)
	i := strings.IndexByte(s, 'e')
	if i < 0 {
		return s
	}
	exp, err := strconv.Atoi(s[i+1:])
	mantissa, suffix := s[:i], s[i:]
	if err == nil && exp >= -4 && exp < precision {
		mantissa, suffix = strconv.FormatFloat(f, 'f', precision-1-exp, 64), ""
	}
	if strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	return mantissa + suffix
}

// pad fills prefix+body up to the width.
func (sp spec) pad(prefix, body string) string {
	n := sp.width - utf8.RuneCountInString(prefix) - utf8.RuneCountInString(body)
	if n <= 0 {
		return prefix + body
	}
	fill := func(n int) string { return strings.Repeat(sp.fill, n) }
	switch sp.align {
	case '<':
		return prefix + body + fill(n)
	case '^':
		return fill(n/2) + prefix + body + fill(n-n/2)
	case '=':
		return prefix + fill(n) + body
	}
	return fill(n) + prefix + body
}
