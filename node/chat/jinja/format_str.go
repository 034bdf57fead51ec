package jinja

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

var formatMethods = map[string]stringMethod{
	"format": stringFormat,
	"zfill": func(rt *run, s string, a *arguments) (Value, error) {
		p, err := a.bind("zfill", 1, "width")
		if err != nil {
			return nil, err
		}
		sign := ""
		if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "+") {
			sign = s[:1]
		}
		width, err := integer(p[0], "zfill() width")
		if err != nil {
			return nil, err
		}
		out, err := rt.justify(s[len(sign):], width-int64(len(sign)), "0", '>')
		if err != nil {
			return nil, err
		}
		return sign + out.(string), nil
	},
	"ljust":  justifyMethod("ljust", '<'),
	"rjust":  justifyMethod("rjust", '>'),
	"center": justifyMethod("center", 0),
}

func justifyMethod(name string, align byte) stringMethod {
	return func(rt *run, s string, a *arguments) (Value, error) {
		p, err := a.bind(name, 1, "width", "fillchar")
		if err != nil {
			return nil, err
		}
		fill, err := text(or(p[1], " "), name+"() fill")
		if err != nil {
			return nil, err
		}
		if utf8.RuneCountInString(fill) != 1 {
			return nil, typeErrorf("%s() fill must be one character", name)
		}
		return rt.justify(s, p[0], fill, align)
	}
}

// justify pads s to a width; align 0 centres it as str.center does.
func (rt *run) justify(s string, width Value, fill string, align byte) (Value, error) {
	w, err := integer(width, "width")
	if err != nil {
		return nil, err
	}
	n := w - int64(utf8.RuneCountInString(s))
	if n <= 0 {
		return s, nil
	}
	if n > int64(rt.limits.Text)/4 {
		return nil, limitErrorf("a text grows past %d bytes", rt.limits.Text)
	}
	if err := rt.text(len(s) + int(n)*len(fill)); err != nil {
		return nil, err
	}
	left := n
	switch align {
	case '<':
		left = 0
	case 0:
		left = n/2 + n&w&1
	}
	return strings.Repeat(fill, int(left)) + s + strings.Repeat(fill, int(n-left)), nil
}

// stringFormat is str.format.
func stringFormat(rt *run, s string, a *arguments) (Value, error) {
	f := &formatter{rt: rt, args: a}
	out, err := f.run(s, 0)
	if err != nil {
		return nil, err
	}
	return out, rt.text(len(out))
}

type formatter struct {
	rt   *run
	args *arguments
	auto int // next automatic position; -1 once a number was written out
}

func (f *formatter) run(s string, depth int) (string, error) {
	if depth > 2 {
		return "", valueErrorf("format fields nest too deeply")
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '{' && c != '}' {
			b.WriteByte(c)
			continue
		}
		if i+1 < len(s) && s[i+1] == c {
			b.WriteByte(c)
			i++
			continue
		}
		if c == '}' {
			return "", valueErrorf("single '}' encountered in format string")
		}
		end := fieldEnd(s, i+1)
		if end < 0 {
			return "", valueErrorf("expected '}' before end of format string")
		}
		out, err := f.field(s[i+1:end], depth)
		if err != nil {
			return "", err
		}
		b.WriteString(out)
		if err := f.rt.text(b.Len()); err != nil {
			return "", err
		}
		i = end
	}
	return b.String(), nil
}

// fieldEnd finds the brace that closes the field which starts at i.
func fieldEnd(s string, i int) int {
	for open := 1; i < len(s); i++ {
		switch s[i] {
		case '{':
			open++
		case '}':
			if open--; open == 0 {
				return i
			}
		}
	}
	return -1
}

func (f *formatter) field(field string, depth int) (string, error) {
	name, specText := field, ""
	if i := strings.IndexByte(name, ':'); i >= 0 {
		name, specText = name[:i], name[i+1:]
	}
	conversion := ""
	if i := strings.IndexByte(name, '!'); i >= 0 {
		name, conversion = name[:i], name[i+1:]
	}
	v, err := f.value(name)
	if err != nil {
		return "", err
	}
	switch conversion {
	case "":
	case "s":
		v, err = f.rt.str(v)
	case "r", "a":
		v, err = f.rt.repr(v)
	default:
		err = valueErrorf("unknown conversion '%s'", conversion)
	}
	if err != nil {
		return "", err
	}
	if strings.Contains(specText, "{") {
		if specText, err = f.run(specText, depth+1); err != nil {
			return "", err
		}
	}
	return f.rt.formatWith(v, specText)
}

