package shard_test

import (
	"path/filepath"
	"testing"
)

func TestExactSmolLM2MatchesTheFloatReference(t *testing.T) {
	w := open(t, realModel(t))
	cases := readRecorded(t, filepath.Join(shared, "reference", "greedy_smollm2_dequantF32.json")).Cases
	p := newPipe(t, w, pipeOptions{profile: f32Profile(w.cfg, 2048), device: exactDevice, blocks: 300})
	var d difference
	done := 0
	for i, c := range cases {
		n := len(c.Tokens)
		if testing.Short() {
			if done == 4 || len(c.Prompt) > 60 {
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
	w := open(t, realModel(t))
	cases := readRecorded(t, filepath.Join(shared, "reference", "greedy_smollm2_dequantF32.json")).Cases
	p := newPipe(t, w, pipeOptions{profile: f32Profile(w.cfg, 2048), device: cpuDevice, blocks: 300})
	var d difference
	for i, c := range cases {
		n := len(c.Tokens)
		if testing.Short() {
			if len(c.Prompt) > 100 {
				continue
			}
			n = min(n, 16)
		}
		r := references(byte(i), c.Prompt, n)
		p.run(r)
		d.add(r.drawn, c.greedy)
	}
	t.Logf("%v", &d)
	// The reference engine's own difference between quantised and float activations is 0.10 in the mean and 0.69 at most.
	if d.mean() > 1.1*0.10 || d.max > 1.5*0.69 {
		t.Error("the difference from float results is larger than 1.1 times (mean) or 1.5 times (maximum) the reference engine's own")
	}
	if d.crossed > 0.6 {
		t.Errorf("a token differs where the margin is %.3f; at most 0.6 is explained by quantised activations", d.crossed)
	}
}
