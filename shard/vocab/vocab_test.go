package vocab_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/vocab"
)

// entries of a small byte-level vocabulary: the 256 bytes, then more.
func byteEntries() []string {
	var out []string
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if b <= ' ' || b >= 0x7f && b <= 0xa0 || b == 0xad {
			r = next
			next++
		}
		out = append(out, string(r))
	}
	return out
}

// small is a byte-level vocabulary with merges for "hello" and " hello", and special tokens 261 and on.
func small(change func(b *gguf.Builder)) *gguf.Builder {
	tokens := append(byteEntries(), "he", "ll", "hell", "hello", "Ġhello", "<|im_start|>", "<|im_end|>", "<|user|>", "<|us", "<unk>")
	types := make([]int32, len(tokens))
	for i := range types {
		types[i] = 1
	}
	types[261], types[262], types[263], types[264], types[265] = 3, 3, 4, 4, 2
	b := &gguf.Builder{}
	b.Set("tokenizer.ggml.model", "gpt2")
	b.Set("tokenizer.ggml.pre", "gpt-2")
	b.Set("tokenizer.ggml.tokens", tokens)
	b.Set("tokenizer.ggml.token_type", types)
	b.Set("tokenizer.ggml.merges", []string{"h e", "l l", "he ll", "hell o", "Ġ hello"})
	if change != nil {
		change(b)
	}
	return b
}

// encodable drops the bytes that v has no token for: SmolLM2's vocabulary lacks some control characters.
func encodable(v *vocab.Vocab, text string) string {
	entries := byteEntries()
	out := []byte(text)
	return string(slices.DeleteFunc(out, func(b byte) bool { _, ok := v.ID(entries[b]); return !ok }))
}