// value looks up "name", "0", "name.attr[key]" and the automatic "".
func (f *formatter) value(path string) (Value, error) {
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		end = len(path)
	}
	v, err := f.first(path[:end])
	for rest := path[end:]; err == nil && rest != ""; {
		var key string
		if rest[0] == '.' {
			stop := strings.IndexAny(rest[1:], ".[")
			if stop < 0 {
				stop = len(rest) - 1
			}
			key, rest = rest[1:1+stop], rest[1+stop:]
			v, err = f.rt.attribute(v, key)
		} else {
			stop := strings.IndexByte(rest, ']')
			if rest[0] != '[' || stop < 0 {
				return nil, valueErrorf("bad format field '%s'", path)
			}
			key, rest = rest[1:stop], rest[stop+1:]
			var k Value = key
			if i, e := strconv.ParseInt(key, 10, 64); e == nil {
				k = i
			}
			v, err = f.rt.item(v, k)
		}
		if u, ok := v.(*Undefined); ok && err == nil {
			err = u.fail()
		}
	}
	return v, err
}

func (f *formatter) first(name string) (Value, error) {
	i, err := strconv.Atoi(name)
	switch {
	case name == "" && f.auto >= 0:
		i = f.auto
		f.auto++
	case err == nil && i >= 0 && f.auto <= 0:
		f.auto = -1
	case name == "" || err == nil:
		return nil, valueErrorf("cannot mix automatic and written field numbers")
	default:
		if v, ok := f.args.named(name); ok {
			return v, nil
		}
		return nil, valueErrorf("format(): no argument '%s'", name)
	}
	if i >= len(f.args.positional) {
		return nil, valueErrorf("format(): no argument %d", i)
	}
	return f.args.positional[i], nil
}

// formatWith is Python's format(v, spec).
func (rt *run) formatWith(v Value, s string) (string, error) {
	if s == "" {
		return rt.str(v)
	}
	sp, err := parseSpec(s)
	if err != nil {
		return "", err
	}
	switch x := v.(type) {
	case string:
		if sp.verb != 0 && sp.verb != 's' || sp.align == '=' || sp.sign != 0 {
			return "", valueErrorf("format code '%s' does not fit a '%s'", s, typeName(v))
		}
		if sp.align == 0 {
			sp.align = '<'
		}
		return sp.text(x), nil
	case float64:
		if sp.verb == 0 {
			if sp.precision < 0 {
				return sp.pad(sp.signOf(x < 0), group(formatFloat(max(x, -x)), sp.comma)), nil
			}
			sp.verb = 'g'
		}
		if strings.IndexByte("eEfFgG%", sp.verb) < 0 {
			return "", valueErrorf("unknown format code '%c' for 'float'", rune(sp.verb))
		}
		return sp.float(x), nil
	}
	i, ok := bigInt(v)
	switch {
	case !ok:
		return "", typeErrorf("unsupported format string passed to %s", typeName(v))
	case strings.IndexByte("eEfFgG%", sp.verb) >= 0 && sp.verb != 0:
		x, _ := toFloat(v)
		return sp.float(x), nil
	case sp.verb == 0 || strings.IndexByte("dxXobn", sp.verb) >= 0:
		return sp.integer(i), nil
	case sp.verb == 'c' && i.IsInt64() && i.Int64() >= 0 && i.Int64() <= utf8.MaxRune:
		return sp.text(string(rune(i.Int64()))), nil
	}
	return "", valueErrorf("unknown format code '%c' for 'int'", rune(sp.verb))
}

// parseSpec reads [[fill]align][sign][#][0][width][,][.precision][verb].
func parseSpec(s string) (spec, error) {
	sp := spec{fill: " ", precision: -1}
	whole := s
	isAlign := func(i int) bool { return i < len(s) && strings.IndexByte("<>^=", s[i]) >= 0 }
	if _, n := utf8.DecodeRuneInString(s); isAlign(n) {
		sp.fill, sp.align, s = s[:n], s[n], s[n+1:]
	} else if isAlign(0) {
		sp.align, s = s[0], s[1:]
	}
	skip := func(set string) byte {
		if s != "" && strings.IndexByte(set, s[0]) >= 0 {
			c := s[0]
			s = s[1:]
			return c
		}
		return 0
	}
	if sp.sign = skip("+- "); sp.sign == '-' {
		sp.sign = 0
	}
	sp.alternate = skip("#") != 0
	if skip("0") != 0 && sp.align == 0 {
		sp.fill, sp.align = "0", '='
	}
	width, end, err := count(s, 0, nil)
	if err != nil {
		return sp, err
	}
	sp.width, s = max(width, 0), s[end:]
	if c := skip(",_"); c != 0 {
		sp.comma = string(rune(c))
	}
	if skip(".") != 0 {
		if sp.precision, end, err = count(s, 0, nil); err != nil || sp.precision < 0 {
			return sp, valueErrorf("format specifier '%s' lacks a precision", whole)
		}
		s = s[end:]
	}
	if s != "" {
		sp.verb, s = s[0], s[1:]
	}
	if s != "" {
		return sp, valueErrorf("invalid format specifier '%s'", whole)
	}
	return sp, nil
}
