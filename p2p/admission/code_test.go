package admission_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/p2p/admission"
)

func TestACodeIsReadAsPeopleTypeIt(t *testing.T) {
	for range 200 {
		c := admission.NewCode()
		s := c.String()
		plain := strings.ReplaceAll(s, "-", "")
		typed := strings.NewReplacer("0", "o", "1", "l").Replace(strings.ToLower(plain))
		for _, text := range []string{s, plain, strings.ToLower(s), " " + s + " ", typed} {
			if got, err := admission.ParseCode(text); err != nil || got != c {
				t.Fatalf("%q of %s gives %v, %v", text, s, got, err)
			}
		}
		if c.Slot() != plain[:2] {
			t.Fatalf("slot %s of %s", c.Slot(), s)
		}
	}
}

func TestOneWrongCharacterOfACodeIsNoticed(t *testing.T) {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	s := strings.ReplaceAll(admission.NewCode().String(), "-", "")
	for i := range s {
		for _, r := range alphabet {
			wrong := s[:i] + string(r) + s[i+1:]
			if _, err := admission.ParseCode(wrong); wrong != s && !errors.Is(err, admission.ErrCodeForm) {
				t.Fatalf("%s for %s: %v", wrong, s, err)
			}
		}
	}
	for _, text := range []string{"", "K7", "K7QX-4MB!", "UUUU-UUUU", strings.Repeat("A", 9), strings.Repeat("-", 1000)} {
		if _, err := admission.ParseCode(text); !errors.Is(err, admission.ErrCodeForm) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCodesDiffer(t *testing.T) {
	seen := map[admission.Code]bool{}
	for range 1000 {
		seen[admission.NewCode()] = true
	}
	if len(seen) < 999 {
		t.Errorf("%d of 1000 codes differ", len(seen))
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add(admission.NewCode().String())
	f.Add("k7qx4mbd")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := admission.ParseCode(s)
		if err != nil {
			return
		}
		if again, err := admission.ParseCode(c.String()); err != nil || again != c {
			t.Fatalf("%q became %v and %v, %v", s, c, again, err)
		}
	})
}
