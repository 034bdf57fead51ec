package shard_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/sample"
)

// recorded is a file of reference values: of an independent engine, see testdata/README.md.
type recorded struct {
	Prompts  [][]int32
	Variants []struct {
		File    string
		Results []greedy
		Floats  []greedy `json:"results_dequant_f32"`
	}
	Cases []struct {
		Name   string
		Prompt []int32 `json:"prompt_ids"`
		greedy
	}
}

// greedy is one recorded greedy continuation.
type greedy struct {
	Tokens  []int32
	Logprob []float64
	Margin  []float64 // between the two most likely tokens
	Top10   [][][2]float64
}

func readRecorded(t testing.TB, path string) recorded {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r recorded
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// shared is where the real models and all reference values lie, if they do.
const shared = "../../shared"

// realModel gives the path of the real test model, or skips.
func realModel(t testing.TB) string {
	t.Helper()
	path := os.Getenv("WEFT_TEST_MODEL")
	if path == "" {
		path = filepath.Join(shared, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("not run: the real model is not here; set WEFT_TEST_MODEL to SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	if _, err := os.Stat(filepath.Join(shared, "reference")); err != nil {
		t.Skip("not run: the reference values of the real model are not here")
	}
	return path
}

// qwenVariant names the larger real model in the recorded perplexities.
const qwenVariant = "qwen Q4_K_M (as shipped)"

// qwenModel gives the path of the larger real test model, or skips.
func qwenModel(t testing.TB) string {
	t.Helper()
	path := os.Getenv("WEFT_TEST_QWEN")
	if _, err := os.Stat(path); path == "" || err != nil {
		t.Skip("not run: set WEFT_TEST_QWEN to Qwen2.5-Coder-0.5B-Instruct Q4_K_M in GGUF")
	}
	if _, err := os.Stat(filepath.Join(shared, "reference")); err != nil {
		t.Skip("not run: the reference values of the real model are not here")
	}
	return path
}

// long asks for every test in full, also those that take minutes; without it a part of the same cases is run.
func long() bool { return os.Getenv("WEFT_TEST_LONG") != "" }

// fastKernels skips a test on the real model where only portable kernels are there.
func fastKernels(t testing.TB) {
	t.Helper()
	if cpu.Tiers()[0] == portable && !long() {
		t.Skip("not run: portable kernels take minutes on the real model; set WEFT_TEST_LONG to run it")
	}
}

// portable is the tier of plain Go.
var portable = cpu.Tiers()[len(cpu.Tiers())-1]

// difference compares log-probabilities with a reference, over the entries that both have among their ten most likely,
// up to the first token that differs.
type difference struct {
	n        int
	sum, max float64
	crossed  float64 // the margin at which the first differing token was, or 0
}

func (d *difference) add(drawn []sample.Token, want greedy) {
	for i, tok := range drawn {
		if i < len(want.Top10) {
			for _, e := range want.Top10[i] {
				for _, got := range tok.Top {
					if got.ID == int32(e[0]) {
						d.entry(float64(got.Logprob), e[1])
					}
				}
			}
		}
		if tok.ID != want.Tokens[i] {
			d.crossed = max(d.crossed, want.Margin[i])
			return
		}
		d.entry(float64(tok.Logprob), want.Logprob[i])
	}
}

func (d *difference) entry(got, want float64) {
	diff := max(got-want, want-got)
	d.n++
	d.sum += diff
	d.max = max(d.max, diff)
}

func (d *difference) mean() float64 { return d.sum / float64(d.n) }

func (d *difference) String() string {
	return fmt.Sprintf("%d entries, mean %.5f, max %.5f, largest margin crossed %.5f", d.n, d.mean(), d.max, d.crossed)
}

// references asks for greedy decoding with the ten most likely tokens.
func references(id byte, prompt []int32, n int) *reply {
	return &reply{
		id: shard.SessionID{id}, prompt: prompt, n: n, chunk: 64,
		params: sample.Params{Logprobs: true, TopLogprobs: 10},
	}
}

// asTokens gives the first n tokens of a recorded continuation as if they had been drawn.
func asTokens(g greedy, n int) []sample.Token {
	var out []sample.Token
	for i, id := range g.Tokens[:min(n, len(g.Tokens))] {
		tok := sample.Token{ID: id, Logprob: float32(g.Logprob[i])}
		if i < len(g.Top10) {
			for _, e := range g.Top10[i] {
				tok.Top = append(tok.Top, sample.Logprob{ID: int32(e[0]), Logprob: float32(e[1])})
			}
		}
		out = append(out, tok)
	}
	return out
}
