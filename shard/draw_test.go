package shard_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/sample"
)

// anySampling is settings of all kinds, in all mixtures.
func anySampling(r *rand.Rand, vocab int) sample.Params {
	f := func(x ...float32) float32 { return x[r.IntN(len(x))] }
	p := sample.Params{
		Seed: r.Uint64(), Temperature: f(0, 0.5, 1, 1, 2), TopK: []int{0, 0, 5, 300}[r.IntN(4)], TopP: f(0, 0.3, 0.9, 1), MinP: f(0, 0, 0.05),
		Repeat: f(0, 1.2), Presence: f(0, 0.5), Frequency: f(0, 0, 0.1), LastN: []int{0, 5, -1}[r.IntN(3)], Logprobs: r.IntN(2) == 0,
	}
	if p.Logprobs {
		p.TopLogprobs = []int{0, 3, sample.MaxTopLogprobs}[r.IntN(3)]
	}
	for range []int{0, 0, 3, 400}[r.IntN(4)] {
		p.Bias = append(p.Bias, sample.Bias{ID: int32(r.IntN(vocab)), Value: f(-100, 5, 2)})
	}
	return p
}

// What a stage reads of logits that lie on a card gives the tokens and log-probabilities of the logits themselves, whatever the
// settings, with several rows a run, right drafts and wrong ones.
func TestDrawsAreTheSameWhereLogitsStayOnTheDevice(t *testing.T) {
	w := open(t, "testdata/tiny/qwen3-Q4_K_M.gguf")
	profile := model.DefaultProfile(w.cfg)
	profile.Context = 256
	r := rand.New(rand.NewPCG(5, 5))
	prompt := []int32{40, 41, 42, 43, 40, 41, 42}
	const n = 12
	for range 40 {
		p := anySampling(r, w.cfg.Vocab)
		plain := setting{chunk: 1000, threads: 1, tier: portable, drafts: "none", maxRows: 128}
		want := compute(t, w, profile, plain, prompt, p, n, nil)
		known := make([]int32, n)
		for i, tok := range want.Tokens {
			known[i] = tok.ID
		}
		for _, drafts := range []string{"none", "good", "mixed"} {
			s := plain
			s.away, s.drafts, s.others = true, drafts, r.IntN(2)
			if diff := cmp.Diff(want, compute(t, w, profile, s, prompt, p, n, known)); diff != "" {
				t.Fatalf("%+v, %s drafts (-whole rows +reduced):\n%s", p, drafts, diff)
			}
		}
	}
}

// Of a greedy reply only ids come back from a card, and of one that is drawn from few tokens only those.
func TestOnlyIDsComeBackFromACard(t *testing.T) {
	needCard(t)
	w := open(t, tiny)
	for _, c := range []struct {
		name string
		p    sample.Params
		most int64 // bytes a token
	}{
		{"greedy", sample.Params{}, 8},
		{"top_k", sample.Params{Temperature: 0.8, TopK: 40, TopP: 0.9}, 40 * 8},
		{"log-probabilities", sample.Params{Logprobs: true, TopLogprobs: 5}, 5*8 + int64(8*kernels.Blocks(w.cfg.Vocab))},
	} {
		d, err := openCard()
		if err != nil {
			t.Fatal(err)
		}
		s, err := shard.New(t.Context(), shard.Options{
			Model: w.cfg, Profile: f32Profile(w.cfg, 128), Range: w.cfg.All(), Source: w, Device: d, Blocks: 16,
		})
		if err != nil {
			t.Fatal(err)
		}
		runs := []shard.Run{{Session: shard.SessionID{1}, Tokens: []int32{40}, Sample: shard.SampleAll}}
		if _, err := s.Open(shard.SessionSpec{ID: runs[0].Session, Positions: 128, Sampling: c.p}); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(runs[0].Session, 0, 0); err != nil {
			t.Fatal(err)
		}
		decode := decoding(t, s, runs)
		decode()
		const steps = 10
		before := d.(*opencl.Device).Transfers().Down
		for range steps {
			decode()
		}
		// A step reads a word each for faults of the row's layers and of its logits, once.
		const faults = 2 * 4
		if got := (d.(*opencl.Device).Transfers().Down - before) / steps; got > c.most+faults {
			t.Errorf("%s: %d bytes a token came back, want at most %d; a row is %d", c.name, got, c.most+faults, 4*w.cfg.Vocab)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
