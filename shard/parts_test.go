package shard_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/sample"
)

// randomCuts gives some of the layers 1 to layers-1.
func randomCuts(r *rand.Rand, layers int) []int {
	var out []int
	for l := 1; l < layers; l++ {
		if r.IntN(2) == 0 {
			out = append(out, l)
		}
	}
	return out
}

func TestRepliesAreTheSameOverAnyPartsOfStages(t *testing.T) {
	const layers, n = 6, 12
	w := deeper(open(t, "testdata/tiny/qwen3-Q4_K_M.gguf"), layers)
	profile := model.DefaultProfile(w.cfg)
	profile.Context = 256
	prompt := make([]int32, 55)
	for i := range prompt {
		prompt[i] = int32(32 + (i*i*7+i)%200)
	}
	params := sample.Params{Temperature: 0.8, TopP: 0.9, Seed: 9, Logprobs: true, TopLogprobs: 3}
	plain := setting{chunk: 1000, threads: 1, tier: portable, drafts: "none", maxRows: 512}
	want := compute(t, w, profile, plain, prompt, params, n, nil)
	known := make([]int32, n)
	for i, tok := range want.Tokens {
		known[i] = tok.ID
	}
	rounds := 6
	if long() {
		rounds = 60
	}
	for seed := range rounds {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		tiers := cpu.Tiers()
		s := setting{
			parts: randomCuts(r, layers), chunk: 1 + r.IntN(60), threads: 1 + r.IntN(2),
			tier: tiers[r.IntN(len(tiers))], drafts: []string{"none", "good", "bad", "mixed"}[r.IntN(4)], others: r.IntN(3),
			warm: r.IntN(2) == 0, maxRows: 64 + r.IntN(300),
		}
		if r.IntN(2) == 0 {
			s.cuts = randomCuts(r, layers)
		}
		if diff := cmp.Diff(want, compute(t, w, profile, s, prompt, params, n, known)); diff != "" {
			t.Fatalf("%+v (-plain +this):\n%s", s, diff)
		}
	}
}

func TestPartsMustCoverTheRangeInOrder(t *testing.T) {
	w := deeper(open(t, tiny), 4)
	d, err := cpuDevice()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	part := func(first, end int) shard.Part {
		return shard.Part{Device: d, Range: model.Range{First: first, End: end}}
	}
	for name, parts := range map[string][]shard.Part{
		"a gap":       {part(0, 1), part(2, 4)},
		"an overlap":  {part(0, 3), part(2, 4)},
		"too short":   {part(0, 3)},
		"too long":    {part(0, 5)},
		"empty":       {part(0, 0), part(0, 4)},
		"late":        {part(1, 4)},
		"no device":   {{Range: model.Range{First: 0, End: 4}}},
		"wrong order": {part(2, 4), part(0, 2)},
	} {
		s, err := shard.New(context.Background(), shard.Options{
			Model: w.cfg, Profile: f32Profile(w.cfg, 64), Range: w.cfg.All(), Source: w, Parts: parts, Blocks: 4,
		})
		if err == nil {
			t.Errorf("%s: accepted", name)
			_ = s.Close()
		}
	}
}

func TestAFaultOfAnEarlierPartIsTheOneThatIsTold(t *testing.T) {
	w := deeper(open(t, tiny), 3)
	tokens := []int32{40, 41, 42, 43}
	faultOf := func(parts []int) *shard.FaultError {
		p := newPipe(t, w, pipeOptions{cuts: []int{1}, parts: parts, profile: f32Profile(w.cfg, 128), device: cpuDevice, other: cpuDevice})
		first, last := p.stages[0], p.stages[1]
		hidden := slices.Clone(step(t, first, shard.Run{Session: opened(t, first, 1), Tokens: tokens})[0].Hidden)
		for _, row := range []int{3, 1} {
			hidden[row*w.cfg.Embd+2] = float32(math.Inf(1))
		}
		a, b := opened(t, last, 1), opened(t, last, 2)
		good := slices.Clone(step(t, first, shard.Run{Session: opened(t, first, 2), Tokens: tokens})[0].Hidden)
		res := step(t, last,
			shard.Run{Session: a, Tokens: tokens, Hidden: hidden, Sample: shard.SampleAll},
			shard.Run{Session: b, Tokens: tokens, Hidden: good, Sample: shard.SampleLast})
		if res[1].Err != nil || len(res[1].Tokens) != 1 {
			t.Errorf("parts %v: the other session got %+v", parts, res[1])
		}
		var f *shard.FaultError
		if !errors.As(res[0].Err, &f) {
			t.Fatalf("parts %v: %v", parts, res[0].Err)
		}
		for id, how := range []shard.Sampling{shard.SampleLast, shard.SampleNone} { // the next steps have none of it
			run := shard.Run{Session: opened(t, last, byte(3+id)), Tokens: tokens, Hidden: good, Sample: how}
			if res := step(t, last, run); res[0].Err != nil {
				t.Errorf("parts %v: the step after it got %v", parts, res[0].Err)
			}
		}
		return f
	}
	want := faultOf(nil)
	if want.Layer != 1 || want.Op != "norm" || want.Position != 1 {
		t.Fatalf("one device tells %+v", want)
	}
	if got := faultOf([]int{2}); *got != *want {
		t.Errorf("two parts tell %+v, one %+v", got, want)
	}
}

