package jinja

import (
	"strings"
	"unicode/utf8"
)

var splitMethods = map[string]stringMethod{
	"split":      splitMethod("split", false),
	"rsplit":     splitMethod("rsplit", true),
	"splitlines": stringSplitLines,
	"partition":  partitionMethod("partition", false),
	"rpartition": partitionMethod("rpartition", true),
	"join": func(rt *run, s string, a *arguments) (Value, error) {
		p, err := a.bind("join", 1, "items")
		if err != nil {
			return nil, err
		}
		items, err := rt.items(p[0])
		if err != nil {
			return nil, err
		}
		return rt.joinText(s, items, plain, func(v Value) (string, error) { return text(v, "join() items") })
	},
}

func splitMethod(name string, fromRight bool) stringMethod {
	return func(rt *run, s string, a *arguments) (Value, error) {
		p, err := a.bind(name, 0, "sep", "maxsplit")
		if err != nil {
			return nil, err
		}
		limit, err := integer(or(p[1], int64(-1)), "maxsplit")
		if err != nil {
			return nil, err
		}
		n := int(min(limit, int64(len(s)+1)))
		if limit < 0 {
			n = len(s) + 1
		}
		if err := rt.charge(len(s) / 4); err != nil {
			return nil, err
		}
		var parts []string
		if sep := or(p[0], nil); sep == nil {
			parts = splitSpace(s, n, fromRight)
		} else {
			mark, err := text(sep, "separator")
			if err != nil {
				return nil, err
			}
			if mark == "" {
				return nil, valueErrorf("empty separator")
			}
			parts = splitMark(s, mark, n, fromRight)
		}
		return textList(parts), rt.made(len(parts))
	}
}

func textList(parts []string) *List {
	l := &List{Items: make([]Value, len(parts))}
	for i, s := range parts {
		l.Items[i] = s
	}
	return l
}

// splitMark cuts s at most n times.
func splitMark(s, mark string, n int, fromRight bool) []string {
	if !fromRight {
		return strings.SplitN(s, mark, n+1)
	}
	var parts []string
	for ; n > 0; n-- {
		i := strings.LastIndex(s, mark)
		if i < 0 {
			break
		}
		parts = append(parts, s[i+len(mark):])
		s = s[:i]
	}
	parts = append(parts, s)
	reverseTexts(parts)
	return parts
}

func reverseTexts(parts []string) {
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
}

// splitSpace splits at runs of white space; the part beyond the last cut keeps its
// inner white space.
func splitSpace(s string, n int, fromRight bool) []string {
	var parts []string
	for {
		if fromRight {
			s = strings.TrimRightFunc(s, isSpace)
		} else {
			s = strings.TrimLeftFunc(s, isSpace)
		}
		if s == "" {
			break
		}
		cut := -1
		if n > 0 {
			if fromRight {
				cut = strings.LastIndexFunc(s, isSpace)
			} else {
				cut = strings.IndexFunc(s, isSpace)
			}
		}
		if cut < 0 {
			parts = append(parts, s)
			break
		}
		n--
		if fromRight {
			_, size := utf8.DecodeRuneInString(s[cut:])
			parts, s = append(parts, s[cut+size:]), s[:cut]
		} else {
			parts, s = append(parts, s[:cut]), s[cut:]
		}
	}
	if fromRight {
		reverseTexts(parts)
	}
	return parts
}

// splitLines is str.splitlines.
func splitLines(s string, keepEnds bool) []string {
	var lines []string
	for s != "" {
		i := strings.IndexFunc(s, isLineBreak)
		if i < 0 {
			return append(lines, s)
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		if strings.HasPrefix(s[i:], "\r\n") {
			size = 2
		}
		end := i
		if keepEnds {
			end = i + size
		}
		lines, s = append(lines, s[:end]), s[i+size:]
	}
	return lines
}

func isLineBreak(r rune) bool {
	switch r {
	case '\n', '\r', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		return true
	}
	return false
}

func stringSplitLines(rt *run, s string, a *arguments) (Value, error) {
	p, err := a.bind("splitlines", 0, "keepends")
	if err != nil {
		return nil, err
	}
	if err := rt.charge(len(s) / 4); err != nil {
		return nil, err
	}
	lines := splitLines(s, truth(or(p[0], false)))
	return textList(lines), rt.made(len(lines))
}

func partitionMethod(name string, fromRight bool) stringMethod {
	return func(_ *run, s string, a *arguments) (Value, error) {
		sep, err := oneText(name, a)
		if err != nil {
			return nil, err
		}
		if sep == "" {
			return nil, valueErrorf("empty separator")
		}
		i := strings.Index(s, sep)
		if fromRight {
			i = strings.LastIndex(s, sep)
		}
		parts := []Value{s, "", ""}
		switch {
		case i >= 0:
			parts = []Value{s[:i], sep, s[i+len(sep):]}
		case fromRight:
			parts = []Value{"", "", s}
		}
		return &Tuple{Items: parts}, nil
	}
}
