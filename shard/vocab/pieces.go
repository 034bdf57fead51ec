package vocab

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weft-mesh/weft/shard/gguf"
)

// spaceMark stands for a space in SentencePiece vocabularies.
const spaceMark = "▁"

// Byte-level BPE writes each byte as one printable character: those that are printable as themselves, the 68 others, in
// order, as U+0100 and on.
var byteRunes, runeBytes = byteAlphabet()

func byteAlphabet() (of [256]rune, back map[rune]byte) {
	back = make(map[rune]byte, 256)
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		printable := b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae
		if !printable {
			r = next
			next++
		}
		of[b], back[r] = r, byte(b)
	}
	return of, back
}

// buildPieces computes what each token stands for.
func (v *Vocab) buildPieces() {
	v.pieces = make([]string, len(v.tokens))
	for i, t := range v.tokens {
		switch a := v.attrs[i]; {
		case a&(attrControl|attrUser|attrUnknown) != 0:
			v.pieces[i] = t
		case a&attrByte != 0:
			if b, ok := parseByteToken(t); ok {
				v.pieces[i] = string([]byte{b})
			}
		case a&attrNormal != 0 && v.model == "gpt2":
			v.pieces[i] = decodeByteLevel(t)
		case a&attrNormal != 0:
			v.pieces[i] = strings.ReplaceAll(t, spaceMark, " ")
		}
	}
}

// decodeByteLevel is the bytes that an entry of a byte-level vocabulary stands for. Characters outside the alphabet,
// which only a wrong conversion has, stand for themselves.
func decodeByteLevel(t string) string {
	out := make([]byte, 0, len(t))
	for _, r := range t {
		if b, ok := runeBytes[r]; ok {
			out = append(out, b)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return string(out)
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
	h := sha256.New()
	hashString(h, "weft vocabulary 1")
	hashString(h, v.model)
	hashString(h, v.pre)
	hashNumber(h, uint64(len(v.tokens)))
	for i, t := range v.tokens {
		hashString(h, t)
		hashNumber(h, uint64(v.attrs[i]))
	}
	for _, id := range []int32{v.bos, v.eos, v.eot, v.unk} {
		hashNumber(h, uint64(uint32(id)))
	}
	for _, id := range sortedIDs(v.eog) {
		hashNumber(h, uint64(uint32(id)))
	}
	for _, b := range []bool{v.addBOS, v.addEOS, v.stripsPrefix} {
		hashString(h, strconv.FormatBool(b))
	}
	v.hashFamily(h, m)
	h.Sum(v.hash[:0])
}

// hashFamily adds merges for BPE, scores and space handling for SentencePiece.
func (v *Vocab) hashFamily(h hash.Hash, m *gguf.Meta) {
	switch e := v.enc.(type) {
	case *bpeEncoder:
		hashString(h, strconv.FormatBool(e.wholeWords))
		merges, _ := m.Strings(keyMerges)
		hashNumber(h, uint64(len(merges)))
		for _, s := range merges {
			hashString(h, s)
		}
	case *spmEncoder:
		hashString(h, strconv.FormatBool(e.squeeze))
		for _, s := range e.scores {
			hashNumber(h, uint64(math.Float32bits(s)))
		}
	}
}

func hashString(h hash.Hash, s string) {
	hashNumber(h, uint64(len(s)))
	_, _ = h.Write([]byte(s)) // a hash never fails
}

func hashNumber(h hash.Hash, n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	_, _ = h.Write(b[:])
}
