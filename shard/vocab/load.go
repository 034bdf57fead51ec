package vocab

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/weft-mesh/weft/shard/gguf"
)

// The metadata keys of tokenizers.
const (
	keyModel  = "tokenizer.ggml.model"
	keyPre    = "tokenizer.ggml.pre"
	keyTokens = "tokenizer.ggml.tokens"
	keyTypes  = "tokenizer.ggml.token_type"
	keyScores = "tokenizer.ggml.scores"
	keyMerges = "tokenizer.ggml.merges"
	keyBOS    = "tokenizer.ggml.bos_token_id"
	keyEOS    = "tokenizer.ggml.eos_token_id"
	keyEOT    = "tokenizer.ggml.eot_token_id"
	keyEOM    = "tokenizer.ggml.eom_token_id"
	keyUNK    = "tokenizer.ggml.unknown_token_id"
	keyPAD    = "tokenizer.ggml.padding_token_id"
	keyAddBOS = "tokenizer.ggml.add_bos_token"
	keyAddEOS = "tokenizer.ggml.add_eos_token"
	keyPrefix = "tokenizer.ggml.add_space_prefix"
	keyExtra  = "tokenizer.ggml.remove_extra_whitespaces"

	keyTemplate  = "tokenizer.chat_template"
	keyTemplates = "tokenizer.chat_templates"
)

func load(m *gguf.Meta) (*Vocab, error) {
	v := &Vocab{}
	var err error
	if v.model, err = m.String(keyModel); err != nil {
		return nil, fmt.Errorf("load vocabulary: %w", err)
	}
	family := v.bpe
	switch v.model {
	case "gpt2":
	case "llama":
		family = v.spm
	default:
		return nil, fmt.Errorf("load vocabulary: tokenizer %q (%s) is not supported; gpt2 (byte-level BPE) and llama (SentencePiece) are", v.model, keyModel)
	}
	for _, step := range []func(*gguf.Meta) error{v.readTokens, v.readTypes, v.readSpecialIDs, family, v.readFlags, v.readTemplates} {
		if err := step(m); err != nil {
			return nil, fmt.Errorf("load vocabulary: %w", err)
		}
	}
	// The table of merges is half of the work, and needs nothing of the rest.
	var merges sync.WaitGroup
	var mergesErr error
	if e, ok := v.enc.(*bpeEncoder); ok {
		list, err := m.Strings(keyMerges)
		if err != nil {
			return nil, fmt.Errorf("load vocabulary: %w", err)
		}
		merges.Go(func() { mergesErr = e.readMerges(list) })
	}
	err = v.finish(m)
	merges.Wait()
	if err = cmp.Or(mergesErr, err); err != nil {
		return nil, fmt.Errorf("load vocabulary: %w", err)
	}
	return v, nil
}

func (v *Vocab) readTokens(m *gguf.Meta) error {
	tokens, err := m.Strings(keyTokens)
	if err != nil {
		return err
	}
	if len(tokens) == 0 || len(tokens) > MaxTokens {
		return fmt.Errorf("%s has %d entries; 1 to %d were expected", keyTokens, len(tokens), MaxTokens)
	}
	v.tokens = slices.Clone(tokens)
	v.ids = make(map[string]int32, len(tokens))
	for i, t := range v.tokens {
		if t == "" {
			// Some conversions fill gaps with empty entries. They need a name of their own so that no text is one.
			t = "[EMPTY_" + strconv.Itoa(i) + "]"
			v.tokens[i] = t
		}
		if j, ok := v.ids[t]; ok {
			return fmt.Errorf("%s: entry %q is there twice, as %d and %d; the file is damaged or was converted wrongly", keyTokens, t, j, i)
		}
		v.ids[t] = int32(i)
	}
	return nil
}

// typeAttrs is indexed by the token type numbers of the format; 0 is "undefined".
var typeAttrs = [...]attr{0, attrNormal, attrUnknown, attrControl, attrUser, attrUnused, attrByte}

func (v *Vocab) readTypes(m *gguf.Meta) error {
	v.attrs = make([]attr, len(v.tokens))
	if !m.Has(keyTypes) {
		for i := range v.attrs {
			v.attrs[i] = attrNormal
		}
		return nil
	}
	types, err := m.Ints(keyTypes)
	if err != nil {
		return err
	}
	if len(types) != len(v.tokens) {
		return lengthError(keyTypes, len(types), len(v.tokens))
	}
	for i, t := range types {
		if t < 0 || t >= int64(len(typeAttrs)) {
			return fmt.Errorf("%s: token %d (%q) has type %d; 0 to %d are defined", keyTypes, i, v.tokens[i], t, len(typeAttrs)-1)
		}
		v.attrs[i] = typeAttrs[t]
	}
	return nil
}

func lengthError(key string, has, want int) error {
	return fmt.Errorf("%s has %d entries, %s has %d; the file is damaged or was converted wrongly", key, has, keyTokens, want)
}

// readSpecialIDs reads the ids that the file gives. Those it does not give are NoToken here; a family may have defaults.
func (v *Vocab) readSpecialIDs(m *gguf.Meta) error {
	for _, s := range []struct {
		key string
		id  *int32
	}{{keyBOS, &v.bos}, {keyEOS, &v.eos}, {keyEOT, &v.eot}, {keyUNK, &v.unk}, {keyPAD, &v.pad}} {
		id, err := v.specialID(m, s.key)
		if err != nil {
			return err
		}
		*s.id = id
	}
	return nil
}

func (v *Vocab) specialID(m *gguf.Meta, key string) (int32, error) {
	id, err := m.IntOr(key, int64(NoToken))
	if err != nil {
		return NoToken, err
	}
	// Some conversions write -1, also as an unsigned number, for "none".
	if id == int64(NoToken) || id == 1<<32-1 {
		return NoToken, nil
	}
	if id < 0 || id >= int64(len(v.tokens)) {
		return NoToken, fmt.Errorf("%s is %d, the vocabulary has %d tokens; the file is damaged", key, id, len(v.tokens))
	}
	return int32(id), nil
}

// readFlags runs after the family has set its defaults.
func (v *Vocab) readFlags(m *gguf.Meta) error {
	var err error
	if v.addBOS, err = m.BoolOr(keyAddBOS, v.addBOS); err != nil {
		return err
	}
	if v.addEOS, err = m.BoolOr(keyAddEOS, v.addEOS); err != nil {
		return err
	}
	if v.addBOS && v.bos == NoToken {
		return fmt.Errorf("the model expects a BOS token (%s), but %s is not set", keyAddBOS, keyBOS)
	}
	if v.addEOS && v.eos == NoToken {
		return fmt.Errorf("the model expects an EOS token (%s), but %s is not set", keyAddEOS, keyEOS)
	}
	return nil
}

func (v *Vocab) readTemplates(m *gguf.Meta) error {
	var err error
	if v.template, err = m.StringOr(keyTemplate, ""); err != nil {
		return err
	}
	v.templates = make(map[string]string)
	for _, key := range m.Keys() {
		name, ok := strings.CutPrefix(key, keyTemplate+".")
		if !ok {
			continue
		}
		if v.templates[name], err = m.String(key); err != nil {
			return err
		}
	}
	if !m.Has(keyTemplates) {
		return nil
	}
	names, err := m.Strings(keyTemplates)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := v.templates[name]; !ok && name != "default" {
			return fmt.Errorf("%s names a template %q, but %s.%s is missing", keyTemplates, name, keyTemplate, name)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func sortedIDs(m map[int32]bool) []int32 {
	out := slices.Collect(maps.Keys(m))
	slices.SortFunc(out, cmp.Compare[int32])
	return out
}
