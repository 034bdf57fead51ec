package vocab

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// class is the set of character properties that the scanners ask for.
type class uint16

const (
	cUpper   class = 1 << iota // \p{Lu} \p{Lt}
	cLower                     // \p{Ll}
	cOtherL                    // \p{Lm} \p{Lo}
	cMark                      // \p{M}
	cNumber                    // \p{N}
	cPunct                     // \p{P}
	cSymbol                    // \p{S}
	cSpace                     // \s: White_Space
	cNewline                   // \r \n
	cHan                       // \p{Han}
	cLetter  = cUpper | cLower | cOtherL
)

// classTables lists which tables give which property.
var classTables = []struct {
	class  class
	tables []*unicode.RangeTable
}{
	{cUpper, []*unicode.RangeTable{unicode.Lu, unicode.Lt}},
	{cLower, []*unicode.RangeTable{unicode.Ll}},
	{cOtherL, []*unicode.RangeTable{unicode.Lm, unicode.Lo}},
	{cMark, []*unicode.RangeTable{unicode.M}},
	{cNumber, []*unicode.RangeTable{unicode.N}},
	{cPunct, []*unicode.RangeTable{unicode.P}},
	{cSymbol, []*unicode.RangeTable{unicode.S}},
	{cSpace, []*unicode.RangeTable{unicode.White_Space}},
	{cHan, []*unicode.RangeTable{unicode.Han}},
}

// basicClasses are the properties of the basic plane; the other planes are rare enough to be searched for.
var basicClasses = sync.OnceValue(func() *[1 << 16]class {
	t := new([1 << 16]class)
	for _, c := range classTables {
		for _, table := range c.tables {
			for _, r := range table.R16 {
				for x := uint32(r.Lo); x <= uint32(r.Hi); x += uint32(r.Stride) {
					t[x] |= c.class
				}
			}
		}
	}
	t['\r'] |= cNewline
	t['\n'] |= cNewline
	return t
})

func classOf(r rune) class {
	if uint32(r) < 1<<16 {
		return basicClasses()[r]
	}
	var out class
	for _, c := range classTables {
		if unicode.In(r, c.tables...) {
			out |= c.class
		}
	}
	return out
}

// at is the character of s at i: its properties and its length in bytes, 0 at the end. A byte that is part of no
// character is one with no property.
func at(s string, i int) (r rune, c class, n int) {
	if i >= len(s) {
		return 0, 0, 0
	}
	if b := s[i]; b < utf8.RuneSelf {
		return rune(b), basicClasses()[b], 1
	}
	r, n = utf8.DecodeRuneInString(s[i:])
	return r, classOf(r), n
}

// run is the end of the characters from i on that have any of the properties.
func run(s string, i int, any class) int {
	for {
		_, c, n := at(s, i)
		if n == 0 || c&any == 0 {
			return i
		}
		i += n
	}
}

// runNot is the end of the characters from i on that have none of the properties.
func runNot(s string, i int, none class) int {
	for {
		_, c, n := at(s, i)
		if n == 0 || c&none != 0 {
			return i
		}
		i += n
	}
}

// lastClass is the properties of the last character of s, none if s is empty.
func lastClass(s string) class {
	if s == "" {
		return 0
	}
	r, _ := utf8.DecodeLastRuneInString(s)
	return classOf(r)
}
