package vocab

import (
	"strings"
	"unicode"
)

// A scanner matches one alternative of a pre-tokenizer's regular expression at position i of s: it returns the end of
// the match, which is greater than i, or -1. Each is written so that it takes time in proportion to what it looks at.
type scanner func(s string, i int) int

// firstOf tries alternatives in order, as | does.
func firstOf(alternatives ...scanner) scanner {
	return func(s string, i int) int {
		for _, a := range alternatives {
			if end := a(s, i); end >= 0 {
				return end
			}
		}
		return -1
	}
}

// contraction matches 's 't 're 've 'm 'll 'd; with fold also in upper case.
func contraction(fold bool) scanner {
	return func(s string, i int) int {
		if i+1 >= len(s) || s[i] != '\'' {
			return -1
		}
		a, b := s[i+1], byte(0)
		if i+2 < len(s) {
			b = s[i+2]
		}
		if fold {
			a, b = asciiLower(a), asciiLower(b)
		}
		switch {
		case a == 's' || a == 't' || a == 'm' || a == 'd':
			return i + 2
		case b == 'e' && (a == 'r' || a == 'v'), a == 'l' && b == 'l':
			return i + 3
		}
		return -1
	}
}

func asciiLower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// spaced matches " ?" and one or more characters with any of the properties.
func spaced(any class) scanner {
	return func(s string, i int) int {
		from := i
		if s[i] == ' ' {
			from++
		}
		if end := run(s, from, any); end > from {
			return end
		}
		return -1
	}
}

// anySpaced is spaced with any one white space character instead of the space: \s?X+.
func anySpaced(inside func(rune, class) bool) scanner {
	return func(s string, i int) int {
		from := i
		if r, c, n := at(s, i); c&cSpace != 0 && !inside(r, c) {
			from += n
		}
		if end := runFunc(s, from, inside); end > from {
			return end
		}
		return -1
	}
}

// spacedOther matches " ?[^...]+" and then any number of the ASCII characters in tail.
func spacedOther(none class, tail string) scanner {
	return func(s string, i int) int {
		from := i
		if s[i] == ' ' {
			from++
		}
		end := runNot(s, from, none)
		if end == from {
			return -1
		}
		return trailing(s, end, tail)
	}
}

// spacedRun matches " ?X+" and then any number of the ASCII characters in tail.
func spacedRun(any class, tail string) scanner {
	inner := spaced(any)
	return func(s string, i int) int {
		end := inner(s, i)
		if end < 0 {
			return -1
		}
		return trailing(s, end, tail)
	}
}

func trailing(s string, end int, tail string) int {
	for end < len(s) && strings.IndexByte(tail, s[end]) >= 0 {
		end++
	}
	return end
}

// prefixed matches "[^...]?X+": one character with none of the properties not, if it helps, and then those with any of
// the properties.
func prefixed(not, any class) scanner {
	return func(s string, i int) int {
		if _, c, n := at(s, i); c&not == 0 {
			if end := run(s, i+n, any); end > i+n {
				return end
			}
		}
		if end := run(s, i, any); end > i {
			return end
		}
		return -1
	}
}

// numbers matches one to limit characters of \p{N}; limit 0 is no limit.
func numbers(limit int) scanner {
	return func(s string, i int) int {
		end := i
		for k := 0; limit == 0 || k < limit; k++ {
			_, c, n := at(s, end)
			if c&cNumber == 0 {
				break
			}
			end += n
		}
		if end == i {
			return -1
		}
		return end
	}
}

// newlines matches \s*[\r\n]+: white space up to and with the last line end of the run.
func newlines(s string, i int) int {
	last := -1
	for {
		_, c, n := at(s, i)
		if c&cSpace == 0 {
			return last
		}
		i += n
		if c&cNewline != 0 {
			last = i
		}
	}
}

// spaces matches \s+(?!\S)|\s+: white space, but the last character is left to the word that follows.
func spaces(s string, i int) int {
	end, before := i, i
	for {
		_, c, n := at(s, end)
		if c&cSpace == 0 {
			break
		}
		before = end
		end += n
	}
	switch {
	case end == i:
		return -1
	case end == len(s) || before == i:
		return end
	}
	return before
}

