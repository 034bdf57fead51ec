package sample

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Known answers of philox4x32-10, from the Random123 distribution's kat_vectors.
func TestPhiloxGivesThePublishedVectors(t *testing.T) {
	for _, c := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{
			[4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
			[2]uint32{0xffffffff, 0xffffffff},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		},
		{
			[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
			[2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		if got := philox4x32(c.ctr, c.key); got != c.want {
			t.Errorf("philox(%x, %x) = %x; want %x", c.ctr, c.key, got, c.want)
		}
	}
}

func draw(s *Sampler, p Params, logits []float32, position int) Token {
	return s.Draw(&p, Input{Logits: logits, Position: position, Top: make([]Logprob, 0, MaxTopLogprobs)})
}

func TestGreedyTakesTheLowestOfEqualTokens(t *testing.T) {
	s := New(5)
	if got := draw(s, Params{}, []float32{1, 3, 2, 3, 3}, 0).ID; got != 1 {
		t.Fatalf("drew %d; want 1", got)
	}
}

func TestMaskedTokensAreNeverDrawn(t *testing.T) {
	s := New(70)
	logits := make([]float32, 70)
	logits[3] = 50
	for _, temp := range []float32{0, 1} {
		for i := range 50 {
			got := s.Draw(&Params{Temperature: temp}, Input{Logits: logits, Position: i, Mask: []uint64{1 << 5, 1 << 2}}).ID
			if got != 5 && got != 66 {
				t.Fatalf("drew %d at temperature %v; the mask allows 5 and 66", got, temp)
			}
		}
		if got := s.Draw(&Params{Temperature: temp}, Input{Logits: logits, Mask: []uint64{0, 0}}).ID; got != -1 {
			t.Fatalf("drew %d; the mask allows nothing", got)
		}
	}
}

// chiSquare compares counts with probabilities.
func chiSquare(counts []int, probs []float64) float64 {
	n := 0
	for _, c := range counts {
		n += c
	}
	x := 0.0
	for i, c := range counts {
		if probs[i] > 0 {
			d := float64(c) - probs[i]*float64(n)
			x += d * d / (probs[i] * float64(n))
		} else if c > 0 {
			return math.Inf(1)
		}
	}
	return x
}

func TestDrawsFollowTheTruncatedDistribution(t *testing.T) {
	logits := []float32{0.5, 2, -1, 1.5, 0, 2, -3, 1}
	for _, c := range []struct {
		name   string
		p      Params
		kept   []int
		freeTo float64 // 99.9% point of chi-square with len(kept)-1 degrees of freedom
	}{
		{"plain", Params{Temperature: 1}, []int{0, 1, 2, 3, 4, 5, 6, 7}, 24.32},
		{"hot", Params{Temperature: 2.5}, []int{0, 1, 2, 3, 4, 5, 6, 7}, 24.32},
		{"top-k", Params{Temperature: 1, TopK: 3}, []int{1, 3, 5}, 13.82},
		{"top-k with a tie at its end", Params{Temperature: 1, TopK: 1}, []int{1}, 0},
		{"top-p", Params{Temperature: 1, TopP: 0.5}, []int{1, 5}, 10.83},
		{"top-p in a tie", Params{Temperature: 1, TopP: 0.2}, []int{1}, 0},
		{"min-p", Params{Temperature: 1, MinP: 0.3}, []int{1, 3, 5, 7}, 16.27},
		{"top-k, then top-p of the rest", Params{Temperature: 1, TopK: 3, TopP: 0.6}, []int{1, 5}, 10.83},
	} {
		probs, sum := make([]float64, len(logits)), 0.0
		for _, i := range c.kept {
			probs[i] = math.Exp(float64(logits[i]) / float64(c.p.Temperature))
			sum += probs[i]
		}
		for i := range probs {
			probs[i] /= sum
		}
		s, counts := New(len(logits)), make([]int, len(logits))
		c.p.Seed = 42
		for pos := range 20000 {
			counts[draw(s, c.p, slices.Clone(logits), pos).ID]++
		}
		if x := chiSquare(counts, probs); x > c.freeTo+1e-9 {
			t.Errorf("%s: chi-square %.1f above %.1f; counts %v, probabilities %.3f", c.name, x, c.freeTo, counts, probs)
		}
	}
}

func TestDrawDependsOnSeedChoiceAndPositionAlone(t *testing.T) {
	const vocab = 1000
	logits := make([]float32, vocab)
	a, b := New(vocab), New(vocab)
	for i := range 100 {
		draw(a, Params{Temperature: 3, Seed: uint64(i)}, logits, i) // leaves no trace
	}
	p := Params{Temperature: 1, Seed: 7}
	first := draw(a, p, logits, 5).ID
	if got := draw(b, p, logits, 5).ID; got != first {
		t.Fatalf("another sampler drew %d; want %d", got, first)
	}
	q, r := p, p
	q.Seed, r.Choice = 8, 1
	if draw(a, p, logits, 6).ID == first && draw(a, q, logits, 5).ID == first && draw(a, r, logits, 5).ID == first {
		t.Fatal("seed, choice and position change nothing")
	}
}

func TestPenaltiesAndBiasesChangeTheLogits(t *testing.T) {
	logits := []float32{4, 3, 2, -1, 0}
	for _, c := range []struct {
		name    string
		p       Params
		history []int32
		want    []float32
	}{
		{"none", Params{}, []int32{0, 1}, []float32{4, 3, 2, -1, 0}},
		{"repeat", Params{Repeat: 2}, []int32{0, 0, 3}, []float32{2, 3, 2, -2, 0}},
		{"presence", Params{Presence: 0.5}, []int32{0, 0, 3}, []float32{3.5, 3, 2, -1.5, 0}},
		{"frequency", Params{Frequency: 0.5}, []int32{0, 0, 3}, []float32{3, 3, 2, -1.5, 0}},
		{"last two", Params{Frequency: 1, LastN: 2}, []int32{1, 1, 0, 3}, []float32{3, 3, 2, -2, 0}},
		{"all", Params{Frequency: 1, LastN: -1}, slices.Repeat([]int32{2}, 100), []float32{4, 3, -98, -1, 0}},
		{"64 by default", Params{Frequency: 1}, slices.Repeat([]int32{2}, 100), []float32{4, 3, -62, -1, 0}},
		{"bias, then repeat", Params{Repeat: 2, Bias: []Bias{{1, 5}, {1, 2}}}, []int32{1}, []float32{4, 5, 2, -1, 0}},
	} {
		s, got := New(len(logits)), slices.Clone(logits)
		s.adjust(&c.p, got, c.history)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v; want %v", c.name, got, c.want)
		}
		s.restore(got)
		if !slices.Equal(got, logits) {
			t.Errorf("%s: restored to %v; want %v", c.name, got, logits)
		}
		if slices.Max(s.counts) != 0 {
			t.Errorf("%s: counts are left over", c.name)
		}
	}
}

func TestLogprobsAreOfTheRawLogits(t *testing.T) {
	logits := []float32{1, 5, 2, 5, -40, 3}
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l))
	}
	want := func(id int) float64 { return float64(logits[id]) - math.Log(sum) }
	got := draw(New(6), Params{Logprobs: true, TopLogprobs: 4, Bias: []Bias{{2, 100}}}, slices.Clone(logits), 0)
	if got.ID != 2 || math.Abs(float64(got.Logprob)-want(2)) > 1e-6 {
		t.Fatalf("drew %d with logprob %v; want 2 with %v", got.ID, got.Logprob, want(2))
	}
	ids := []int32{}
	for _, l := range got.Top {
		ids = append(ids, l.ID)
		if math.Abs(float64(l.Logprob)-want(int(l.ID))) > 1e-6 {
			t.Errorf("token %d has logprob %v; want %v", l.ID, l.Logprob, want(int(l.ID)))
		}
	}
	if !slices.Equal(ids, []int32{1, 3, 5, 2}) {
		t.Fatalf("most likely are %v; want [1 3 5 2]", ids)
	}
}

