package vocab

import (
	"container/heap"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/weft-mesh/weft/shard/gguf"
)

// spmEncoder merges neighbours into the piece with the best score, as SentencePiece's BPE models do, and falls back to
// byte tokens for characters that are no piece.
// Source: https://github.com/google/sentencepiece (bpe_model), https://arxiv.org/abs/1808.06226
type spmEncoder struct {
	ids    map[string]int32
	attrs  []attr
	scores []float32
	bytes  [256]int32 // byte tokens, or NoToken
	unk    int32
	prefix bool // a space goes before the text
	// squeeze takes white space at both ends away and makes one space of several.
	squeeze bool
}

// spm sets the family's defaults and builds its encoder.
func (v *Vocab) spm(m *gguf.Meta) error {
	scores, err := m.Floats(keyScores)
	if err != nil {
		return err
	}
	if len(scores) != len(v.tokens) {
		return lengthError(keyScores, len(scores), len(v.tokens))
	}
	for i, s := range scores {
		if s != s {
			return fmt.Errorf("%s: token %d (%q) has a score that is no number; the file is damaged", keyScores, i, v.tokens[i])
		}
	}
	v.defaultIDs(m)
	e := &spmEncoder{ids: v.ids, attrs: v.attrs, scores: scores, unk: v.unk}
	if e.prefix, err = m.BoolOr(keyPrefix, true); err != nil {
		return err
	}
	if e.squeeze, err = m.BoolOr(keyExtra, false); err != nil {
		return err
	}
	v.addBOS, v.stripsPrefix = v.bos != NoToken, e.prefix
	missing := -1
	for b := range e.bytes {
		id, ok := v.ids[fmt.Sprintf("<0x%02X>", b)]
		if !ok {
			id, missing = NoToken, b
		}
		e.bytes[b] = id
	}
	if missing >= 0 && e.unk == NoToken {
		return fmt.Errorf("%s has neither a token <0x%02X> nor an unknown token (%s), so some text has no tokens; the file is damaged", keyTokens, missing, keyUNK)
	}
	v.enc = e
	return nil
}

// defaultIDs are SentencePiece's own where the file gives none: 0 unknown, 1 BOS, 2 EOS.
func (v *Vocab) defaultIDs(m *gguf.Meta) {
	for _, d := range []struct {
		key string
		to  *int32
		id  int32
	}{{keyUNK, &v.unk, 0}, {keyBOS, &v.bos, 1}, {keyEOS, &v.eos, 2}} {
		if !m.Has(d.key) && int(d.id) < len(v.tokens) && v.attrs[d.id]&(attrControl|attrUnknown) != 0 {
			*d.to = d.id
		}
	}
}

func (e *spmEncoder) encode(dst []int32, text string, first bool) []int32 {
	if e.squeeze {
		text = squeezeSpaces(text, first)
	}
	if e.prefix && first {
		text = " " + text
	}
	text = strings.ReplaceAll(text, " ", spaceMark)
	if e.squeeze {
		// A mark that stood in the text counts as white space here, but not at the beginning.
		for strings.HasSuffix(text, spaceMark) {
			text = strings.TrimSuffix(text, spaceMark)
		}
	}
	if text == "" {
		return dst
	}
	w := spmWork{e: e, text: text}
	for i := 0; i < len(text); {
		_, n := utf8.DecodeRuneInString(text[i:])
		w.symbols = append(w.symbols, spmSymbol{len(w.symbols) - 1, len(w.symbols) + 1, i, i + n})
		i += n
	}
	w.symbols[len(w.symbols)-1].next = -1
	for i := 1; i < len(w.symbols); i++ {
		w.offer(i-1, i)
	}
	w.mergeAll()
	for i := 0; i >= 0; i = w.symbols[i].next {
		dst = e.emit(dst, text[w.symbols[i].from:w.symbols[i].to])
	}
	return dst
}

// squeezeSpaces makes one space of several and drops those at the end, and at the beginning of a text.
func squeezeSpaces(text string, first bool) string {
	var b strings.Builder
	space := !first && strings.HasPrefix(text, " ")
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' }) {
		if space {
			b.WriteByte(' ')
		}
		b.WriteString(word)
		space = true
	}
	return b.String()
}

// piece is the token for a string that merging may produce. Control and byte tokens never come out of text.
func (e *spmEncoder) piece(s string) (int32, bool) {
	id, ok := e.ids[s]
	return id, ok && e.attrs[id]&(attrControl|attrUnknown|attrByte) == 0
}

func (e *spmEncoder) emit(dst []int32, s string) []int32 {
	if id, ok := e.piece(s); ok {
		return append(dst, id)
	}
	for i := range len(s) {
		if id := e.bytes[s[i]]; id != NoToken {
			dst = append(dst, id)
		} else {
			return append(dst, e.unk)
		}
	}
	return dst
}

// spmSymbol is a link of the chain over text[from:to]; an empty one was merged into its left neighbour.
type spmSymbol struct{ prev, next, from, to int }

// spmPair is a merge that was possible when it was pushed: stale when its length has changed since.
type spmPair struct {
	score             float32
	left, right, size int
}

// spmWork is the state of one encode call and the heap of its merges.
type spmWork struct {
	e       *spmEncoder
	text    string
	symbols []spmSymbol
	pairs   []spmPair
}

func (w *spmWork) offer(left, right int) {
	if left < 0 || right < 0 {
		return
	}
	from, to := w.symbols[left].from, w.symbols[right].to
	if id, ok := w.e.piece(w.text[from:to]); ok {
		heap.Push(w, spmPair{w.e.scores[id], left, right, to - from})
	}
}

func (w *spmWork) mergeAll() {
	for len(w.pairs) > 0 {
		p := heap.Pop(w).(spmPair)
		l, r := &w.symbols[p.left], &w.symbols[p.right]
		if l.to == l.from || r.to == r.from || r.to-l.from != p.size {
			continue
		}
		l.to, l.next = r.to, r.next
		r.from = r.to
		if l.next >= 0 {
			w.symbols[l.next].prev = p.left
		}
		w.offer(l.prev, p.left)
		w.offer(p.left, l.next)
	}
}

// Len, Less, Swap, Push and Pop make the pairs a heap: best score first, then leftmost.
func (w *spmWork) Len() int { return len(w.pairs) }

func (w *spmWork) Less(i, j int) bool {
	a, b := w.pairs[i], w.pairs[j]
	return a.score > b.score || a.score == b.score && a.left < b.left
}

func (w *spmWork) Swap(i, j int) { w.pairs[i], w.pairs[j] = w.pairs[j], w.pairs[i] }

func (w *spmWork) Push(x any) { w.pairs = append(w.pairs, x.(spmPair)) }

func (w *spmWork) Pop() any {
	last := len(w.pairs) - 1
	p := w.pairs[last]
	w.pairs = w.pairs[:last]
	return p
}
