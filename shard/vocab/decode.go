package vocab

import (
	"strings"
	"unicode/utf8"
)

// DecodeOptions says how tokens become text.
type DecodeOptions struct {
	// Special writes control tokens by their name; otherwise they are left out.
	Special bool
	// WholeText says that the tokens are a text of their own, not the continuation of another: the space that a
	// SentencePiece vocabulary puts before each text is taken away again.
	WholeText bool
}

// Decode is the text of tokens, byte for byte: what one token leaves of a character and the next completes is whole in
// the result, but tokens of a model's own choosing need not give valid UTF-8. Ids outside the vocabulary give nothing.
func (v *Vocab) Decode(ids []int32, o DecodeOptions) string {
	return string(v.AppendDecode(nil, ids, o))
}

// AppendDecode appends the text of ids to dst.
func (v *Vocab) AppendDecode(dst []byte, ids []int32, o DecodeOptions) []byte {
	begun := !o.WholeText || !v.stripsPrefix
	for _, id := range ids {
		p := v.visible(id, o.Special)
		if !begun {
			p, begun = v.withoutPrefix(id, p)
		}
		dst = append(dst, p...)
	}
	return dst
}

// visible is what a token adds to a text.
func (v *Vocab) visible(id int32, special bool) string {
	if !special && v.has(id, attrControl|attrUnknown) {
		return ""
	}
	return v.Piece(id)
}

// withoutPrefix takes the space away that encoding put before a text. It is on the first token that is no control token;
// where the vocabulary drops extra space, all space counts. begun says that no space is to be looked for any more.
func (v *Vocab) withoutPrefix(id int32, piece string) (rest string, begun bool) {
	if v.IsControl(id) {
		return piece, false
	}
	if e, ok := v.enc.(*spmEncoder); ok && e.squeeze {
		rest = strings.TrimLeft(piece, " ")
		return rest, rest != ""
	}
	return strings.TrimPrefix(piece, " "), true
}

// Decoder decodes a stream of tokens into valid UTF-8: it holds back the beginning of a character until it is whole.
// Bytes that can never become a character come out as U+FFFD. It is for one stream and one goroutine.
type Decoder struct {
	v     *Vocab
	o     DecodeOptions
	begun bool // the space before the text is behind us
	held  []byte
}

// NewDecoder begins a stream.
func (v *Vocab) NewDecoder(o DecodeOptions) *Decoder {
	d := &Decoder{v: v, o: o}
	d.begun = d.fresh()
	return d
}

// fresh is begun at the beginning of a stream.
func (d *Decoder) fresh() bool { return !d.o.WholeText || !d.v.stripsPrefix }

// Push adds a token and returns the text that is complete now, often none.
func (d *Decoder) Push(id int32) string {
	p := d.v.visible(id, d.o.Special)
	if !d.begun {
		p, d.begun = d.v.withoutPrefix(id, p)
	}
	if len(d.held) == 0 && utf8.ValidString(p) {
		return p
	}
	d.held = append(d.held, p...)
	keep := len(d.held) - incompleteTail(d.held)
	out := validText(d.held[:keep])
	d.held = append(d.held[:0], d.held[keep:]...)
	return out
}

// Pending is how many bytes are held back: at most 3.
func (d *Decoder) Pending() int { return len(d.held) }

// Flush ends the stream: what is held back comes out as U+FFFD. The Decoder may be used for another stream.
func (d *Decoder) Flush() string {
	out := validText(d.held)
	d.held, d.begun = d.held[:0], d.fresh()
	return out
}

// incompleteTail is the length of the last character's bytes if more of them must follow, else 0.
func incompleteTail(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		tail := b[len(b)-n:]
		if utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// validText writes U+FFFD for each byte that is part of no character.
func validText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var s strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		s.WriteRune(r)
		b = b[n:]
	}
	return s.String()
}