func TestSteadyDecodeOverPartsAllocatesNothing(t *testing.T) {
	w := deeper(open(t, tiny), 4)
	p := newPipe(t, w, pipeOptions{parts: []int{1, 3}, profile: f32Profile(w.cfg, 128), device: cpuDevice, other: cpuDevice})
	s := p.stages[0]
	id := opened(t, s, 1)
	runs := []shard.Run{{Session: id, Tokens: []int32{40}, Sample: shard.SampleAll}}
	decode := decoding(t, s, runs)
	for range 5 {
		decode()
	}
	if n := testing.AllocsPerRun(40, decode); n > 0 {
		t.Errorf("%v allocations a step; want none", n)
	}
}

func TestALostPartEndsTheStageAndIsNamed(t *testing.T) {
	lost := errors.New("device fell off the bus")
	for part := range 3 {
		for _, inLogits := range []bool{false, true} {
			if inLogits && part < 2 {
				continue
			}
			w := deeper(open(t, tiny), 3)
			devices := []*idleDevice{{room: 1000}, {room: 1000}, {room: 1000}}
			opt := shard.Options{Model: w.cfg, Profile: f32Profile(w.cfg, 128), Range: w.cfg.All(), Source: w, Blocks: 8}
			for i, d := range devices {
				d.vocab = w.cfg.Vocab
				opt.Parts = append(opt.Parts, shard.Part{Device: d, Range: model.Range{First: i, End: i + 1}})
			}
			s, err := shard.New(context.Background(), opt)
			if err != nil {
				t.Fatal(err)
			}
			id := opened(t, s, 1)
			if devices[part].lost = lost; inLogits {
				devices[part].lost, devices[part].logits = nil, lost
			}
			_, err = s.Step([]shard.Run{{Session: id, Tokens: []int32{1}, Sample: shard.SampleLast}})
			var pe *shard.PartError
			if !errors.Is(err, lost) || !errors.As(err, &pe) || pe.Part != part {
				t.Errorf("part %d: %v", part, err)
			}
			devices[part].lost, devices[part].logits = nil, nil
			_, err = s.Open(shard.SessionSpec{ID: shard.SessionID{2}, Positions: 1})
			wantErr(t, err, lost)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			for i, d := range devices {
				if d.made != d.freed {
					t.Errorf("device %d: %d of %d handles were given back", i, d.freed, d.made)
				}
			}
		}
	}
}

func TestAFullPartGivesAllPartsBack(t *testing.T) {
	w := deeper(open(t, tiny), 2)
	for room := 0; ; room++ {
		full, other := &idleDevice{room: room}, &idleDevice{room: 1000}
		s, err := shard.New(context.Background(), shard.Options{
			Model: w.cfg, Profile: f32Profile(w.cfg, 128), Range: w.cfg.All(), Source: w, Blocks: 8,
			Parts: []shard.Part{{Device: other, Range: model.Range{First: 0, End: 1}}, {Device: full, Range: model.Range{First: 1, End: 2}}},
		})
		if err == nil {
			if err := s.Close(); err != nil || room < 20 {
				t.Errorf("with room for %d: %v", room, err)
			}
			return
		}
		var pe *shard.PartError
		if !errors.Is(err, errFull) || !errors.As(err, &pe) || pe.Part != 1 || s != nil {
			t.Fatalf("with room for %d: %v", room, err)
		}
		if full.made != full.freed || other.made != other.freed {
			t.Fatalf("with room for %d: %d of %d and %d of %d given back", room, full.freed, full.made, other.freed, other.made)
		}
	}
}

func TestWhatAHungDeviceHoldsIsLeftToIt(t *testing.T) {
	w := deeper(open(t, tiny), 2)
	hung, well := &idleDevice{room: 1000}, &idleDevice{room: 1000}
	gone := false
	s, err := shard.New(context.Background(), shard.Options{
		Model: w.cfg, Profile: f32Profile(w.cfg, 128), Range: w.cfg.All(), Source: w, Blocks: 8,
		Parts: []shard.Part{
			{Device: well, Range: model.Range{First: 0, End: 1}},
			{Device: hung, Range: model.Range{First: 1, End: 2}, Gone: func() bool { return gone }},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	gone = true
	if err := s.Close(); err != nil || well.made != well.freed || hung.freed != 0 {
		t.Errorf("%v, %d of %d and %d of %d given back", err, well.freed, well.made, hung.freed, hung.made)
	}
}

func TestProgressIsCountedOverAllParts(t *testing.T) {
	w := deeper(open(t, tiny), 3)
	d := &idleDevice{room: 1000}
	var last, most int64
	s, err := shard.New(context.Background(), shard.Options{
		Model: w.cfg, Profile: f32Profile(w.cfg, 128), Range: w.cfg.All(), Source: w, Blocks: 8,
		Parts: []shard.Part{{Device: d, Range: model.Range{First: 0, End: 2}}, {Device: d, Range: model.Range{First: 2, End: 3}}},
		Progress: func(done, total int64) {
			if done <= last || done > total || most != 0 && total != most {
				t.Errorf("%d of %d after %d of %d", done, total, last, most)
			}
			last, most = done, total
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != most || last == 0 {
		t.Errorf("it ended at %d of %d", last, most)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
