package jinja

import (
	"math/big"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

var textFilters = map[string]builtin{
	"string":      textFilter("string", func(s string) string { return s }),
	"safe":        textFilter("safe", func(s string) string { return s }),
	"upper":       textFilter("upper", upper),
	"lower":       textFilter("lower", lower),
	"capitalize":  textFilter("capitalize", capitalize),
	"title":       textFilter("title", titleFilter),
	"escape":      textFilter("escape", htmlEscaper.Replace),
	"e":           textFilter("e", htmlEscaper.Replace),
	"forceescape": textFilter("forceescape", htmlEscaper.Replace),
	"trim":        filterTrim,
	"replace":     filterReplace,
	"indent":      filterIndent,
	"center":      filterCenter,
	"truncate":    filterTruncate,
	"wordcount":   filterWordCount,
	"format":      filterFormat,
	"join":        filterJoin,
	"tojson":      filterToJSON,
	"urlencode":   filterURLEncode,
}

var htmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;")

// lower is str.lower. Go and Python differ on the dotted capital I only.
func lower(s string) string { return strings.ToLower(strings.ReplaceAll(s, "İ", "i̇")) }

// upper is str.upper, which makes two letters of the sharp s.
func upper(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "ß", "SS")) }

func capitalize(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToTitle(r)) + lower(s[n:])
}

// titleFilter capitalises words that begin after space, a hyphen or an opening bracket.
func titleFilter(s string) string {
	var b strings.Builder
	start := true
	for _, r := range s {
		if isSpace(r) || strings.ContainsRune("-({[<", r) {
			start = true
			b.WriteRune(r)
			continue
		}
		if start {
			b.WriteString(strings.ToUpper(string(r)))
		} else {
			b.WriteString(lower(string(r)))
		}
		start = false
	}
	return b.String()
}

// textFilter makes a filter of a function on the value's text without arguments.
func textFilter(name string, f func(string) string) builtin {
	return func(rt *run, a *arguments) (Value, error) {
		v, _, err := a.filterArgs(name)
		if err != nil {
			return nil, err
		}
		s, err := rt.str(v)
		if err != nil {
			return nil, err
		}
		if err := rt.text(6 * len(s)); err != nil {
			return nil, err
		}
		return f(s), nil
	}
}

// textAndArgs is filterArgs for filters on text.
func textAndArgs(rt *run, a *arguments, name string, params ...string) (string, []Value, error) {
	v, p, err := a.filterArgs(name, params...)
	if err != nil {
		return "", nil, err
	}
	s, err := rt.str(v)
	if err == nil {
		err = rt.scan(s)
	}
	return s, p, err
}

func filterTrim(rt *run, a *arguments) (Value, error) {
	s, p, err := textAndArgs(rt, a, "trim", "chars")
	if err != nil {
		return nil, err
	}
	return stripText(s, or(p[0], nil), true, true)
}

func filterReplace(rt *run, a *arguments) (Value, error) {
	s, p, err := textAndArgs(rt, a, "replace", "old", "new", "count")
	if err != nil {
		return nil, err
	}
	if !given(p[0]) || !given(p[1]) {
		return nil, typeErrorf("replace() needs the arguments 'old' and 'new'")
	}
	from, err := rt.str(p[0])
	if err != nil {
		return nil, err
	}
	to, err := rt.str(p[1])
	if err != nil {
		return nil, err
	}
	return rt.replace(s, from, to, or(p[2], nil))
}

func filterIndent(rt *run, a *arguments) (Value, error) {
	s, p, err := textAndArgs(rt, a, "indent", "width", "first", "blank")
	if err != nil {
		return nil, err
	}
	pad, ok := or(p[0], int64(4)).(string)
	if !ok {
		if pad, err = rt.spaces(or(p[0], int64(4)), "indent width"); err != nil {
			return nil, err
		}
	}
	lines := splitLines(s+"\n", false)
	if err := rt.text(len(s) + len(lines)*(len(pad)+1)); err != nil {
		return nil, err
	}
	blank := truth(or(p[2], false))
	for i := range lines {
		if i > 0 && (blank || lines[i] != "") {
			lines[i] = pad + lines[i]
		}
	}
	out := strings.Join(lines, "\n")
	if truth(or(p[1], false)) {
		out = pad + out
	}
	return out, nil
}

// spaces makes a text of n blanks.
func (rt *run) spaces(n Value, what string) (string, error) {
	i, err := integer(n, what)
	if err != nil {
		return "", err
	}
	i = max(i, 0)
	if i > int64(rt.limits.Text) {
		return "", limitErrorf("%s of %d", what, i)
	}
	return strings.Repeat(" ", int(i)), rt.text(int(i))
}

func filterCenter(rt *run, a *arguments) (Value, error) {
	s, p, err := textAndArgs(rt, a, "center", "width")
	if err != nil {
		return nil, err
	}
	return rt.justify(s, or(p[0], int64(80)), " ", 0)
}

func filterTruncate(rt *run, a *arguments) (Value, error) {
	s, p, err := textAndArgs(rt, a, "truncate", "length", "killwords", "end", "leeway")
	if err != nil {
		return nil, err
	}
	limit, err := integer(or(p[0], int64(255)), "length")
	if err != nil {
		return nil, err
	}
	leeway, err := integer(or(p[3], int64(5)), "leeway")
	if err != nil {
		return nil, err
	}
	end, err := rt.str(or(p[2], "..."))
	if err != nil {
		return nil, err
	}
	n, keep := int64(utf8.RuneCountInString(s)), limit-int64(utf8.RuneCountInString(end))
	switch {
	case keep < 0 || leeway < 0:
		return nil, valueErrorf("truncate() to %d is shorter than its end text", limit)
	case n <= limit+leeway:
		return s, nil
	}
	s = s[:runeOffset(s, int(keep))]
	if !truth(or(p[1], false)) {
		if cut := strings.LastIndexByte(s, ' '); cut >= 0 {
			s = s[:cut]
		}
	}
	return s + end, rt.text(len(s) + len(end))
}

