package vocab

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
	"strconv"
	"strings"

	"github.com/weft-mesh/weft/shard/gguf"
)

// spaceMark stands for a space in SentencePiece vocabularies.
const spaceMark = "▁"

// Byte-level BPE writes each byte as one printable character: those that are printable as themselves, the 68 others, in
// order, as U+0100 and on.
var byteRunes, runeBytes = byteAlphabet()

func byteAlphabet() (of [256]rune, back [256 + 68]int16) {
	for r := range back {
		back[r] = -1 // no character of the alphabet
	}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		printable := b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae
		if !printable {
			r = next
			next++
		}
		of[b], back[r] = r, int16(b)
	}
	return of, back
}

// buildPieces computes what each token stands for.
func (v *Vocab) buildPieces() {
	v.pieces = make([]string, len(v.tokens))
	longest := 0
	for _, t := range v.tokens {
		longest += len(t)
	}
	// One string holds all that are decoded: they are never longer than they were.
	var text strings.Builder
	text.Grow(longest)
	ends := make([]int, len(v.tokens))
	for i, t := range v.tokens {
		switch a := v.attrs[i]; {
		case a&(attrControl|attrUser|attrUnknown) != 0:
			v.pieces[i] = t
		case a&attrByte != 0:
			if b, ok := parseByteToken(t); ok {
				v.pieces[i] = string([]byte{b})
			}
		case a&attrNormal != 0 && v.model == "gpt2":
			decodeByteLevel(&text, t)
		case a&attrNormal != 0:
			v.pieces[i] = strings.ReplaceAll(t, spaceMark, " ")
		}
		ends[i] = text.Len()
	}
	at, all := 0, text.String()
	for i, end := range ends {
		if end > at {
			v.pieces[i] = all[at:end]
		}
		at = end
	}
}

// decodeByteLevel writes the bytes that an entry of a byte-level vocabulary stands for. Characters outside the alphabet,
// which only a wrong conversion has, stand for themselves.
func decodeByteLevel(out *strings.Builder, t string) {
	for _, r := range t {
		if r < rune(len(runeBytes)) && runeBytes[r] >= 0 {
			out.WriteByte(byte(runeBytes[r]))
		} else {
			out.WriteRune(r)
		}
	}
}

// parseByteToken reads SentencePiece's "<0xNN>".
func parseByteToken(t string) (byte, bool) {
	if len(t) != 6 || !strings.HasPrefix(t, "<0x") || t[5] != '>' {
		return 0, false
	}
	n, err := strconv.ParseUint(t[3:5], 16, 8)
	return byte(n), err == nil
}

// computeHash covers everything that encoding and decoding depend on.
func (v *Vocab) computeHash(m *gguf.Meta) {
	h := &hasher{hash: sha256.New(), part: make([]byte, 0, 1<<14)}
	h.string("weft vocabulary 1")
	h.string(v.model)
	h.string(v.pre)
	h.number(uint64(len(v.tokens)))
	for i, t := range v.tokens {
		h.string(t)
		h.number(uint64(v.attrs[i]))
	}
	for _, id := range []int32{v.bos, v.eos, v.eot, v.unk} {
		h.number(uint64(uint32(id)))
	}
	for _, id := range sortedIDs(v.eog) {
		h.number(uint64(uint32(id)))
	}
	for _, b := range []bool{v.addBOS, v.addEOS, v.stripsPrefix} {
		h.string(strconv.FormatBool(b))
	}
	v.hashFamily(h, m)
	h.sum(v.hash[:0])
}

// hasher gathers what is hashed: a vocabulary is hundreds of thousands of short pieces, and each call costs more than
// most of them.
type hasher struct {
	hash hash.Hash
	part []byte
}

func (h *hasher) string(s string) {
	h.number(uint64(len(s)))
	if len(h.part)+len(s) > cap(h.part) {
		h.flush()
		if len(s) > cap(h.part) {
			_, _ = h.hash.Write([]byte(s)) // a hash never fails
			return
		}
	}
	h.part = append(h.part, s...)
}

func (h *hasher) number(n uint64) {
	if len(h.part)+8 > cap(h.part) {
		h.flush()
	}
	h.part = binary.LittleEndian.AppendUint64(h.part, n)
}

func (h *hasher) flush() {
	_, _ = h.hash.Write(h.part)
	h.part = h.part[:0]
}

func (h *hasher) sum(dst []byte) {
	h.flush()
	h.hash.Sum(dst)
}

// hashFamily adds merges for BPE, scores and space handling for SentencePiece.
func (v *Vocab) hashFamily(h *hasher, m *gguf.Meta) {
	switch e := v.enc.(type) {
	case *bpeEncoder:
		h.string(strconv.FormatBool(e.wholeWords))
		merges, _ := m.Strings(keyMerges)
		h.number(uint64(len(merges)))
		for _, s := range merges {
			h.string(s)
		}
	case *spmEncoder:
		h.string(strconv.FormatBool(e.squeeze))
		for _, s := range e.scores {
			h.number(uint64(math.Float32bits(s)))
		}
	}
}
