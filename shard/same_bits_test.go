package shard_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/sample"
)

// setting is one way to compute a reply. None of its fields may change a bit of it.
type setting struct {
	cuts    []int
	parts   []int // first layers of parts on several devices, within stages
	chunk   int
	threads int
	tier    string
	drafts  string // none, good, bad, mixed
	others  int    // sessions in the same batches
	warm    bool   // the prompt's beginning is in the prefix cache
	maxRows int
	away    bool   // logits are reduced where they are, as on a card
	cards   string // devices that are OpenCL ones instead of the processor: "", main, other, both
}

// factors are the values of each field; a test covers every pair of values of two fields.
func factors(layers int) [][]any {
	tiers := []any{}
	for _, t := range cpu.Tiers() {
		tiers = append(tiers, t)
	}
	return [][]any{
		{[]int{}, []int{layers / 2}, []int{1, layers - 1}, []int{1, 2, 3, layers - 1}},
		{[]int{}, []int{layers - 2}, []int{1, layers/2 + 1}, []int{1, 2, 3, 4, 5}},
		{1000, 1, 7, 16, 33},
		{1, 2},
		tiers,
		{"none", "good", "bad", "mixed"},
		{0, 1, 3},
		{false, true},
		{512, 64},
		{false, true},
	}
}

func settingOf(f [][]any, pick []int) setting {
	v := func(i int) any { return f[i][pick[i]] }
	return setting{
		v(0).([]int), v(1).([]int), v(2).(int), v(3).(int), v(4).(string), v(5).(string), v(6).(int), v(7).(bool), v(8).(int), v(9).(bool), "",
	}
}

// pairwise picks few combinations such that every pair of values of two factors is in one of them: each next combination
// is the best of some random ones.
func pairwise(f [][]any, seed uint64) []setting {
	rng := rand.New(rand.NewPCG(seed, 0))
	type pair struct{ a, va, b, vb int }
	open := map[pair]bool{}
	for a := range f {
		for b := a + 1; b < len(f); b++ {
			for va := range f[a] {
				for vb := range f[b] {
					open[pair{a, va, b, vb}] = true
				}
			}
		}
	}
	var out []setting
	for len(open) > 0 {
		var best []int
		bestGain := 0
		for range 60 {
			pick, gain := make([]int, len(f)), 0
			for i := range f {
				pick[i] = rng.IntN(len(f[i]))
			}
			for p := range open {
				if pick[p.a] == p.va && pick[p.b] == p.vb {
					gain++
				}
			}
			if gain > bestGain {
				best, bestGain = pick, gain
			}
		}
		for p := range open {
			if best != nil && best[p.a] == p.va && best[p.b] == p.vb {
				delete(open, p)
			}
		}
		if best != nil {
			out = append(out, settingOf(f, best))
		}
	}
	return out
}

// outcome is what must be equal: tokens, their log-probabilities, and the hash of the state each was drawn from.
type outcome struct {
	Tokens []sample.Token
	Hashes [][32]byte
}

// otherTier is a tier beside the one that is tested: devices of a stage need not be alike.
func otherTier(tier string) string {
	tiers := cpu.Tiers()
	return tiers[(slices.Index(tiers, tier)+1)%len(tiers)]
}

// aloof is a processor whose logits are reduced where they are, as on a card.
type aloof struct{ kernels.Device }

func (aloof) HostMemory() bool { return false }

func (s *setting) processor(threads int, tier string) (kernels.Device, error) {
	d, err := cpu.New(cpu.Options{Threads: threads, Tier: tier})
	if err != nil || !s.away {
		return d, err
	}
	return aloof{d}, nil
}

// compute makes a reply in one setting.
func compute(t *testing.T, w *weights, p model.Profile, s setting, prompt []int32, params sample.Params, n int, known []int32) outcome {
	t.Helper()
	pipe := newPipe(t, w, pipeOptions{
		cuts: s.cuts, parts: s.parts, profile: p, maxRows: s.maxRows, blocks: 128,
		device: func() (kernels.Device, error) {
			if s.cards == "main" || s.cards == "both" {
				return openCard()
			}
			return s.processor(s.threads, s.tier)
		},
		other: func() (kernels.Device, error) {
			if s.cards == "other" || s.cards == "both" {
				return openCard()
			}
			return s.processor(3-s.threads, otherTier(s.tier))
		},
	})
	if s.warm { // another conversation with the same beginning
		other := &reply{id: shard.SessionID{99}, prompt: append(slices.Clone(prompt[:len(prompt)*3/4]), 5, 6, 7), n: 3, chunk: 40}
		pipe.run(other)
	}
	r := &reply{id: shard.SessionID{1}, prompt: prompt, n: n, chunk: min(s.chunk, s.maxRows-3*17), params: params}
	r.drafts = drafts(s.drafts, known, w.cfg.Vocab)
	all := []*reply{r}
	for i := range s.others {
		all = append(all, &reply{
			id: shard.SessionID{byte(10 + i)}, prompt: slices.Repeat([]int32{int32(20 + i), 40, 9}, 3+5*i), n: n / 2, chunk: 11,
			params: sample.Params{Temperature: 2, Seed: uint64(i)},
		})
	}
	pipe.run(all...)
	for i, stage := range pipe.stages {
		if st := stage.Stats(); st.Sessions != 0 || st.KV.Used != 0 || st.KV.Reserved != 0 {
			t.Errorf("stage %d holds %+v after its sessions are closed", i, st)
		}
	}
	return outcome{r.drawn, r.hashes}
}

