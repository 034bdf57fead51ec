package shard_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/sample"
)

func smolCases(t *testing.T) recorded {
	return readRecorded(t, filepath.Join(shared, "reference", "greedy_smollm2_dequantF32.json"))
}

func TestExactSmolLM2MatchesTheFloatReference(t *testing.T) {
	w := open(t, realModel(t))
	p := newPipe(t, w, pipeOptions{profile: f32Profile(w.cfg, 2048), device: exactDevice, blocks: 300})
	var d difference
	done := 0
	for i, c := range smolCases(t).Cases {
		n := len(c.Tokens)
		if !long() {
			if done == 4 || len(c.Prompt) > 60 || testing.Short() && done == 1 {
				continue
			}
			n = min(n, 16)
		}
		done++
		r := references(byte(i), c.Prompt, n)
		p.run(r)
		d.add(r.drawn, c.greedy)
	}
	t.Logf("%d prompts, %v", done, &d)
	if d.max > 1e-3 {
		t.Errorf("a log-probability differs by %.5f; at most 0.001 was expected", d.max)
	}
	if d.crossed > 2e-3 {
		t.Errorf("a token differs where the margin is %.5f", d.crossed)
	}
}

func TestQuantisedSmolLM2StaysNearTheFloatReference(t *testing.T) {
	compareQuantised(t, realModel(t), smolCases(t), 0.10, 0.69)
}

func TestQuantisedQwenStaysNearTheFloatReference(t *testing.T) {
	path := qwenModel(t)
	compareQuantised(t, path, readRecorded(t, filepath.Join(shared, "reference", "greedy_qwen_dequantF32.json")), 0.05, 0.34)
}

// compareQuantised holds the mode that runs to float results: mean and most are the reference engine's own differences
// between quantised and float activations.
func compareQuantised(t *testing.T, path string, recorded recorded, mean, most float64) {
	w := open(t, path)
	fastKernels(t)
	p := newPipe(t, w, pipeOptions{profile: f32Profile(w.cfg, 2048), device: cpuDevice, blocks: 300})
	var d difference
	for i, c := range recorded.Cases {
		n := len(c.Tokens)
		if !long() {
			if len(c.Prompt) > 100 && c.Name != "raw_long_1" || testing.Short() && i > 3 {
				continue
			}
			n = min(n, 16)
		}
		r := references(byte(i), c.Prompt, n)
		p.run(r)
		d.add(r.drawn, c.greedy)
	}
	t.Logf("%v", &d)
	if d.mean() > 1.1*mean || d.max > 1.5*most {
		t.Error("the difference from float results is larger than 1.1 times (mean) or 1.5 times (maximum) the reference engine's own")
	}
	if d.crossed > 0.6 {
		t.Errorf("a token differs where the margin is %.3f; at most 0.6 is explained by quantised activations", d.crossed)
	}
}

func TestSmolLM2RepliesAreTheSameInListedSettings(t *testing.T) {
	w := open(t, realModel(t))
	fastKernels(t)
	c := smolCases(t).Cases[12] // a chat of several turns
	const n = 16
	best := cpu.Tiers()[0]
	profile := model.DefaultProfile(w.cfg)
	for _, params := range []sample.Params{{}, {Temperature: 0.8, TopP: 0.9, Seed: 11}} {
		want := compute(t, w, profile, setting{chunk: 1000, threads: 1, tier: best, drafts: "none", maxRows: 512}, c.Prompt, params, n, nil)
		known := make([]int32, n)
		for i, tok := range want.Tokens {
			known[i] = tok.ID
		}
		settings := []setting{
			{cuts: []int{15}, chunk: 1000, threads: 2, tier: best, drafts: "good", maxRows: 512},
			{cuts: []int{7, 22}, chunk: 16, threads: 1, tier: best, drafts: "mixed", others: 2, maxRows: 128, warm: true},
			{cuts: []int{1, 10, 20, 29}, chunk: 23, threads: 2, tier: best, drafts: "bad", others: 1, maxRows: 512},
			{chunk: 31, threads: 2, tier: cpu.Tiers()[(len(cpu.Tiers())-1)/2], drafts: "mixed", maxRows: 512, warm: true},
		}
		for _, s := range settings {
			if diff := cmp.Diff(want, compute(t, w, profile, s, c.Prompt, params, n, known)); diff != "" {
				t.Fatalf("%+v (-plain +this):\n%s", s, diff)
			}
		}
	}
}

// Activations of 16 bits cost speed for accuracy: this is what they must give for it.
func TestSixteenBitSmolLM2IsWithinAHundredthOfTheFloatReference(t *testing.T) {
	w := open(t, realModel(t))
	fastKernels(t)
	profile := f32Profile(w.cfg, 2048)
	profile.Act = kernels.Act16
	p := newPipe(t, w, pipeOptions{profile: profile, device: cpuDevice, blocks: 300})
	var d difference
	for i, c := range smolCases(t).Cases {
		n := len(c.Tokens)
		if !long() {
			if len(c.Prompt) > 100 && c.Name != "raw_long_1" || testing.Short() && i > 3 {
				continue
			}
			n = min(n, 16)
		}
		r := references(byte(i), c.Prompt, n)
		p.run(r)
		d.add(r.drawn, c.greedy)
	}
	t.Logf("%v", &d)
	if d.max > 0.01 {
		t.Errorf("a log-probability differs by %.5f; at most 0.01 was expected", d.max)
	}
	if d.crossed > 0.02 {
		t.Errorf("a token differs where the margin is %.5f", d.crossed)
	}
}
