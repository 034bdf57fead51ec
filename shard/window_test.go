package shard_test

import (
	"math"
	"testing"

	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/sample"
)

// Rotary positions are relative, so in a model of one layer a query with a window sees what it would see if the sequence
// began where its window does.
func TestWindowHidesWhatLiesBeforeIt(t *testing.T) {
	const window = 16
	tokens := make([]int32, 61)
	for i := range tokens {
		tokens[i] = int32(40 + i*37%150)
	}
	last := func(window int, tokens []int32) sample.Token {
		w := deeper(open(t, "testdata/tiny/qwen3-Q4_K_M.gguf"), 1)
		w.cfg.Window = window
		s := newPipe(t, w, pipeOptions{profile: f32Profile(w.cfg, 64), device: exactDevice}).stages[0]
		id := shard.SessionID{1}
		spec := shard.SessionSpec{ID: id, Positions: 64, Sampling: sample.Params{Logprobs: true, TopLogprobs: 20}}
		if _, err := s.Open(spec); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(id, 0, 0); err != nil {
			t.Fatal(err)
		}
		var r shard.Result
		for base := 0; base < len(tokens); base += r.N {
			end := min(len(tokens), base+10)
			r = step(t, s, shard.Run{Session: id, Base: base, Tokens: tokens[base:end], Sample: lastOf(end, len(tokens))})[0]
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		return r.Tokens[0]
	}
	got, want, all := last(window, tokens), last(0, tokens[len(tokens)-window:]), last(0, tokens)
	if got.ID != want.ID {
		t.Fatalf("drew %d; want %d", got.ID, want.ID)
	}
	moved := 0.0
	for i, e := range want.Top {
		if got.Top[i].ID != e.ID || math.Abs(float64(got.Top[i].Logprob-e.Logprob)) > 1e-4 {
			t.Errorf("place %d: %v; want %v", i, got.Top[i], e)
		}
		moved = max(moved, math.Abs(float64(all.Top[i].Logprob-e.Logprob)))
	}
	if moved < 1e-2 {
		t.Error("the window changes nothing here, so the test shows nothing")
	}
}

// lastOf samples at the end of the prompt only.
func lastOf(end, total int) shard.Sampling {
	if end == total {
		return shard.SampleLast
	}
	return shard.SampleNone
}
