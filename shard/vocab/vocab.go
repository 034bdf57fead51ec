package vocab

import (
	"github.com/weft-mesh/weft/shard/gguf"
)

// NoToken is the id that stands for "the vocabulary has none".
const NoToken int32 = -1

// MaxTokens is the largest vocabulary that Load accepts.
const MaxTokens = 1 << 21

// attr says what kind of token one is; a token may be several things.
type attr uint16

const (
	attrNormal attr = 1 << iota
	attrUnknown
	attrControl
	attrUser
	attrUnused
	attrByte
	attrStripRight // white space after it belongs to it
)

// Vocab is a loaded tokenizer. It is immutable and safe for concurrent use.
type Vocab struct {
	model  string // tokenizer.ggml.model
	pre    string // tokenizer.ggml.pre
	tokens []string
	attrs  []attr
	pieces []string // what each token stands for, control tokens included
	ids    map[string]int32

	enc      encoder
	special  specials
	bos, eos int32
	eot, unk int32
	pad      int32
	eog      map[int32]bool
	addBOS   bool
	addEOS   bool
	// stripsPrefix says that encoding puts a space before the text, which decoding a whole text takes away.
	stripsPrefix bool

	template  string
	templates map[string]string
	hash      [32]byte
}

// encoder turns text without special tokens into ids. first says that the text begins the input or follows a special
// token.
type encoder interface {
	encode(dst []int32, text string, first bool) []int32
}

// Load builds the tokenizer that m describes. It reads the keys tokenizer.* and general.name. Errors name the key, the
// entry and the cause.
func Load(m *gguf.Meta) (*Vocab, error) { return load(m) }

// Size is the number of tokens; ids are 0 to Size()-1.
func (v *Vocab) Size() int { return len(v.tokens) }

// Model is the tokenizer family as the file names it ("gpt2", "llama"), Pre its pre-tokenizer ("" for llama).
func (v *Vocab) Model() string { return v.model }

// Pre is the pre-tokenizer as the file names it; empty for families that have none.
func (v *Vocab) Pre() string { return v.pre }

// BOS is the token that begins a text, or NoToken.
func (v *Vocab) BOS() int32 { return v.bos }

// EOS is the token that ends a text, or NoToken.
func (v *Vocab) EOS() int32 { return v.eos }

// EOT is the token that ends a turn of a chat, or NoToken.
func (v *Vocab) EOT() int32 { return v.eot }

// UNK is the token for what the vocabulary cannot express, or NoToken.
func (v *Vocab) UNK() int32 { return v.unk }

// PAD is the padding token, or NoToken.
func (v *Vocab) PAD() int32 { return v.pad }

// AddBOS reports whether the model expects BOS before a text.
func (v *Vocab) AddBOS() bool { return v.addBOS }

// AddEOS reports whether the model expects EOS after a text.
func (v *Vocab) AddEOS() bool { return v.addEOS }

// IsEOG reports whether a token ends generation: EOS, the end of a turn, and the like. False for ids outside.
func (v *Vocab) IsEOG(id int32) bool { return v.eog[id] }

// EOGs are all tokens for which IsEOG holds, ascending. The slice is the caller's.
func (v *Vocab) EOGs() []int32 { return sortedIDs(v.eog) }

// IsControl reports whether a token is a control token, which has no text of its own. False for ids outside.
func (v *Vocab) IsControl(id int32) bool { return v.has(id, attrControl) }

// IsByte reports whether a token is a SentencePiece byte token. False for ids outside.
func (v *Vocab) IsByte(id int32) bool { return v.has(id, attrByte) }

func (v *Vocab) has(id int32, a attr) bool {
	return id >= 0 && int(id) < len(v.attrs) && v.attrs[id]&a != 0
}

// ID finds a token by its exact entry in the vocabulary (for byte-level BPE in the byte alphabet, e.g. "Ġhello").
func (v *Vocab) ID(entry string) (int32, bool) {
	id, ok := v.ids[entry]
	return id, ok
}

// Entry is a token's entry in the vocabulary; empty for ids outside.
func (v *Vocab) Entry(id int32) string {
	if id < 0 || int(id) >= len(v.tokens) {
		return ""
	}
	return v.tokens[id]
}

// Piece is the bytes that a token stands for; a control token gives its name. They need not be whole UTF-8 characters.
// Empty for ids outside.
func (v *Vocab) Piece(id int32) string {
	if id < 0 || int(id) >= len(v.pieces) {
		return ""
	}
	return v.pieces[id]
}

// Hash is the same for two vocabularies exactly if they turn all texts into the same ids and back: a draft model may
// serve a target, or a peer a head, only if theirs agree.
func (v *Vocab) Hash() [32]byte { return v.hash }

// ChatTemplate is the model's chat template as it stands in the file; ok is false if it has none.
func (v *Vocab) ChatTemplate() (source string, ok bool) { return v.template, v.template != "" }

// NamedTemplate is one of the model's further chat templates, e.g. "tool_use".
func (v *Vocab) NamedTemplate(name string) (source string, ok bool) {
	source, ok = v.templates[name]
	return source, ok
}

// TemplateNames lists the names that NamedTemplate knows, sorted.
func (v *Vocab) TemplateNames() []string { return sortedKeys(v.templates) }