// slow is what Draw's truncation must give, by full sorting.
func slow(logits []float32, p Params) []int32 {
	best := slices.Max(logits)
	var all []candidate
	order := make([]int32, len(logits))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(logits[b], logits[a]) })
	if p.TopK > 0 {
		order = order[:min(p.TopK, len(order))]
	}
	for _, id := range order {
		if w := weight(float64(logits[id]-best) / float64(p.Temperature)); w > 0 {
			all = append(all, candidate{w, id})
		}
	}
	slices.SortFunc(all, heavier)
	if p.TopP > 0 && p.TopP < 1 {
		total := uint64(0)
		for _, c := range all {
			total += c.weight
		}
		sum, n := uint64(0), 0
		for ; n < len(all) && sum < share(total, p.TopP); n++ {
			sum += all[n].weight
		}
		all = all[:n]
	}
	var ids []int32
	for _, c := range all {
		if p.MinP == 0 || c.weight >= fixed(p.MinP) {
			ids = append(ids, c.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// slowDraw walks the kept tokens, ascending by id, to the one that the random number falls on.
func slowDraw(logits []float32, p Params, kept []int32, position int) int32 {
	best, total := slices.Max(logits), uint64(0)
	weigh := func(id int32) uint64 { return weight(float64(logits[id]-best) / float64(p.Temperature)) }
	for _, id := range kept {
		total += weigh(id)
	}
	left, _ := bits.Mul64(random(p.Seed, p.Choice, uint64(position)), total)
	for _, id := range kept {
		if w := weigh(id); left >= w {
			left -= w
		} else {
			return id
		}
	}
	return -1
}

func TestCutsKeepWhatAFullSortKeeps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "vocab")
		// Few different values, so that ties are common.
		logits := rapid.SliceOfN(rapid.Map(rapid.IntRange(-30, 30), func(i int) float32 { return float32(i) / 4 }), n, n).Draw(t, "logits")
		p := Params{
			Temperature: rapid.SampledFrom([]float32{0.01, 0.3, 1, 5}).Draw(t, "temperature"),
			TopK:        rapid.IntRange(0, 40).Draw(t, "top_k"),
			TopP:        float32(rapid.IntRange(0, 100).Draw(t, "top_p")) / 100,
			MinP:        float32(rapid.IntRange(0, 100).Draw(t, "min_p")) / 100,
			Seed:        rapid.Uint64().Draw(t, "seed"),
		}
		if err := p.Validate(n); err != nil {
			t.Fatal(err)
		}
		s := New(n)
		id := draw(s, p, logits, 3).ID
		var kept []int32
		for _, c := range s.cands {
			kept = append(kept, c.id)
		}
		want := slow(logits, p)
		// Where nothing cuts no list is made, and the draw alone tells.
		if cuts := p.TopK > 0 && p.TopK < n || p.TopP > 0 && p.TopP < 1 || p.MinP > 0; cuts && !slices.Equal(kept, want) {
			t.Fatalf("kept %v; want %v", kept, want)
		}
		if expected := slowDraw(logits, p, want, 3); id != expected {
			t.Fatalf("drew %d of %v; want %d", id, want, expected)
		}
	})
}

