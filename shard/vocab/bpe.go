package vocab

import (
	"fmt"
	"strings"
	"sync"

	"github.com/weft-mesh/weft/shard/gguf"
)

// bpeEncoder is byte-level byte-pair encoding. A symbol is an index into names: the tokens, then those character
// sequences that occur in merges only.
type bpeEncoder struct {
	split      pretokenizer
	wholeWords bool // a word that is a token is that token, whatever the merges say
	ids        map[string]int32
	control    func(id int32) bool
	tokens     int
	names      []string
	bytes      [256]int32        // the symbol of each byte
	merges     map[uint64]merged // by the pair of symbols
	scratch    sync.Pool         // of *bpeScratch
}

// merged is what a pair becomes; the lowest rank goes first.
type merged struct {
	rank   int32
	symbol int32
}

func pairKey(a, b int32) uint64 { return uint64(uint32(a))<<32 | uint64(uint32(b)) }

// bpe sets the family's defaults and makes its encoder, without merges.
func (v *Vocab) bpe(m *gguf.Meta) error {
	pre, err := m.StringOr(keyPre, "")
	if err != nil {
		return err
	}
	v.pre = pre
	p, err := findPretokenizer(pre)
	if err != nil {
		return err
	}
	v.addBOS = p.addBOS
	e := &bpeEncoder{
		split: p, wholeWords: p.wholeWords, ids: v.ids, tokens: len(v.tokens),
		control: func(id int32) bool { return v.has(id, attrControl|attrUnknown|attrByte) },
		names:   v.tokens[:len(v.tokens):len(v.tokens)],
	}
	e.scratch.New = func() any { return new(bpeScratch) }
	v.enc = e
	return nil
}

// readMerges builds the merge table. Real files hold merges whose sides or result are no tokens; those get symbols of
// their own, which encode as their bytes in the end.
func (e *bpeEncoder) readMerges(merges []string) error {
	extra := make(map[string]int32)
	symbol := func(b []byte) int32 {
		if id, ok := e.ids[string(b)]; ok {
			return id
		}
		if id, ok := extra[string(b)]; ok {
			return id
		}
		id := int32(len(e.names))
		e.names = append(e.names, string(b))
		extra[string(b)] = id
		return id
	}
	var buf []byte
	for b, r := range byteRunes {
		e.bytes[b] = symbol([]byte(string(r)))
	}
	e.merges = make(map[uint64]merged, len(merges))
	for rank, line := range merges {
		// The alphabet has no space, so the first one behind the beginning separates the pair.
		at := -1
		if len(line) > 1 {
			at = strings.IndexByte(line[1:], ' ') + 1
		}
		if at <= 0 || at == len(line)-1 {
			return fmt.Errorf("%s: entry %d (%q) is no pair separated by a space; the file is damaged", keyMerges, rank, line)
		}
		buf = append(append(buf[:0], line[:at]...), line[at+1:]...)
		key := pairKey(symbol(buf[:at]), symbol(buf[at:]))
		if _, ok := e.merges[key]; !ok {
			e.merges[key] = merged{int32(rank), symbol(buf)}
		}
	}
	return nil
}

func (e *bpeEncoder) encode(dst []int32, text string, _ bool) []int32 {
	s := e.scratch.Get().(*bpeScratch)
	e.split.words(text, func(word string) { dst = e.word(dst, word, s) })
	e.scratch.Put(s)
	return dst
}

// bpeScratch is the memory of one encode call.
type bpeScratch struct {
	symbols []bpeSymbol
	heap    []bpePair
	name    []byte
}

// bpeSymbol is a link of the word's chain; symbol is -1 once it was merged into its left neighbour.
type bpeSymbol struct {
	prev, next int32
	symbol     int32
}

// bpePair is a merge that was possible when it was pushed: stale when its symbols have changed since.
type bpePair struct {
	rank, left   int32
	lsym, rsym   int32
	right, makes int32
}

func (p bpePair) before(q bpePair) bool {
	return p.rank < q.rank || p.rank == q.rank && p.left < q.left
}

// word appends one word's tokens. Merges are taken from a heap, so that a word of a megabyte is no attack.
func (e *bpeEncoder) word(dst []int32, word string, s *bpeScratch) []int32 {
	if e.wholeWords {
		s.name = s.name[:0]
		for i := range len(word) {
			s.name = append(s.name, string(byteRunes[word[i]])...)
		}
		if id, ok := e.ids[string(s.name)]; ok && !e.control(id) {
			return append(dst, id)
		}
	}
	s.symbols, s.heap = s.symbols[:0], s.heap[:0]
	for i := range len(word) {
		s.symbols = append(s.symbols, bpeSymbol{int32(i) - 1, int32(i) + 1, e.bytes[word[i]]})
	}
	s.symbols[len(word)-1].next = -1
	for i := 1; i < len(word); i++ {
		e.offer(s, int32(i)-1, int32(i))
	}
	for len(s.heap) > 0 {
		p := s.pop()
		l, r := &s.symbols[p.left], &s.symbols[p.right]
		if l.symbol != p.lsym || r.symbol != p.rsym || l.next != p.right {
			continue
		}
		l.symbol, l.next = p.makes, r.next
		r.symbol = -1
		if l.next >= 0 {
			s.symbols[l.next].prev = p.left
		}
		e.offer(s, l.prev, p.left)
		e.offer(s, p.left, l.next)
	}
	for i := int32(0); i >= 0; i = s.symbols[i].next {
		dst = e.emit(dst, s.symbols[i].symbol)
	}
	return dst
}

// offer pushes the merge of two neighbours, if there is one.
func (e *bpeEncoder) offer(s *bpeScratch, left, right int32) {
	if left < 0 || right < 0 {
		return
	}
	a, b := s.symbols[left].symbol, s.symbols[right].symbol
	if m, ok := e.merges[pairKey(a, b)]; ok {
		s.push(bpePair{m.rank, left, a, b, right, m.symbol})
	}
}

// emit appends a symbol's token; a symbol that is none becomes the tokens of its bytes. Some vocabularies lack tokens for
// control characters and for bytes that valid UTF-8 never has; those are dropped, as these models' own tokenizers do:
// the "unknown" token of such a file is usually its end-of-text token, which must never come out of text.
func (e *bpeEncoder) emit(dst []int32, symbol int32) []int32 {
	if int(symbol) < e.tokens {
		return append(dst, symbol)
	}
	for _, r := range e.names[symbol] {
		if id, ok := e.ids[string(r)]; ok {
			dst = append(dst, id)
		}
	}
	return dst
}

func (s *bpeScratch) push(p bpePair) {
	s.heap = append(s.heap, p)
	for i := len(s.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !s.heap[i].before(s.heap[up]) {
			return
		}
		s.heap[i], s.heap[up] = s.heap[up], s.heap[i]
		i = up
	}
}

func (s *bpeScratch) pop() bpePair {
	top, last := s.heap[0], len(s.heap)-1
	s.heap[0] = s.heap[last]
	s.heap = s.heap[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			return top
		}
		if c+1 < last && s.heap[c+1].before(s.heap[c]) {
			c++
		}
		if !s.heap[c].before(s.heap[i]) {
			return top
		}
		s.heap[i], s.heap[c] = s.heap[c], s.heap[i]
		i = c
	}
}
