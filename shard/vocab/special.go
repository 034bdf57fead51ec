package vocab

import (
	"slices"
	"strings"

	"github.com/weft-mesh/weft/shard/gguf"
)

// The file's metadata names only a few of the tokens that end a reply, so the others are known by name, as every engine
// for these files does it. Names of a family never mean something else in another.
var (
	// eotNames end a turn; the first that is there is the vocabulary's EOT.
	eotNames = []string{
		"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<turn|>", "<|endoftext|>", "<|end_of_text|>",
		"<EOT>", "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>",
	}
	// eogNames end generation in addition.
	eogNames = []string{"<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "</s>", "<|eom_id|>", "[EOS]", "<eos>", "<|tool_response>", "[e~["}
	// fillNames separate files and repositories in code models: whatever follows is no part of the answer.
	fillNames = [][]string{
		{"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"},
		{"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"},
		{"<|file_sep|>"},
	}
	// shownNames are channel marks whose text a client must see, whatever the file says.
	shownNames = []string{"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"}
	// fimNames are the fill-in-the-middle marks; they are control tokens whatever the file says.
	fimNames = [][]string{
		{"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>", "<|prefix|>"},
		{"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>"},
		{"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>", "<|middle|>"},
	}
)

// finish derives all that depends on the names of tokens and builds the tables.
func (v *Vocab) finish(m *gguf.Meta) error {
	v.eog = make(map[int32]bool)
	eom, err := v.specialID(m, keyEOM)
	if err != nil {
		return err
	}
	if v.eot == NoToken {
		v.eot = v.firstControl(eotNames)
	}
	v.markMiddle()
	for _, names := range [][]string{eotNames, eogNames} {
		for _, name := range names {
			v.addEOG(v.firstControl([]string{name}))
		}
	}
	for _, id := range []int32{v.eos, v.eot, eom} {
		v.addEOG(id)
	}
	v.showChannels()
	if err := v.stripRight(m); err != nil {
		return err
	}
	v.special = newSpecials(v.tokens, v.attrs)
	v.buildPieces()
	v.computeHash(m)
	return nil
}

func (v *Vocab) addEOG(id int32) {
	if id != NoToken {
		v.eog[id] = true
	}
}

// firstControl finds the first of names and makes it a control token: conversions often forget to.
func (v *Vocab) firstControl(names []string) int32 {
	for _, name := range names {
		if id, ok := v.ids[name]; ok {
			v.attrs[id] |= attrControl
			return id
		}
	}
	return NoToken
}

func (v *Vocab) markMiddle() {
	for _, names := range fimNames {
		v.firstControl(names)
	}
	for _, names := range fillNames {
		v.addEOG(v.firstControl(names))
	}
}

// showChannels handles two families of channel-marked replies. Their "<|end|>" ends a message, not the reply.
func (v *Vocab) showChannels() {
	for _, name := range shownNames {
		if id, ok := v.ids[name]; ok {
			v.attrs[id] = attrUser
		}
	}
	has := func(name string) bool { id, ok := v.ids[name]; return ok && v.eog[id] }
	call := has("<|call|>") || has("<|calls|>")
	if has("<|end|>") && call && (has("<|return|>") || has("<|flush|>")) {
		id := v.ids["<|end|>"]
		delete(v.eog, id)
		v.attrs[id] = attrUser
	}
	if has("<|tool_response>") && has("</s>") {
		id := v.ids["</s>"]
		delete(v.eog, id)
		v.attrs[id] = attrNormal
	}
}

// stripRight sets the one attribute that files of the Phi-3 family do not carry: white space after a special token is
// part of it.
func (v *Vocab) stripRight(m *gguf.Meta) error {
	name, err := m.StringOr("general.name", "")
	if err != nil {
		return err
	}
	name = strings.ToLower(name)
	if !strings.Contains(name, "phi-3") && !strings.Contains(name, "phi3") {
		return nil
	}
	plain := []string{"<unk>", "<s>", "<|endoftext|>"}
	for id, a := range v.attrs {
		if a&(attrControl|attrUser|attrUnknown) != 0 && !slices.Contains(plain, v.tokens[id]) {
			v.attrs[id] |= attrStripRight
		}
	}
	return nil
}
