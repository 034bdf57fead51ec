package admission

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const maxNameLen = 64

// CleanName makes a foreign name fit for display: printable, at most 64
// bytes, whole runes.
func CleanName(s string) string { return Printable(s, maxNameLen) }

// Printable drops what a terminal should not get from a foreign text and cuts
// it to limit bytes at a rune's border.
func Printable(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
