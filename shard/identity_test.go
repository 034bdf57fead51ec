package shard_test

import (
	"crypto/sha256"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/sample"
)

// Each tier must give the same reply, and so must each machine: the lines that
// start with "reply" are what scripts/arm64 compares between processors.
func TestRepliesOfTinyModelsAreOfNoTierAndNoMachine(t *testing.T) {
	prompt := make([]int32, 40)
	for i := range prompt {
		prompt[i] = int32(30 + (i*i*5+3*i)%190)
	}
	cases := []struct {
		file string
		act  kernels.ActBits
		kv   kernels.KVType
		heat float32
	}{
		{"llama-Q2_K", kernels.Act8, kernels.KVF16, 0},
		{"llama-Q4_0", kernels.Act8, kernels.KVF16, 0.8},
		{"llama-Q4_1", kernels.Act16, kernels.KVF16, 0},
		{"llama-Q4_K_S", kernels.Act8, kernels.KVF32, 1.1},
		{"llama-Q8_0", kernels.Act16, kernels.KVF32, 0},
		{"qwen2-Q4_K_M", kernels.Act8, kernels.KVF16, 1},
		{"qwen3-Q4_K_M", kernels.Act8, kernels.KVF16, 0},
		{"mixtral-Q4_K_M", kernels.Act16, kernels.KVF16, 0},
		{"qwen2moe-Q8_0", kernels.Act8, kernels.KVF16, 0},
		{"qwen3moe-Q4_K_M", kernels.Act8, kernels.KVF32, 0.7},
	}
	for _, c := range cases {
		w := open(t, "testdata/tiny/"+c.file+".gguf")
		profile := model.DefaultProfile(w.cfg)
		profile.KV, profile.Act, profile.Context = c.kv, c.act, 128
		params := sample.Params{Temperature: c.heat, Seed: 11, Logprobs: true}
		var want outcome
		for i, tier := range cpu.Tiers() {
			got := compute(t, w, profile, setting{chunk: 13, threads: 1 + i%2, tier: tier, drafts: "none", maxRows: 128}, prompt, params, 12, nil)
			if i == 0 {
				want = got
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s: %s and %s differ:\n%s", c.file, cpu.Tiers()[0], tier, diff)
			}
		}
		ids, states := make([]int32, len(want.Tokens)), sha256.New()
		for i, tok := range want.Tokens {
			ids[i] = tok.ID
			states.Write(want.Hashes[i][:])
		}
		t.Logf("reply %s tokens %v, states %x", c.file, ids, states.Sum(nil))
	}
}
