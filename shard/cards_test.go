package shard_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/cuda"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/opencl/icd"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/sample"
)

// cards are the libraries that may know a card: NVIDIA's own first, then OpenCL's.
var cards = []driver.Driver{cuda.New(), icd.New()}

// openCard makes a device of the first card that a library knows.
func openCard() (kernels.Device, error) {
	for _, d := range cards {
		if _, err := d.Devices(); errors.Is(err, driver.ErrAbsent) {
			continue
		}
		dev, err := d.Open(0, opencl.Source())
		if err != nil {
			return nil, err
		}
		return opencl.New(dev)
	}
	return nil, driver.ErrAbsent
}

// needCard skips where no library knows a card. PoCL keeps what it has compiled.
func needCard(t *testing.T) {
	t.Helper()
	if cache, err := os.UserCacheDir(); err == nil && os.Getenv("POCL_CACHE_DIR") == "" {
		t.Setenv("POCL_CACHE_DIR", filepath.Join(cache, "weft-pocl"))
	}
	var absent error
	for _, d := range cards {
		_, err := d.Devices()
		if !errors.Is(err, driver.ErrAbsent) {
			return
		}
		absent = err
	}
	t.Skipf("not run: no NVIDIA card and no OpenCL platform (on Debian: apt-get install pocl-opencl-icd): %v", absent)
}

// A reply has the same bits whether all stages are on cards, some, or some parts of a stage,
// whatever the batches, drafts and cuts.
func TestRepliesAreTheSameOnCards(t *testing.T) {
	needCard(t)
	const layers, n = 4, 8
	prompt := make([]int32, 41)
	for i := range prompt {
		prompt[i] = int32(32 + (i*i*5+i)%200)
	}
	rounds := 3
	if long() {
		rounds = 20
	}
	for i, file := range []string{"llama-Q2_K", "llama-Q4_0", "llama-Q4_1", "llama-Q4_K_S", "llama-Q8_0", "qwen2-Q4_K_M", "qwen3-Q4_K_M", "mixtral-Q4_K_M", "qwen2moe-Q8_0", "qwen3moe-Q4_K_M"} {
		t.Run(file, func(t *testing.T) {
			w := deeper(open(t, "testdata/tiny/"+file+".gguf"), layers)
			r := rand.New(rand.NewPCG(uint64(i), 11))
			profile := model.DefaultProfile(w.cfg)
			profile.Context = 256
			profile.KV, profile.Act = kernels.KVType(i%2), []kernels.ActBits{kernels.Act8, kernels.Act16}[i/2%2]
			if i%3 == 1 {
				w.cfg.Window = 20
			}
			params := sample.Params{Temperature: 0.9, TopP: 0.95, Seed: uint64(i), Logprobs: true, TopLogprobs: 3}
			plain := setting{chunk: 1000, threads: 1, tier: portable, drafts: "none", maxRows: 512}
			want := compute(t, w, profile, plain, prompt, params, n, nil)
			known := make([]int32, n)
			for i, tok := range want.Tokens {
				known[i] = tok.ID
			}
			for j := range rounds {
				tiers := cpu.Tiers()
				s := setting{
					parts: randomCuts(r, layers), chunk: 1 + r.IntN(60), threads: 1 + r.IntN(2), tier: tiers[r.IntN(len(tiers))],
					drafts: []string{"none", "good", "bad", "mixed"}[r.IntN(4)], others: r.IntN(3), warm: r.IntN(2) == 0,
					maxRows: 64 + r.IntN(300), cards: []string{"main", "other", "both"}[j%3],
				}
				if r.IntN(2) == 0 {
					s.cuts = randomCuts(r, layers)
				}
				if diff := cmp.Diff(want, compute(t, w, profile, s, prompt, params, n, known)); diff != "" {
					t.Fatalf("%+v (-plain +this):\n%s", s, diff)
				}
			}
		})
	}
}
