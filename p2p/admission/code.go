package admission

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
)

// codeAlphabet has no letter that is mistaken for a digit or another letter.
const codeAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const (
	codeSize = 8
	slotSize = 2
)

// ErrCodeForm means that a code was mistyped; it does not spend the code.
var ErrCodeForm = errors.New("this is not a code as `weft up` shows it")

// Code is what a machine shows that wants to be let in: two characters that
// tell it from others that wait and are sent in clear, five that are secret
// (25 bits, which is enough because one attempt spends a code), and one that
// catches a typing error. Each value is a place in codeAlphabet.
type Code [codeSize]byte

// NewCode makes a random code.
func NewCode() Code {
	var c Code
	_, _ = rand.Read(c[:codeSize-1]) // never fails; see crypto/rand
	for i := range c {
		c[i] %= byte(len(codeAlphabet)) // 32 divides 256: all are equally likely
	}
	c[codeSize-1] = c.check()
	return c
}

// check is the code's last character by the Luhn algorithm modulo 32: it
// differs when one character is wrong or two neighbours are exchanged.
func (c Code) check() byte {
	const n = len(codeAlphabet)
	sum := 0
	for i := range codeSize - 1 {
		v := int(c[codeSize-2-i])
		if i%2 == 0 {
			v = 2*v/n + 2*v%n
		}
		sum += v
	}
	return byte((n - sum%n) % n)
}

// String writes the code for people, in two groups.
func (c Code) String() string {
	s := c.text()
	return s[:codeSize/2] + "-" + s[codeSize/2:]
}

func (c Code) text() string {
	var b strings.Builder
	for _, v := range c {
		b.WriteByte(codeAlphabet[v])
	}
	return b.String()
}

// Slot is the part of the code that is no secret.
func (c Code) Slot() string { return c.text()[:slotSize] }

// ParseCode reads a code as a person types it: in any case, with or without
// the hyphen, O for 0 and I or L for 1.
func ParseCode(s string) (Code, error) {
	var c Code
	if len(s) > 4*codeSize {
		return c, fmt.Errorf("%w: it has %d characters", ErrCodeForm, len(s))
	}
	s = strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(s))
	if len(s) != codeSize {
		return c, fmt.Errorf("%w: it has %d characters, not %d", ErrCodeForm, len(s), codeSize)
	}
	for i := range c {
		v := strings.IndexByte(codeAlphabet, s[i])
		if v < 0 {
			return c, fmt.Errorf("%w: no code has the character %q", ErrCodeForm, s[i])
		}
		c[i] = byte(v)
	}
	if c[codeSize-1] != c.check() {
		return c, fmt.Errorf("%w: a character is wrong; compare it with the new machine's screen", ErrCodeForm)
	}
	return c, nil
}

// slotForm says whether a foreign text has the form of a slot.
func slotForm(s string) bool {
	return len(s) == slotSize && strings.Trim(s, codeAlphabet) == ""
}
