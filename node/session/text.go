package session

import "strings"

// Decoder turns token ids into text and holds incomplete characters back
// (vocab.Decoder is one).
type Decoder interface {
	Push(id int32) string
	Flush() string
}

// Text turns committed tokens into text, stops at stop strings, and holds text
// back for as long as it may be the beginning of one. It is pure.
type Text struct {
	dec     Decoder
	stops   []string
	longest int
	all     strings.Builder
	pending string // decoded, not yet released
	stopped bool
}

// NewText makes a Text. Empty stop strings are ignored.
func NewText(dec Decoder, stops []string) *Text {
	t := &Text{dec: dec}
	for _, s := range stops {
		if s != "" {
			t.stops = append(t.stops, s)
			t.longest = max(t.longest, len(s))
		}
	}
	return t
}

// Push adds a token and gives the text that may be shown now. stopped tells
// that a stop string was met; neither it nor what follows it is ever given.
func (t *Text) Push(id int32) (delta string, stopped bool) {
	if t.stopped {
		return "", true
	}
	return t.add(t.dec.Push(id))
}

func (t *Text) add(s string) (string, bool) {
	t.pending += s
	if at := t.find(); at >= 0 {
		t.stopped = true
		return t.release(at), true
	}
	return t.release(len(t.pending) - t.partial()), false
}

// find is where the earliest stop string begins, or -1.
func (t *Text) find() int {
	at := -1
	for _, s := range t.stops {
		if i := strings.Index(t.pending, s); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	return at
}

// partial is the length of the longest end of pending that begins a stop string.
func (t *Text) partial() int {
	for n := min(t.longest-1, len(t.pending)); n > 0; n-- {
		end := t.pending[len(t.pending)-n:]
		for _, s := range t.stops {
			if len(s) > n && s[:n] == end {
				return n
			}
		}
	}
	return 0
}

func (t *Text) release(n int) string {
	out := t.pending[:n]
	t.pending = t.pending[n:]
	t.all.WriteString(out)
	return out
}

// Flush gives what was held back; the reply has ended without a stop string.
func (t *Text) Flush() string {
	if t.stopped {
		return ""
	}
	delta, stopped := t.add(t.dec.Flush())
	if stopped {
		return delta
	}
	return delta + t.release(len(t.pending))
}

// String is all text given so far.
func (t *Text) String() string { return t.all.String() }
