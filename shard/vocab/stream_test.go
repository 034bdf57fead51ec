package vocab_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/vocab"
	"pgregory.net/rapid"
)

func TestDecoderGivesWholeCharactersAndTheSameTextAsDecode(t *testing.T) {
	v := smollm2(t)
	rapid.Check(t, func(t *rapid.T) {
		text := encodable(v, rapid.String().Draw(t, "text"))
		d := v.NewDecoder(vocab.DecodeOptions{Special: true})
		var got strings.Builder
		for _, id := range v.Encode(text, vocab.EncodeOptions{}) {
			s := d.Push(id)
			if !utf8.ValidString(s) || d.Pending() >= utf8.UTFMax {
				t.Fatalf("%q with %d pending", s, d.Pending())
			}
			got.WriteString(s)
		}
		got.WriteString(d.Flush())
		if got.String() != text {
			t.Fatalf("%q became %q", text, got.String())
		}
	})
	bytes := mustLoad(t, small(nil))
	d := bytes.NewDecoder(vocab.DecodeOptions{})
	var got []string
	for _, b := range []int32{0xe4, 0xb8, 'a', 0xff, 0xf0, 0x9f, 0x98, 0x80, 0xc3, 261} {
		got = append(got, d.Push(b))
	}
	want := []string{"", "", "\ufffd\ufffda", "\ufffd", "", "", "", "😀", "", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s := d.Flush(); s != "\ufffd" || d.Flush() != "" {
		t.Errorf("flush %q", s)
	}
}

func TestSentencePieceStreamDropsOnlyTheFirstSpace(t *testing.T) {
	_, v := readSPM(t, "spm_llama")
	ids := v.Encode("the kettle the 🚀", vocab.EncodeOptions{AddSpecial: true})
	if ids[0] != v.BOS() || !v.IsByte(ids[len(ids)-1]) {
		t.Errorf("ids %v", ids)
	}
	for whole, want := range map[bool]string{true: "the kettle the 🚀", false: " the kettle the 🚀"} {
		o := vocab.DecodeOptions{WholeText: whole}
		d := v.NewDecoder(o)
		got := ""
		for _, id := range ids {
			got += d.Push(id)
		}
		if got += d.Flush(); got != want || v.Decode(ids, o) != want {
			t.Errorf("whole %v: %q and %q, want %q", whole, got, v.Decode(ids, o), want)
		}
	}
}

func TestSentencePieceControlTokensNeverComeOutOfText(t *testing.T) {
	_, v := readSPM(t, "spm_llama")
	for _, text := range []string{"<s>", "</s>", "<unk>", "<0x0A>"} {
		for _, id := range v.Encode(text, vocab.EncodeOptions{}) {
			if v.IsControl(id) || v.IsByte(id) && v.Entry(id) == text {
				t.Errorf("%q gave %d", text, id)
			}
		}
	}
	if got := v.Encode("a</s> b", vocab.EncodeOptions{ParseSpecial: true}); !slices.Contains(got, v.EOS()) {
		t.Errorf("parsed ids %v", got)
	}
}

func TestTinyModelsVocabularyLoads(t *testing.T) {
	v := loadFixture(t, "tiny")
	if v.Size() != 320 || v.AddBOS() {
		t.Errorf("%d tokens, BOS %v", v.Size(), v.AddBOS())
	}
	text := "The ladder leaned against the wall."
	if got := v.Decode(v.Encode(text, vocab.EncodeOptions{}), vocab.DecodeOptions{}); got != text {
		t.Errorf("%q", got)
	}
}

func TestLongWordsTakeNoTimeToSpeakOf(t *testing.T) {
	v := smollm2(t)
	_, s := readSPM(t, "spm_llama")
	start := time.Now()
	for _, part := range []string{"a", "ab", "the", "中", "<", "=", " ", "\n", "\xff"} {
		text := strings.Repeat(part, 60_000/len(part))
		if got := v.Decode(v.Encode(text, vocab.EncodeOptions{ParseSpecial: true}), vocab.DecodeOptions{}); got != encodable(v, text) {
			t.Errorf("%q repeated does not come back", part)
		}
		s.Encode(text, vocab.EncodeOptions{ParseSpecial: true})
	}
	// Quadratic merging takes minutes here.
	if d := time.Since(start); d > 60*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestEncodingIntoALargeEnoughSliceAllocatesLittle(t *testing.T) {
	v := smollm2(t)
	dst := make([]int32, 0, 1024)
	text := strings.Repeat("The kettle clicked off before anyone reached the kitchen. ", 8)
	n := testing.AllocsPerRun(20, func() { dst = v.AppendEncode(dst[:0], text, vocab.EncodeOptions{ParseSpecial: true}) })
	if n > 10 {
		t.Errorf("%v allocations", n)
	}
}

func TestDecodeOfIdsOutsideGivesNothing(t *testing.T) {
	v := mustLoad(t, small(nil))
	if got := v.Decode([]int32{-5, 1 << 30, 'a', math.MinInt32}, vocab.DecodeOptions{Special: true}); got != "a" {
		t.Errorf("%q", got)
	}
}

func FuzzEncode(f *testing.F) {
	big := smollm2(f)
	bytes := mustLoad(f, small(nil))
	_, sp := readSPM(f, "spm_llama")
	for _, s := range []string{"", "Hello, world!", "  a\n\n b\t", "<|im_start|>user\n", "中文 😀 e\u0301", "\xff\xfe", "▁ ▁"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []bool{false, true} {
			ids := big.Encode(text, vocab.EncodeOptions{ParseSpecial: parse})
			if got := big.Decode(ids, vocab.DecodeOptions{Special: true}); got != encodable(big, text) {
				t.Fatalf("%q became %q", text, got)
			}
			if got := bytes.Decode(bytes.Encode(text, vocab.EncodeOptions{ParseSpecial: parse}), vocab.DecodeOptions{Special: true}); got != text {
				t.Fatalf("%q became %q in the vocabulary of all bytes", text, got)
			}
			for _, id := range sp.Encode(text, vocab.EncodeOptions{ParseSpecial: parse}) {
				if id < 0 || int(id) >= sp.Size() {
					t.Fatalf("id %d", id)
				}
			}
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add("gpt2", "gpt-2", "a b <s> ab", "a b,ab c", []byte{1, 1, 3, 4}, int64(2), "ab<s>c")
	f.Add("llama", "", "<unk> a ▁a <0x41>", "", []byte{2, 1, 1, 6}, int64(-1), " aA")
	f.Fuzz(func(t *testing.T, model, pre, tokens, merges string, types []byte, bos int64, text string) {
		b := &gguf.Builder{}
		b.Set("tokenizer.ggml.model", model)
		b.Set("tokenizer.ggml.pre", pre)
		list := strings.Split(tokens, " ")
		b.Set("tokenizer.ggml.tokens", list)
		b.Set("tokenizer.ggml.merges", strings.Split(merges, ","))
		b.Set("tokenizer.ggml.token_type", types)
		b.Set("tokenizer.ggml.scores", make([]float32, len(list)))
		b.Set("tokenizer.ggml.bos_token_id", bos)
		v, err := vocab.Load(metaOf(t, b))
		if err != nil {
			return
		}
		for _, id := range v.Encode(text, vocab.EncodeOptions{ParseSpecial: true, AddSpecial: true}) {
			if id < 0 || int(id) >= v.Size() {
				t.Fatal(fmt.Sprint("id ", id))
			}
			v.Decode([]int32{id}, vocab.DecodeOptions{})
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	v := smollm2(b)
	text := strings.Repeat("The kettle clicked off before anyone reached the kitchen.\n", 1000)
	dst := make([]int32, 0, len(text))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		dst = v.AppendEncode(dst[:0], text, vocab.EncodeOptions{ParseSpecial: true})
	}
}

func TestOneVocabularyServesManyGoroutines(t *testing.T) {
	v := smollm2(t)
	text := "The kettle clicked off <|im_end|> before anyone reached the kitchen."
	want := v.Encode(text, vocab.EncodeOptions{ParseSpecial: true})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if got := v.Encode(text, vocab.EncodeOptions{ParseSpecial: true}); !slices.Equal(got, want) {
					t.Errorf("ids %v", got)
					return
				}
			}
		})
	}
	wg.Wait()
}