func TestExtremeLogitsDrawSomething(t *testing.T) {
	s := New(4)
	logits := []float32{math.MaxFloat32, -math.MaxFloat32, 0, math.MaxFloat32}
	for _, p := range []Params{
		{}, {Temperature: 1e-30}, {Temperature: 100}, {Temperature: 1, Repeat: 0.01, Logprobs: true, TopLogprobs: 4},
	} {
		p := p
		if got := s.Draw(&p, Input{Logits: logits, History: []int32{0, 1, 2, 3}, Top: make([]Logprob, 0, 4)}); got.ID != 0 && got.ID != 3 {
			t.Errorf("%+v drew %d", p, got.ID)
		}
	}
}

func TestWeightsAreExponentials(t *testing.T) {
	for i := range 27001 {
		x := -float64(i) / 1000
		want := math.Exp(x) * one
		if got := float64(weight(x)); math.Abs(got-want) > 0.5+want*0x1p-44 {
			t.Fatalf("weight(%v) = %v; want %v", x, got, want)
		}
	}
	if weight(0) != one || weight(-27.001) != 0 || weight(math.Inf(-1)) != 0 || weight(math.NaN()) != 0 {
		t.Error("the ends are wrong")
	}
}

func TestRanksFollowLogits(t *testing.T) {
	logits := []float32{-math.MaxFloat32, -3, -1e-40, float32(math.Copysign(0, -1)), 0, 1e-40, 2, 2, math.MaxFloat32}
	s := New(len(logits))
	for k, want := range []int32{8, 6, 7, 5, 3, 4, 2, 1, 0} {
		if got := s.kth(logits, nil, k+1); got.id != want {
			t.Errorf("place %d is token %d's; want %d", k, got.id, want)
		}
	}
	if got := s.kth(logits, []uint64{0b11}, 3); got != lowest {
		t.Errorf("the third of two allowed tokens is %v; want none", got)
	}
	if got := s.kth(logits, []uint64{0b11}, 2); got.id != 0 {
		t.Errorf("the second of two allowed tokens is %d; want 0", got.id)
	}
}