// casedWord matches words that begin with capitals and go on in small letters, the way the o200k family cuts camelCase:
// [^\r\n\p{L}\p{N}]?U*W+ or [^\r\n\p{L}\p{N}]?U+W*, with U capitals and W small letters and uncased letters and marks in
// both. With suffix a contraction belongs to the word; with noHan Chinese characters are no letters.
func casedWord(suffix, noHan bool) scanner {
	short := contraction(true)
	return func(s string, i int) int {
		_, c, n := at(s, i)
		starts := [2]int{i + n, i}
		from := 1
		if c&(cNewline|cLetter|cNumber) == 0 {
			from = 0
		}
		for _, body := range []func(string, int, bool) int{upThenLow, upOnly} {
			for _, start := range starts[from:] {
				end := body(s, start, noHan)
				if end < 0 {
					continue
				}
				if suffix {
					end = max(end, short(s, end))
				}
				return end
			}
		}
		return -1
	}
}

const (
	upSet  = cUpper | cOtherL | cMark
	lowSet = cLower | cOtherL | cMark
)

// casedRun is run, which a Chinese character ends if noHan; last is the end of its last character of lowSet, or -1.
func casedRun(s string, i int, any class, noHan bool) (end, last int) {
	last = -1
	for {
		_, c, n := at(s, i)
		if c&any == 0 || noHan && c&cHan != 0 {
			return i, last
		}
		i += n
		if c&lowSet != 0 {
			last = i
		}
	}
}

// upThenLow matches U*W+. Where no W follows the capitals, characters that are both are given back.
func upThenLow(s string, i int, noHan bool) int {
	end, last := casedRun(s, i, upSet, noHan)
	if more, _ := casedRun(s, end, lowSet, noHan); more > end {
		return more
	}
	return last
}

// upOnly matches U+W* where upThenLow did not match, so that no W can follow.
func upOnly(s string, i int, noHan bool) int {
	if end, _ := casedRun(s, i, upSet, noHan); end > i {
		return end
	}
	return -1
}

// markedWord matches an ASCII punctuation mark and the ASCII letters behind it.
func markedWord(s string, i int) int {
	if !asciiPunct(rune(s[i])) {
		return -1
	}
	end := i + 1
	for end < len(s) && asciiLower(s[end]) >= 'a' && asciiLower(s[end]) <= 'z' {
		end++
	}
	if end == i+1 {
		return -1
	}
	return end
}

func asciiPunct(r rune) bool {
	return r >= '!' && r <= '/' || r >= ':' && r <= '@' || r >= '[' && r <= '`' || r >= '{' && r <= '~'
}

// runFunc is the end of the characters from i on that are inside.
func runFunc(s string, i int, inside func(rune, class) bool) int {
	for {
		r, c, n := at(s, i)
		if n == 0 || !inside(r, c) {
			return i
		}
		i += n
	}
}

// runOf matches one or more characters that are inside.
func runOf(inside func(rune, class) bool) scanner {
	return func(s string, i int) int {
		if end := runFunc(s, i, inside); end > i {
			return end
		}
		return -1
	}
}

// spacedRunOf matches " ?X+".
func spacedRunOf(inside func(rune, class) bool) scanner {
	body := runOf(inside)
	return func(s string, i int) int {
		if s[i] == ' ' {
			if end := body(s, min(i+1, len(s))); end >= 0 {
				return end
			}
		}
		return body(s, i)
	}
}

func inClass(any class) func(rune, class) bool {
	return func(_ rune, c class) bool { return c&any != 0 }
}

func inTable(t *unicode.RangeTable) func(rune, class) bool {
	return func(r rune, _ class) bool { return unicode.Is(t, r) }
}

func inSet(set string) func(rune, class) bool {
	return func(r rune, _ class) bool { return strings.ContainsRune(set, r) }
}
