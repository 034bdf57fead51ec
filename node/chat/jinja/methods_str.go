package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type stringMethod = func(rt *run, s string, a *arguments) (Value, error)

var stringMethods map[string]stringMethod

func init() {
	stringMethods = merge(caseMethods, stripMethods, splitMethods, searchMethods, formatMethods)
}

// textMethod makes a method without arguments of a function.
func textMethod(name string, f func(string) Value) stringMethod {
	return func(rt *run, s string, a *arguments) (Value, error) {
		if _, err := a.bind(name, 0); err != nil {
			return nil, err
		}
		return f(s), rt.text(len(s))
	}
}

var caseMethods = map[string]stringMethod{
	"upper":      textMethod("upper", func(s string) Value { return upper(s) }),
	"lower":      textMethod("lower", func(s string) Value { return lower(s) }),
	"casefold":   textMethod("casefold", func(s string) Value { return strings.ReplaceAll(lower(s), "ß", "ss") }),
	"capitalize": textMethod("capitalize", func(s string) Value { return capitalize(s) }),
	"title":      textMethod("title", func(s string) Value { return title(s) }),
	"swapcase":   textMethod("swapcase", func(s string) Value { return strings.Map(swapCase, s) }),
	"isdigit":    textMethod("isdigit", allRunes(unicode.IsDigit)),
	"isdecimal":  textMethod("isdecimal", allRunes(unicode.IsDigit)),
	"isnumeric":  textMethod("isnumeric", allRunes(unicode.IsNumber)),
	"isalpha":    textMethod("isalpha", allRunes(unicode.IsLetter)),
	"isspace":    textMethod("isspace", allRunes(isSpace)),
	"isalnum":    textMethod("isalnum", allRunes(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) })),
	"isupper":    textMethod("isupper", cased(unicode.IsUpper, unicode.IsLower)),
	"islower":    textMethod("islower", cased(unicode.IsLower, unicode.IsUpper)),
}

func swapCase(r rune) rune {
	if unicode.IsUpper(r) {
		return unicode.ToLower(r)
	}
	return unicode.ToUpper(r)
}

func allRunes(is func(rune) bool) func(string) Value {
	return func(s string) Value {
		return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !is(r) })
	}
}

func cased(right, wrong func(rune) bool) func(string) Value {
	return func(s string) Value { return strings.ContainsFunc(s, right) && !strings.ContainsFunc(s, wrong) }
}

// title is str.title: every run of letters is capitalised.
func title(s string) string {
	var b strings.Builder
	inside := false
	for _, r := range s {
		switch {
		case !unicode.IsLetter(r):
			b.WriteRune(r)
		case inside:
			b.WriteString(lower(string(r)))
		default:
			b.WriteRune(unicode.ToTitle(r))
		}
		inside = unicode.IsLetter(r)
	}
	return b.String()
}

var stripMethods = map[string]stringMethod{
	"strip":  stripMethod("strip", true, true),
	"lstrip": stripMethod("lstrip", true, false),
	"rstrip": stripMethod("rstrip", false, true),
	"removeprefix": func(_ *run, s string, a *arguments) (Value, error) {
		cut, err := oneText("removeprefix", a)
		return strings.TrimPrefix(s, cut), err
	},
	"removesuffix": func(_ *run, s string, a *arguments) (Value, error) {
		cut, err := oneText("removesuffix", a)
		return strings.TrimSuffix(s, cut), err
	},
}

func stripMethod(name string, left, right bool) stringMethod {
	return func(rt *run, s string, a *arguments) (Value, error) {
		p, err := a.bind(name, 0, "chars")
		if err != nil {
			return nil, err
		}
		if err := rt.charge(len(s) / 64); err != nil {
			return nil, err
		}
		return stripText(s, or(p[0], nil), left, right)
	}
}

// stripText cuts white space, or the given characters, off the ends.
func stripText(s string, chars Value, left, right bool) (Value, error) {
	cut := isSpace
	if chars != nil {
		set, ok := chars.(string)
		if !ok {
			return nil, typeErrorf("strip needs a text of characters, not '%s'", typeName(chars))
		}
		cut = func(r rune) bool { return strings.ContainsRune(set, r) }
	}
	if left {
		s = strings.TrimLeftFunc(s, cut)
	}
	if right {
		s = strings.TrimRightFunc(s, cut)
	}
	return s, nil
}

func text(v Value, what string) (string, error) {
	s, ok := v.(string)
	if u, undefined := v.(*Undefined); undefined {
		return "", u.fail()
	}
	if !ok {
		return "", typeErrorf("%s must be a string, not '%s'", what, typeName(v))
	}
	return s, nil
}