func TestDrawAllocatesNothing(t *testing.T) {
	const vocab = 5000
	s, logits := New(vocab), make([]float32, vocab)
	for i := range logits {
		logits[i] = float32(i*7919%1000) / 100
	}
	p := Params{
		Temperature: 0.8, TopK: 100, TopP: 0.9, MinP: 0.01, Repeat: 1.1, Frequency: 0.1, Presence: 0.1, Logprobs: true,
		TopLogprobs: 10, Bias: []Bias{{3, 1}},
	}
	in := Input{Logits: logits, History: []int32{1, 2, 3, 4, 1}, Top: make([]Logprob, 0, 10)}
	if n := testing.AllocsPerRun(20, func() { s.Draw(&p, in); in.Position++ }); n != 0 {
		t.Fatalf("%v allocations a draw; want none", n)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	nan := float32(math.NaN())
	bad := map[string]Params{
		"temperature":       {Temperature: -1},
		"top_p":             {TopP: nan},
		"min_p":             {MinP: 1.5},
		"presence_penalty":  {Presence: 101},
		"frequency_penalty": {Frequency: nan},
		"repeat_penalty":    {Repeat: -1},
		"top_k":             {TopK: -1},
		"repeat_last_n":     {LastN: -2},
		"top_logprobs":      {Logprobs: true, TopLogprobs: 21},
		"logprobs":          {TopLogprobs: 1},
		"logit_bias":        {Bias: []Bias{{10, 1}}},
		"token 1 ":          {Bias: []Bias{{1, 200}}},
		"at most 1024":      {Bias: make([]Bias, MaxBiases+1)},
	}
	for name, p := range bad {
		if err := p.Validate(10); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v; want an error about %s", p, err, name)
		}
	}
	good := Params{Temperature: 1, TopP: 0.9, Repeat: 1.1, LastN: -1, Bias: []Bias{{9, -100}}}
	if err := good.Validate(10); err != nil {
		t.Error(err)
	}
}

func BenchmarkDraw(b *testing.B) {
	const vocab = 151936
	s, logits := New(vocab), make([]float32, vocab)
	x := uint32(1)
	for i := range logits { // roughly normal around 0, standard deviation 3
		sum := float32(0)
		for range 4 {
			x = x*1664525 + 1013904223
			sum += float32(x>>8)/(1<<24) - 0.5
		}
		logits[i] = sum * 5
	}
	for i := range 20 {
		logits[i*5000] += 12 + float32(i%7)
	}
	for name, p := range map[string]Params{
		"greedy":      {},
		"temperature": {Temperature: 0.8},
		"top_p":       {Temperature: 0.7, TopP: 0.9},
		"top_k":       {Temperature: 0.7, TopK: 40, TopP: 0.9},
		"logprobs":    {Logprobs: true, TopLogprobs: 10},
	} {
		b.Run(name, func(b *testing.B) {
			in := Input{Logits: logits, Top: make([]Logprob, 0, 20)}
			for b.Loop() {
				s.Draw(&p, in)
				in.Position++
			}
		})
	}
}