// drafts makes a draft source from the tokens that the reply is known to have.
func drafts(kind string, known []int32, vocab int) func(at int) []int32 {
	if kind == "none" || known == nil {
		return nil
	}
	return func(at int) []int32 {
		d := slices.Clone(known[at:min(len(known), at+4)])
		for i := range d {
			if kind == "bad" || (kind == "mixed" && (at+i)%5 == 2) {
				d[i] = (d[i] + 1) % int32(vocab)
			}
		}
		return d
	}
}

func TestRepliesAreTheSameInEverySetting(t *testing.T) {
	cases := []struct {
		file   string
		params sample.Params
		kv     kernels.KVType
		act    kernels.ActBits
		window int
	}{
		{"llama-Q4_0", sample.Params{}, kernels.KVF16, kernels.Act8, 0},
		{"llama-Q4_K_S", sample.Params{Temperature: 0.9, TopP: 0.95, Seed: 3, Repeat: 1.1}, kernels.KVF32, kernels.Act16, 0},
		{"llama-Q8_0", sample.Params{Temperature: 1.2, TopK: 20, Seed: 4}, kernels.KVF16, kernels.Act8, 24},
		{"qwen2-Q4_K_M", sample.Params{Temperature: 1, MinP: 0.05, Seed: 5, Choice: 2}, kernels.KVF16, kernels.Act8, 0},
		{"qwen3-Q4_K_M", sample.Params{Temperature: 0.7, TopK: 40, TopP: 0.9, Frequency: 0.3, Seed: 6}, kernels.KVF16, kernels.Act8, 0},
		{"mixtral-Q4_K_M", sample.Params{Temperature: 0.6, Seed: 7}, kernels.KVF16, kernels.Act8, 0},
		{"qwen2moe-Q8_0", sample.Params{Temperature: 0.8, TopK: 30, Seed: 9}, kernels.KVF16, kernels.Act8, 0},
		{"qwen3moe-Q4_K_M", sample.Params{Temperature: 1, TopP: 0.9, Seed: 8}, kernels.KVF32, kernels.Act16, 0},
	}
	prompt := make([]int32, 55)
	for i := range prompt {
		prompt[i] = int32(32 + (i*i*7+i)%200)
	}
	const layers, n = 6, 10
	for i, c := range cases {
		t.Run(c.file, func(t *testing.T) {
			w := deeper(open(t, "testdata/tiny/"+c.file+".gguf"), layers)
			w.cfg.Window = c.window
			profile := model.DefaultProfile(w.cfg)
			profile.KV, profile.Act, profile.Context = c.kv, c.act, 256
			c.params.Logprobs, c.params.TopLogprobs = true, 3
			f := factors(layers)
			plain := setting{chunk: 1000, threads: 1, tier: portable, drafts: "none", maxRows: 512}
			want := compute(t, w, profile, plain, prompt, c.params, n, nil)
			known := make([]int32, n)
			for i, tok := range want.Tokens {
				known[i] = tok.ID
			}
			settings := pairwise(f, 1)
			for j, s := range settings {
				// Together the cases cover every pair; in the long form each of them does.
				if j%len(cases) != i && !long() {
					continue
				}
				got := compute(t, w, profile, s, prompt, c.params, n, known)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s: %+v (-plain +this):\n%s", c.file, s, diff)
				}
			}
		})
	}
}

func TestGoodDraftsAreAcceptedAndBadOnesNot(t *testing.T) {
	w := open(t, "testdata/tiny/qwen3-Q4_K_M.gguf")
	profile := f32Profile(w.cfg, 128)
	passes := map[string]int{}
	var known []int32
	for _, kind := range []string{"none", "good", "bad"} {
		pipe := newPipe(t, w, pipeOptions{profile: profile, device: cpuDevice})
		r := &reply{id: shard.SessionID{1}, prompt: []int32{40, 41, 42}, n: 21, chunk: 64}
		r.drafts = drafts(kind, known, w.cfg.Vocab)
		pipe.run(r)
		if known == nil {
			known = r.tokens()
		}
		if !slices.Equal(known, r.tokens()) {
			t.Fatalf("%s drafts: tokens %v; want %v", kind, r.tokens(), known)
		}
		passes[kind] = r.passes
	}
	// One pass for the prompt; then 20 tokens, one or five a pass.
	if want := map[string]int{"none": 21, "good": 5, "bad": 21}; fmt.Sprint(passes) != fmt.Sprint(want) {
		t.Errorf("passes %v; want %v", passes, want)
	}
}
