package jinja

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// expression reads one token of an expression, or the white space before it.
func (lx *lexer) expression() error {
	if end := skipSpace(lx.src, lx.pos); end > lx.pos {
		lx.advance(end)
		return nil
	}
	r, _ := utf8.DecodeRuneInString(lx.src[lx.pos:])
	switch {
	case r == '\'' || r == '"':
		return lx.quoted(byte(r))
	case r >= '0' && r <= '9':
		return lx.numeral()
	case isNameRune(r):
		end := lx.pos
		for end < len(lx.src) {
			r, n := utf8.DecodeRuneInString(lx.src[end:])
			if !isNameRune(r) {
				break
			}
			end += n
		}
		lx.emit(tokName, lx.src[lx.pos:end])
		lx.advance(end)
		return nil
	}
	return lx.operator()
}

func isNameRune(r rune) bool {
	return r == '_' || r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

func (lx *lexer) quoted(q byte) error {
	for i := lx.pos + 1; i < len(lx.src); i++ {
		switch lx.src[i] {
		case '\\':
			i++
		case q:
			text, err := unescape(lx.src[lx.pos+1 : i])
			if err != "" {
				return syntaxErrorf(lx.line, "string literal: %s", err)
			}
			lx.emit(tokString, text)
			lx.advance(i + 1)
			return nil
		}
	}
	return syntaxErrorf(lx.line, "string literal that starts with %c is never closed", q)
}

var simpleEscapes = map[byte]string{
	'\n': "", '\\': "\\", '\'': "'", '"': "\"", 'a': "\a", 'b': "\b",
	'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
}

// unescape decodes Python's string escapes; unknown ones stay as they are.
func unescape(s string) (text, problem string) {
	if !strings.Contains(s, "\\") {
		return s, ""
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		c := s[i]
		if plain, ok := simpleEscapes[c]; ok {
			b.WriteString(plain)
			continue
		}
		digits, base := 0, 16
		switch {
		case c == 'x':
			digits = 2
		case c == 'u':
			digits = 4
		case c == 'U':
			digits = 8
		case c >= '0' && c <= '7':
			base, i = 8, i-1
			for digits < 3 && i+1+digits < len(s) && s[i+1+digits] >= '0' && s[i+1+digits] <= '7' {
				digits++
			}
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
			continue
		}
		if i+1+digits > len(s) {
			return "", "truncated \\" + string(c) + " escape"
		}
		code, err := strconv.ParseUint(s[i+1:i+1+digits], base, 32)
		if err != nil || code > unicode.MaxRune {
			return "", "invalid \\" + string(c) + " escape"
		}
		b.WriteRune(rune(code))
		i += digits
	}
	return b.String(), ""
}

// digitsEnd skips decimal digits with single underscores between them.
func digitsEnd(s string, pos int, isDigit func(byte) bool) int {
	for pos < len(s) {
		if !isDigit(s[pos]) && !(s[pos] == '_' && pos+1 < len(s) && isDigit(s[pos+1])) {
			break
		}
		pos++
	}
	return pos
}

func isDecimal(c byte) bool { return c >= '0' && c <= '9' }

func isHex(c byte) bool {
	return isDecimal(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func isOctal(c byte) bool  { return c >= '0' && c <= '7' }
func isBinary(c byte) bool { return c == '0' || c == '1' }

func (lx *lexer) numeral() error {
	s, pos := lx.src, lx.pos
	if s[pos] == '0' && pos+1 < len(s) {
		class := map[byte]func(byte) bool{'x': isHex, 'o': isOctal, 'b': isBinary}[s[pos+1]|0x20]
		if class != nil {
			if end := digitsEnd(s, pos+2, class); end > pos+2 {
				lx.number(tokInt, end)
				return nil
			}
		}
	}
	end, kind := digitsEnd(s, pos, isDecimal), tokInt
	// A digit run after a dot is an item number, as in a.0.1, never a fraction.
	afterDot := pos > 0 && s[pos-1] == '.'
	if !afterDot {
		if end+1 < len(s) && s[end] == '.' && isDecimal(s[end+1]) {
			end, kind = digitsEnd(s, end+1, isDecimal), tokFloat
		}
		if exp := exponentEnd(s, end); exp > end {
			end, kind = exp, tokFloat
		}
	}
	if kind == tokInt && end > pos+1 && s[pos] == '0' && strings.Trim(s[pos:end], "0_") != "" {
		return syntaxErrorf(lx.line, "number %s starts with a zero", s[pos:end])
	}
	lx.number(kind, end)
	return nil
}

func exponentEnd(s string, pos int) int {
	if pos >= len(s) || s[pos]|0x20 != 'e' {
		return pos
	}
	from := pos + 1
	if from < len(s) && (s[from] == '+' || s[from] == '-') {
		from++
	}
	if end := digitsEnd(s, from, isDecimal); end > from {
		return end
	}
	return pos
}

func (lx *lexer) number(kind tokenKind, end int) {
	lx.emit(kind, strings.ReplaceAll(lx.src[lx.pos:end], "_", ""))
	lx.advance(end)
}

var closers = map[string]byte{"(": ')', "[": ']', "{": '}'}

func (lx *lexer) operator() error {
	rest := lx.src[lx.pos:]
	op := ""
	for _, two := range []string{"//", "**", "==", "!=", ">=", "<="} {
		if strings.HasPrefix(rest, two) {
			op = two
		}
	}
	if op == "" {
		if !strings.ContainsRune("+-/*%~[](){}><=.:|,;", rune(rest[0])) {
			r, _ := utf8.DecodeRuneInString(rest)
			return syntaxErrorf(lx.line, "unexpected character %q", r)
		}
		op = rest[:1]
	}
	if c, ok := closers[op]; ok {
		lx.brackets = append(lx.brackets, c)
	} else if op == ")" || op == "]" || op == "}" {
		n := len(lx.brackets)
		if n == 0 {
			return syntaxErrorf(lx.line, "unexpected '%s'", op)
		}
		if want := lx.brackets[n-1]; want != op[0] {
			return syntaxErrorf(lx.line, "unexpected '%s', expected '%c'", op, want)
		}
		lx.brackets = lx.brackets[:n-1]
	}
	lx.emit(tokOp, op)
	lx.advance(lx.pos + len(op))
	return nil
}
