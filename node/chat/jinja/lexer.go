package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEOF tokenKind = iota
	tokData
	tokVarBegin
	tokVarEnd
	tokBlockBegin
	tokBlockEnd
	tokName
	tokInt
	tokFloat
	tokString
	tokOp
)

type token struct {
	kind tokenKind
	text string // for strings: the unescaped value
	line int
}

func (t token) String() string {
	switch t.kind {
	case tokEOF:
		return "end of template"
	case tokVarEnd:
		return "end of print statement"
	case tokBlockEnd:
		return "end of statement block"
	}
	return "'" + t.text + "'"
}

// lexer splits a template into tokens. It follows Jinja's own rules for whitespace
// around tags with trim_blocks and lstrip_blocks on.
type lexer struct {
	src  string
	pos  int
	line int
	out  []token
	// lineStart says whether the last match ended with a newline, so that a tag
	// with only blanks before it counts as standing alone on its line.
	lineStart bool
	brackets  []byte // closing brackets owed by the current tag
}

func lex(src string) ([]token, error) {
	src = normalizeNewlines(src)
	src = strings.TrimSuffix(src, "\n")
	lx := &lexer{src: src, line: 1, lineStart: true}
	for lx.pos < len(lx.src) {
		if err := lx.root(); err != nil {
			return nil, err
		}
	}
	return append(lx.out, token{kind: tokEOF, line: lx.line}), nil
}

func normalizeNewlines(s string) string {
	if !strings.Contains(s, "\r") {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// isSpace is Python's notion of white space in str methods and in \s.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func skipSpace(s string, pos int) int {
	for pos < len(s) {
		r, n := utf8.DecodeRuneInString(s[pos:])
		if !isSpace(r) {
			break
		}
		pos += n
	}
	return pos
}

// advance moves to end and counts the lines passed.
func (lx *lexer) advance(end int) {
	lx.line += strings.Count(lx.src[lx.pos:end], "\n")
	lx.lineStart = end > lx.pos && lx.src[end-1] == '\n'
	lx.pos = end
}

func (lx *lexer) emit(kind tokenKind, text string) {
	lx.out = append(lx.out, token{kind: kind, text: text, line: lx.line})
}

// root reads template text up to the next tag, then the tag.
func (lx *lexer) root() error {
	start := lx.pos
	tag := nextTag(lx.src, start)
	if tag < 0 {
		lx.emit(tokData, lx.src[start:])
		lx.advance(len(lx.src))
		return nil
	}
	body := tag + 2
	var strip byte
	if body < len(lx.src) && (lx.src[body] == '-' || lx.src[body] == '+') {
		strip = lx.src[body]
		body++
	}
	kind := lx.src[tag+1]
	if text := lx.stripText(lx.src[start:tag], strip, kind == '{'); text != "" {
		lx.emit(tokData, text)
	}
	if kind == '%' {
		if end, ok := rawBegin(lx.src, body); ok {
			lx.advance(end)
			return lx.raw()
		}
	}
	lx.advance(body)
	switch kind {
	case '#':
		return lx.comment()
	case '{':
		return lx.tag(tokVarBegin, tokVarEnd)
	}
	return lx.tag(tokBlockBegin, tokBlockEnd)
}

func nextTag(s string, from int) int {
	for i := from; i+1 < len(s); i++ {
		j := strings.IndexByte(s[i:], '{')
		if j < 0 || i+j+1 >= len(s) {
			return -1
		}
		i += j
		if c := s[i+1]; c == '{' || c == '%' || c == '#' {
			return i
		}
	}
	return -1
}

// stripText applies the white space control of the tag that follows text.
func (lx *lexer) stripText(text string, strip byte, isPrint bool) string {
	switch {
	case strip == '-':
		return strings.TrimRightFunc(text, isSpace)
	case strip == '+' || isPrint:
		return text
	}
	at := strings.LastIndexByte(text, '\n') + 1
	if (at > 0 || lx.lineStart) && skipSpace(text, at) == len(text) {
		return text[:at]
	}
	return text
}

// rawBegin matches "raw %}" after a block start and returns where it ends.
func rawBegin(s string, pos int) (end int, ok bool) {
	pos = skipSpace(s, pos)
	if !strings.HasPrefix(s[pos:], "raw") {
		return 0, false
	}
	pos = skipSpace(s, pos+3)
	if strings.HasPrefix(s[pos:], "%}") {
		return pos + 2, true
	}
	if strings.HasPrefix(s[pos:], "-%}") {
		return skipSpace(s, pos+3), true
	}
	return 0, false
}

func (lx *lexer) raw() error {
	for from := lx.pos; ; {
		i := strings.Index(lx.src[from:], "{%")
		if i < 0 {
			return syntaxErrorf(lx.line, "missing end of raw directive: add {%% endraw %%}")
		}
		tag := from + i
		from = tag + 2
		pos, strip := from, byte(0)
		if pos < len(lx.src) && (lx.src[pos] == '-' || lx.src[pos] == '+') {
			strip = lx.src[pos]
			pos++
		}
		pos = skipSpace(lx.src, pos)
		if !strings.HasPrefix(lx.src[pos:], "endraw") {
			continue
		}
		end := blockEnd(lx.src, skipSpace(lx.src, pos+len("endraw")), "%}")
		if end < 0 {
			continue
		}
		if text := lx.stripText(lx.src[lx.pos:tag], strip, false); text != "" {
			lx.emit(tokData, text)
		}
		lx.advance(end)
		return nil
	}
}

// blockEnd matches the end of a block or comment at pos, with its white space
// control; it returns -1 when there is none.
func blockEnd(s string, pos int, mark string) int {
	rest := s[pos:]
	switch {
	case strings.HasPrefix(rest, "+"+mark):
		return pos + 1 + len(mark)
	case strings.HasPrefix(rest, "-"+mark):
		return skipSpace(s, pos+1+len(mark))
	case strings.HasPrefix(rest, mark+"\n"):
		return pos + len(mark) + 1
	case strings.HasPrefix(rest, mark):
		return pos + len(mark)
	}
	return -1
}

func (lx *lexer) comment() error {
	i := strings.Index(lx.src[lx.pos:], "#}")
	if i < 0 {
		return syntaxErrorf(lx.line, "missing end of comment tag: add #}")
	}
	at := lx.pos + i
	if i > 0 && (lx.src[at-1] == '-' || lx.src[at-1] == '+') {
		at--
	}
	lx.advance(blockEnd(lx.src, at, "#}"))
	return nil
}

// tag reads the expression tokens of one {{ }} or {% %}.
func (lx *lexer) tag(begin, end tokenKind) error {
	lx.emit(begin, "")
	lx.brackets = lx.brackets[:0]
	for {
		if len(lx.brackets) == 0 {
			if stop := lx.tagEnd(end); stop >= 0 {
				lx.emit(end, "")
				lx.advance(stop)
				return nil
			}
		}
		if lx.pos >= len(lx.src) {
			// The parser names the construct that is still open.
			return nil
		}
		if err := lx.expression(); err != nil {
			return err
		}
	}
}

func (lx *lexer) tagEnd(end tokenKind) int {
	if end == tokBlockEnd {
		return blockEnd(lx.src, lx.pos, "%}")
	}
	rest := lx.src[lx.pos:]
	switch {
	case strings.HasPrefix(rest, "-}}"):
		return skipSpace(lx.src, lx.pos+3)
	case strings.HasPrefix(rest, "}}"):
		return lx.pos + 2
	}
	return -1
}
