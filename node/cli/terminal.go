package cli

import (
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"
)

// terminal is stdout or stderr: a screen or a file.
type terminal struct {
	w    io.Writer
	fd   uintptr
	tty  bool
	wide int // columns, for tests; 0: ask
}

func newTerminal(w io.Writer) *terminal {
	t := &terminal{w: w}
	if f, ok := w.(*os.File); ok {
		t.fd, t.tty = f.Fd(), term.IsTerminal(f.Fd())
	}
	return t
}

func (t *terminal) Write(p []byte) (int, error) { return t.w.Write(p) }

// width is how many columns a line may have.
func (t *terminal) width() int {
	if t.wide > 0 {
		return t.wide
	}
	if t.tty {
		if w, _, err := term.GetSize(t.fd); err == nil && w >= 40 {
			return w
		}
	}
	return 80
}

// isTerminal says whether a person types at r.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

// clean makes text of other machines harmless on a screen: one line, no
// control characters.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, ansi.Strip(s))
}

// cleanLines is clean for a text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = clean(l)
	}
	return strings.Join(lines, "\n")
}

// oneLine is an error's text on one line.
func oneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	return clean(strings.Join(lines, "; "))
}

// safe passes a reply's text on without the control characters that would
// steer a screen. It is for terminals; files get the bytes as they are.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !unicode.IsControl(r) {
			return r
		}
		return -1
	}, s)
}