func oneText(name string, a *arguments) (string, error) {
	p, err := a.bind(name, 1, "text")
	if err != nil {
		return "", err
	}
	return text(p[0], name+"() argument")
}

var searchMethods = map[string]stringMethod{
	"startswith": affixMethod("startswith", strings.HasPrefix),
	"endswith":   affixMethod("endswith", strings.HasSuffix),
	"find":       findMethod("find", strings.Index, false),
	"rfind":      findMethod("rfind", strings.LastIndex, false),
	"index":      findMethod("index", strings.Index, true),
	"rindex":     findMethod("rindex", strings.LastIndex, true),
	"count": func(rt *run, s string, a *arguments) (Value, error) {
		sub, _, cut, err := searchArgs(rt, "count", s, a)
		return int64(strings.Count(cut, sub)), err
	},
	"replace": func(rt *run, s string, a *arguments) (Value, error) {
		p, err := a.bind("replace", 2, "old", "new", "count")
		if err != nil {
			return nil, err
		}
		from, err := text(p[0], "replace() argument 1")
		if err != nil {
			return nil, err
		}
		to, err := text(p[1], "replace() argument 2")
		if err != nil {
			return nil, err
		}
		return rt.replace(s, from, to, or(p[2], nil))
	},
}

// replace is str.replace; a nil count replaces all.
func (rt *run) replace(s, from, to string, count Value) (Value, error) {
	n := -1
	if count != nil {
		i, err := integer(count, "replace() count")
		if err != nil {
			return nil, err
		}
		n = int(max(min(i, int64(len(s)+1)), -1))
	}
	if err := rt.charge(len(s) / 16); err != nil {
		return nil, err
	}
	hits := strings.Count(s, from)
	if n >= 0 {
		hits = min(hits, n)
	}
	if err := rt.text(max(len(s)+hits*(len(to)-len(from)), len(s))); err != nil {
		return nil, err
	}
	return strings.Replace(s, from, to, n), nil
}

func affixMethod(name string, has func(s, affix string) bool) stringMethod {
	return func(rt *run, s string, a *arguments) (Value, error) {
		p, err := a.bind(name, 1, "text", "start", "end")
		if err != nil {
			return nil, err
		}
		if _, s, err = rt.window(s, p[1], p[2]); err != nil {
			return nil, err
		}
		options := []Value{p[0]}
		if t, ok := p[0].(*Tuple); ok {
			options = t.Items
		}
		for _, o := range options {
			affix, err := text(o, name+"() argument")
			if err != nil {
				return nil, err
			}
			if has(s, affix) {
				return true, nil
			}
		}
		return false, rt.charge(len(options))
	}
}

// window cuts s to the optional bounds start and end, in code points; from is the
// byte offset of the window.
func (rt *run) window(s string, start, end Value) (from int, cut string, err error) {
	start, end = or(start, nil), or(end, nil)
	if start == nil && end == nil {
		return 0, s, nil
	}
	n := utf8.RuneCountInString(s)
	i, j, _, err := sliceBounds([3]Value{start, end, nil}, int64(n))
	if err != nil {
		return 0, "", err
	}
	if err := rt.charge(len(s) / 16); err != nil {
		return 0, "", err
	}
	from = runeOffset(s, int(i))
	if j < i {
		return from, "", nil
	}
	return from, s[from : from+runeOffset(s[from:], int(j-i))], nil
}

func searchArgs(rt *run, name, s string, a *arguments) (sub string, from int, cut string, err error) {
	p, err := a.bind(name, 1, "sub", "start", "end")
	if err != nil {
		return "", 0, "", err
	}
	if sub, err = text(p[0], name+"() argument"); err != nil {
		return "", 0, "", err
	}
	from, cut, err = rt.window(s, p[1], p[2])
	if err == nil {
		err = rt.charge(len(cut) / 16)
	}
	return sub, from, cut, err
}

func findMethod(name string, find func(s, sub string) int, must bool) stringMethod {
	return func(rt *run, s string, a *arguments) (Value, error) {
		sub, from, cut, err := searchArgs(rt, name, s, a)
		if err != nil {
			return nil, err
		}
		i := find(cut, sub)
		switch {
		case i >= 0:
			return int64(utf8.RuneCountInString(s[:from+i])), nil
		case must:
			return nil, valueErrorf("%s(): substring not found", name)
		}
		return int64(-1), nil
	}
}