func mustLoad(t testing.TB, b *gguf.Builder) *vocab.Vocab {
	t.Helper()
	v, err := vocab.Load(metaOf(t, b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSpecialTokensComeOutOfTextOnlyWhenAsked(t *testing.T) {
	v := mustLoad(t, small(nil))
	text := "hello<|im_end|> hello<|user|>"
	plain := v.Encode(text, vocab.EncodeOptions{})
	if slices.Contains(plain, 262) || !slices.Contains(plain, 263) {
		t.Errorf("plain ids %v", plain)
	}
	special := v.Encode(text, vocab.EncodeOptions{ParseSpecial: true})
	if diff := cmp.Diff([]int32{259, 262, 260, 263}, special); diff != "" {
		t.Error(diff)
	}
	if got := v.Decode(special, vocab.DecodeOptions{}); got != "hello hello<|user|>" {
		t.Errorf("decoded %q", got)
	}
	if got := v.Decode(special, vocab.DecodeOptions{Special: true}); got != text {
		t.Errorf("decoded %q", got)
	}
	if got := v.Encode("<unk>", vocab.EncodeOptions{}); slices.Contains(got, 265) {
		t.Errorf("the unknown token came out of text: %v", got)
	}
	if got := v.Encode("<|user|><|user<|us", vocab.EncodeOptions{}); got[0] != 263 || got[1] != 264 {
		t.Errorf("longest first: %v", got)
	}
}

func TestBOSAndEOSAreAddedWhenTheModelWantsThem(t *testing.T) {
	v := mustLoad(t, small(func(b *gguf.Builder) {
		b.Set("tokenizer.ggml.bos_token_id", uint32(261))
		b.Set("tokenizer.ggml.eos_token_id", uint32(262))
		b.Set("tokenizer.ggml.padding_token_id", uint32(math.MaxUint32))
		b.Set("tokenizer.ggml.add_bos_token", true)
		b.Set("tokenizer.ggml.add_eos_token", true)
	}))
	if got := v.Encode("hello", vocab.EncodeOptions{AddSpecial: true}); !slices.Equal(got, []int32{261, 259, 262}) {
		t.Errorf("ids %v", got)
	}
	if got := v.AppendEncode([]int32{7}, "", vocab.EncodeOptions{AddSpecial: true}); !slices.Equal(got, []int32{7, 261, 262}) {
		t.Errorf("ids %v", got)
	}
	if !v.AddBOS() || !v.AddEOS() || v.BOS() != 261 || v.EOS() != 262 || v.EOT() != 262 || v.PAD() != vocab.NoToken || v.UNK() != vocab.NoToken {
		t.Error("flags or ids are wrong")
	}
	if !v.IsEOG(262) || v.IsEOG(261) || v.IsEOG(-1) || !slices.Equal(v.EOGs(), []int32{262}) {
		t.Errorf("end of generation: %v", v.EOGs())
	}
	if !v.IsControl(261) || v.IsControl(263) || v.IsControl(-1) || v.IsControl(1<<30) || v.IsByte(0) {
		t.Error("control tokens are wrong")
	}
	if v.Piece(260) != " hello" || v.Entry(260) != "Ġhello" || v.Piece(-1) != "" || v.Entry(1<<30) != "" {
		t.Error("pieces are wrong")
	}
	if id, ok := v.ID("Ġhello"); id != 260 || !ok || v.Size() != 266 || v.Model() != "gpt2" || v.Pre() != "gpt-2" {
		t.Error("entries are wrong")
	}
}

func TestHostileVocabulariesAreRefusedByName(t *testing.T) {
	set := func(key string, v any) func(*gguf.Builder) {
		return func(b *gguf.Builder) { b.Set("tokenizer.ggml."+key, v) }
	}
	spm := func(change func(*gguf.Builder)) func(*gguf.Builder) {
		return func(b *gguf.Builder) {
			b.Set("tokenizer.ggml.model", "llama")
			b.Set("tokenizer.ggml.scores", make([]float32, 266))
			change(b)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*gguf.Builder)
		says   string
	}{
		{"other family", set("model", "rwkv"), `"rwkv"`},
		{"model as number", set("model", 4), "tokenizer.ggml.model"},
		{"unknown pre-tokenizer", set("pre", "martian"), `"martian"`},
		{"unknown pre-tokenizer lists the known", set("pre", "martian"), "llama-bpe, "},
		{"no pre-tokenizer", set("pre", ""), "tokenizer.ggml.pre is missing"},
		{"pre-tokenizer as number", set("pre", 1), "tokenizer.ggml.pre"},
		{"no tokens", set("tokens", []string{}), "0 entries"},
		{"tokens as numbers", set("tokens", []int32{1}), "tokenizer.ggml.tokens"},
		{"a token twice", set("tokens", []string{"a", "b", "a"}), `"a"`},
		{"too few types", set("token_type", []int32{1}), "1 entries"},
		{"type 9", set("token_type", append(make([]int32, 265), 9)), "type 9"},
		{"types as text", set("token_type", []string{"x"}), "token_type"},
		{"merge of one", set("merges", []string{"ab"}), `"ab"`},
		{"merge with nothing", set("merges", []string{"a "}), "entry 0"},
		{"merge of nothing", set("merges", []string{"h e", ""}), "entry 1"},
		{"merges as numbers", set("merges", []int32{1}), "merges"},
		{"BOS outside", set("bos_token_id", uint32(266)), "bos_token_id is 266"},
		{"EOM outside", set("eom_token_id", int64(-7)), "eom_token_id is -7"},
		{"EOS as text", set("eos_token_id", "x"), "eos_token_id"},
		{"BOS wanted, none there", set("add_bos_token", true), "add_bos_token"},
		{"EOS wanted, none there", set("add_eos_token", true), "add_eos_token"},
		{"flag as number", set("add_bos_token", 1), "add_bos_token"},
		{"EOS flag as number", set("add_eos_token", 1), "add_eos_token"},
		{"too few scores", spm(set("scores", []float32{1})), "scores has 1"},
		{"scores as text", spm(set("scores", "x")), "scores"},
		{"score that is none", spm(set("scores", append(make([]float32, 265), float32(math.NaN())))), "no number"},
		{"no way to write bytes", spm(func(*gguf.Builder) {}), "<0x"},
		{"prefix as number", spm(set("add_space_prefix", 1)), "add_space_prefix"},
		{"squeeze as number", spm(set("remove_extra_whitespaces", 1)), "remove_extra"},
		{"template as number", func(b *gguf.Builder) { b.Set("tokenizer.chat_template", 1) }, "chat_template"},
		{"named template as number", func(b *gguf.Builder) { b.Set("tokenizer.chat_template.x", 1) }, "chat_template.x"},
		{"missing named template", func(b *gguf.Builder) { b.Set("tokenizer.chat_templates", []string{"x"}) }, `"x"`},
		{"template names as text", func(b *gguf.Builder) { b.Set("tokenizer.chat_templates", "x") }, "chat_templates"},
		{"name as number", func(b *gguf.Builder) { b.Set("general.name", 1) }, "general.name"},
	} {
		_, err := vocab.Load(metaOf(t, small(c.change)))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := vocab.Load(metaOf(t, &gguf.Builder{})); err == nil {
		t.Error("no tokenizer at all: loaded")
	}
}

func TestChatTemplatesAreHandedOutByName(t *testing.T) {
	v := mustLoad(t, small(func(b *gguf.Builder) {
		b.Set("tokenizer.chat_template", "main")
		b.Set("tokenizer.chat_template.tool_use", "tools")
		b.Set("tokenizer.chat_templates", []string{"default", "tool_use"})
	}))
	if s, ok := v.ChatTemplate(); s != "main" || !ok {
		t.Errorf("template %q", s)
	}
	if s, ok := v.NamedTemplate("tool_use"); s != "tools" || !ok {
		t.Errorf("template %q", s)
	}
	if _, ok := v.NamedTemplate("none"); ok || !slices.Equal(v.TemplateNames(), []string{"tool_use"}) {
		t.Errorf("names %v", v.TemplateNames())
	}
	if _, ok := mustLoad(t, small(nil)).ChatTemplate(); ok {
		t.Error("a template out of nothing")
	}
}

func TestMergesWithUnknownSidesAndBytesAreHarmless(t *testing.T) {
	// "x y" makes "xy", which is no token: it must come out as its parts again. "Z" has no token at all.
	tokens := []string{"x", "y", "<unk>", "", "xyq"}
	b := &gguf.Builder{}
	b.Set("tokenizer.ggml.model", "gpt2")
	b.Set("tokenizer.ggml.pre", "gpt-2")
	b.Set("tokenizer.ggml.tokens", tokens)
	b.Set("tokenizer.ggml.merges", []string{"x y", "x y", "p q", "xy q"})
	v := mustLoad(t, b)
	if got := v.Encode("xyZ", vocab.EncodeOptions{}); !slices.Equal(got, []int32{0, 1}) {
		t.Errorf("ids %v", got)
	}
	if got := v.Encode("xyq", vocab.EncodeOptions{}); !slices.Equal(got, []int32{4}) {
		t.Errorf("ids %v", got)
	}
	b.Set("tokenizer.ggml.unknown_token_id", uint32(2))
	if got := mustLoad(t, b).Encode("xyZ", vocab.EncodeOptions{}); !slices.Equal(got, []int32{0, 1}) {
		t.Errorf("the unknown token came out of text: %v", got)
	}
	if v.Entry(3) != "[EMPTY_3]" {
		t.Errorf("entry %q", v.Entry(3))
	}
}

func TestWholeWordsNeedNoMerges(t *testing.T) {
	v := mustLoad(t, small(func(b *gguf.Builder) {
		b.Set("tokenizer.ggml.pre", "llama-bpe")
		b.Set("tokenizer.ggml.bos_token_id", uint32(261))
		b.Set("tokenizer.ggml.merges", []string{"h e"})
	}))
	if got := v.Encode(" hello hell", vocab.EncodeOptions{AddSpecial: true}); got[0] != 261 || got[1] != 260 {
		t.Errorf("ids %v", got)
	}
}

func TestChannelMarksAreTextAndEndIsNoEnd(t *testing.T) {
	names := []string{"<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"}
	v := mustLoad(t, small(func(b *gguf.Builder) {
		b.Set("tokenizer.ggml.tokens", append(byteEntries(), names...))
		b.Set("tokenizer.ggml.token_type", append(slices.Repeat([]int32{1}, 256), 3, 3, 3, 3, 3, 3))
		b.Set("tokenizer.ggml.merges", []string{})
	}))
	if !slices.Equal(v.EOGs(), []int32{260, 261}) || v.IsControl(256) || v.IsControl(259) {
		t.Errorf("end of generation %v", v.EOGs())
	}
}

func TestPhi3SpecialTokensSwallowTheSpaceBehind(t *testing.T) {
	v := mustLoad(t, small(func(b *gguf.Builder) { b.Set("general.name", "Phi-3 mini") }))
	if got := v.Encode("<|user|> \n hello", vocab.EncodeOptions{ParseSpecial: true}); !slices.Equal(got, []int32{263, 259}) {
		t.Errorf("ids %v", got)
	}
}

func TestHashTellsVocabulariesApart(t *testing.T) {
	seen := map[[32]byte]string{}
	for name, change := range map[string]func(*gguf.Builder){
		"same":   nil,
		"merges": func(b *gguf.Builder) { b.Set("tokenizer.ggml.merges", []string{"l l", "h e"}) },
		"pre":    func(b *gguf.Builder) { b.Set("tokenizer.ggml.pre", "qwen2") },
		"types":  func(b *gguf.Builder) { b.Set("tokenizer.ggml.token_type", slices.Repeat([]int32{1}, 266)) },
		"bos":    func(b *gguf.Builder) { b.Set("tokenizer.ggml.bos_token_id", uint32(3)) },
	} {
		h := mustLoad(t, small(change)).Hash()
		if other, ok := seen[h]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[h] = name
	}
	first, again := mustLoad(t, small(nil)), mustLoad(t, small(nil))
	if first.Hash() != again.Hash() {
		t.Error("the hash is not stable")
	}
}