func filterWordCount(rt *run, a *arguments) (Value, error) {
	s, _, err := textAndArgs(rt, a, "wordcount")
	if err != nil {
		return nil, err
	}
	words := strings.FieldsFunc(s, func(r rune) bool { return !isNameRune(r) && !unicode.IsNumber(r) })
	return int64(len(words)), rt.charge(len(s) / 16)
}

func filterFormat(rt *run, a *arguments) (Value, error) {
	if len(a.positional) > 1 && len(a.names) > 0 {
		return nil, typeErrorf("format() takes positional or keyword arguments, not both")
	}
	s, err := rt.str(a.positional[0])
	if err != nil {
		return nil, err
	}
	if len(a.names) > 0 {
		d := NewDict()
		for i, name := range a.names {
			d.SetString(name, a.values[i])
		}
		return rt.percent(s, d)
	}
	return rt.percent(s, &Tuple{Items: a.positional[1:]})
}

func filterJoin(rt *run, a *arguments) (Value, error) {
	v, p, err := a.filterArgs("join", "d", "attribute")
	if err != nil {
		return nil, err
	}
	sep, err := rt.str(or(p[0], ""))
	if err != nil {
		return nil, err
	}
	items, err := rt.items(v)
	if err != nil {
		return nil, err
	}
	get := attrGetter(or(p[1], nil))
	return rt.joinText(sep, items, get, rt.str)
}

// joinText joins the texts of items; both functions see each item once.
func (rt *run) joinText(sep string, items []Value, get func(*run, Value) (Value, error), text func(Value) (string, error)) (Value, error) {
	var b strings.Builder
	for i, item := range items {
		v, err := get(rt, item)
		if err != nil {
			return nil, err
		}
		s, err := text(v)
		if err != nil {
			return nil, err
		}
		if b.Len()+len(sep)+len(s) > rt.limits.Text {
			return nil, limitErrorf("a text grows past %d bytes", rt.limits.Text)
		}
		if err := rt.charge((len(sep) + len(s)) / 64); err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

func filterToJSON(rt *run, a *arguments) (Value, error) {
	v, p, err := a.filterArgs("tojson", "ensure_ascii", "indent", "separators", "sort_keys")
	if err != nil {
		return nil, err
	}
	w := &jsonWriter{rt: rt, ascii: truth(or(p[0], false)), sortKeys: truth(or(p[3], false)), itemSep: ", ", keySep: ": "}
	if err := w.setIndent(or(p[1], nil)); err != nil {
		return nil, err
	}
	if err := w.setSeparators(or(p[2], nil)); err != nil {
		return nil, err
	}
	if err := w.write(v, 0); err != nil {
		return nil, err
	}
	return w.b.String(), w.grow()
}

func (w *jsonWriter) setIndent(v Value) error {
	if v == nil {
		return nil
	}
	w.pretty, w.itemSep = true, ","
	if s, ok := v.(string); ok {
		w.indent = s
		return nil
	}
	n, err := integer(v, "indent")
	if err != nil {
		return err
	}
	if n > 64 {
		return limitErrorf("tojson indent of %d, more than the 64 allowed", n)
	}
	w.indent = strings.Repeat(" ", int(max(n, 0)))
	return nil
}

func (w *jsonWriter) setSeparators(v Value) error {
	if v == nil {
		return nil
	}
	pair, ok := pairOf(v)
	if ok {
		var okA, okB bool
		w.itemSep, okA = pair[0].(string)
		w.keySep, okB = pair[1].(string)
		ok = okA && okB
	}
	if !ok {
		return typeErrorf("tojson separators must be a pair of texts")
	}
	return nil
}

func filterURLEncode(rt *run, a *arguments) (Value, error) {
	v, _, err := a.filterArgs("urlencode")
	if err != nil {
		return nil, err
	}
	switch v.(type) {
	case *Dict, *List, *Tuple, *view, *iterator:
	default:
		s, err := rt.str(v)
		if err != nil {
			return nil, err
		}
		return strings.ReplaceAll(quoteURL(s), "%2F", "/"), rt.text(3 * len(s))
	}
	d := NewDict()
	if err := rt.mergeInto(d, v); err != nil {
		return nil, err
	}
	return rt.joinText("&", d.pairs(), plain, func(v Value) (string, error) {
		pair := v.(*Tuple).Items
		k, err := rt.str(pair[0])
		if err != nil {
			return "", err
		}
		s, err := rt.str(pair[1])
		return strings.ReplaceAll(quoteURL(k)+"="+quoteURL(s), "%20", "+"), err
	})
}

// quoteURL is Python's quote with nothing safe but letters, digits and _.-~
func quoteURL(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// bigOrInt parses an integer text in a base from 2 to 36.
func bigOrInt(s string, base int) (Value, bool) {
	if len(s) > maxIntDigits {
		return nil, false
	}
	i, ok := new(big.Int).SetString(s, base)
	if !ok {
		return nil, false
	}
	return normalInt(i), true
}
