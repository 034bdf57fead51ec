package sample

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/conform"
	"github.com/weft-mesh/weft/kernels/cpu"
)

// aloof is a row of logits on a device, which is asked only for what a draw needs.
type aloof struct {
	t      *testing.T
	d      kernels.Device
	x      kernels.Buffer
	vocab  int
	asked  int // elements that were given
	pieces int
}

func newAloof(t *testing.T, d kernels.Device, vocab int) *aloof {
	x, err := d.NewBuffer(1, vocab)
	if err != nil {
		t.Fatal(err)
	}
	return &aloof{t: t, d: d, x: x, vocab: vocab}
}

func (a *aloof) reduce(q kernels.Reduction) kernels.Reduction {
	if err := a.d.Reduce(a.x, &q); err != nil {
		a.t.Fatal(err)
	}
	a.asked += 2*len(q.Top) + len(q.Values) + 2*len(q.Sums)
	return q
}

// draw draws as a stage does; the row itself is row.
func (a *aloof) draw(s *Sampler, p *Params, in Input) Token {
	a.asked, a.pieces = 0, 0
	a.d.Write(a.x, 0, in.Logits)
	whole := func() Token { a.asked += a.vocab; return s.Draw(p, in) }
	width, changed := s.Ask(nil, p, in.History)
	if width == 0 {
		return whole()
	}
	q := kernels.Reduction{Rows: 1, Width: width}
	for _, id := range changed {
		q.At = append(q.At, kernels.Place{Col: id})
	}
	q = a.reduce(q)
	r := Reduced{Top: q.Top, Changed: changed, Values: q.Values, History: in.History, Position: in.Position, Room: in.Top}
	w, ok := s.Weighings(nil, p, &r, 0)
	if !ok {
		return whole()
	}
	sums := a.reduce(kernels.Reduction{Weigh: w}).Sums
	for i := range w {
		n := kernels.Blocks(a.vocab)
		r.Sums[i] = sums[i*n : (i+1)*n]
	}
	for {
		tok, m := s.DrawReduced(p, &r)
		switch {
		case m.None():
			return tok
		case m == Missing{0, a.vocab}:
			return whole()
		case a.pieces > 0:
			a.t.Fatalf("a draw wants %+v after a piece", m)
		}
		a.pieces++
		part := kernels.Reduction{}
		for col := m.First; col < m.End; col++ {
			part.At = append(part.At, kernels.Place{Col: int32(col)})
		}
		r.First, r.Part = m.First, a.reduce(part).Values
	}
}

func anyOf[T any](r *rand.Rand, x ...T) T { return x[r.IntN(len(x))] }

// anyParams are settings of all kinds, in all mixtures.
func anyParams(r *rand.Rand, vocab int) Params {
	p := Params{Seed: r.Uint64(), Choice: uint32(r.IntN(3))}
	p.Temperature = anyOf[float32](r, 0, 0.3, 0.7, 1, 1, 1.5, 5, 100, 1e-30, 1e-42)
	p.TopK = anyOf(r, 0, 0, 0, 1, 7, 40, 200, 256, 257, vocab/2, vocab, vocab+1)
	p.TopP = anyOf[float32](r, 0, 0, 0.05, 0.5, 0.9, 0.9999, 1)
	p.MinP = anyOf[float32](r, 0, 0, 0, 1e-13, 0.001, 0.05, 0.9, 1)
	p.Repeat = anyOf[float32](r, 0, 0, 1, 1.1, 0.01, 100)
	p.Presence = anyOf[float32](r, 0, 0, 0.5, -100, 1e-45)
	p.Frequency = anyOf[float32](r, 0, 0, 0.2, -3, 1e-41)
	p.LastN = anyOf(r, 0, 0, 3, -1)
	if p.Logprobs = r.IntN(2) == 0; p.Logprobs {
		p.TopLogprobs = anyOf(r, 0, 1, 5, MaxTopLogprobs)
	}
	if r.IntN(3) == 0 {
		for range anyOf(r, 1, 5, 300, MaxBiases) {
			p.Bias = append(p.Bias, Bias{int32(r.IntN(vocab)), anyOf(r, 100, -100, float32(r.NormFloat64()), 1e-44, float32(math.Copysign(0, -1)))})
		}
	}
	return p
}

// anyLogits are rows near and far, with ties, zeros and the largest numbers, as a product stores them.
func anyLogits(r *rand.Rand, logits []float32) {
	scale := anyOf[float64](r, 0, 0.01, 1, 3, 3, 10, 40, 1e20)
	steps := anyOf[float64](r, 0, 0, 1, 8)
	for i := range logits {
		l := r.NormFloat64() * scale
		if steps > 0 {
			l = math.Round(l*steps) / steps
		}
		logits[i] = float32(l)
	}
	for range anyOf(r, 0, 1, 3) {
		logits[r.IntN(len(logits))] = anyOf[float32](r, 0, 30, -30, 1e38, 3.4e38, -3.4e38, 0x1p-40)
	}
	for i, l := range logits {
		if math.Abs(float64(l)) < 0x1p-40 {
			logits[i] = 0
		}
	}
}

// A sampler over what a device tells of a row draws what it draws over the row.
func TestReducedRowsAreDrawnFromAsWholeOnes(t *testing.T) {
	d, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	devices := []kernels.Device{d, conform.Naive()}
	for vocab, rounds := range map[int]int{1: 60, 2: 100, 100: 800, 255: 400, 256: 600, 257: 600, 1024: 800, 1025: 800, 5000: 2000, 50257: 150, 151936: 40} {
		r := rand.New(rand.NewPCG(uint64(vocab), 77))
		s, other := New(vocab), New(vocab)
		logits := make([]float32, vocab)
		rows := []*aloof{newAloof(t, devices[0], vocab), newAloof(t, devices[1], vocab)}
		for round := range rounds {
			anyLogits(r, logits)
			p := anyParams(r, vocab)
			if err := p.Validate(vocab); err != nil {
				t.Fatal(err)
			}
			in := Input{Logits: logits, Position: r.IntN(1000), Top: make([]Logprob, 0, MaxTopLogprobs)}
			for range anyOf(r, 0, 1, 20, 64, 400) {
				in.History = append(in.History, int32(r.IntN(vocab)))
			}
			row := rows[0]
			if vocab <= 257 && round%2 == 0 {
				row = rows[1]
			}
			want := s.Draw(&p, in)
			in.Top = make([]Logprob, 0, MaxTopLogprobs)
			got := row.draw(other, &p, in)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("vocabulary of %d, %+v, round %d (-whole +reduced):\n%s", vocab, p, round, diff)
			}
		}
		for _, c := range append(s.counts, other.counts...) {
			if c != 0 {
				t.Fatal("a draw leaves counts behind")
			}
		}
		for _, c := range other.reduced.place {
			if c != 0 {
				t.Fatal("a draw leaves places behind")
			}
		}
	}
}

// What common settings ask of a row is a small part of it.
func TestCommonSettingsNeedLittleOfARow(t *testing.T) {
	const vocab = 151936
	d, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	row, s, r := newAloof(t, d, vocab), New(vocab), rand.New(rand.NewPCG(1, 2))
	logits := make([]float32, vocab)
	for i := range logits {
		logits[i] = float32(r.NormFloat64() * 2)
	}
	for i := range 40 { // what a model is fairly sure of
		logits[r.IntN(vocab)] = 22 - float32(i)/5
	}
	history := make([]int32, 2000)
	for i := range history {
		history[i] = int32(r.IntN(vocab))
	}
	for name, c := range map[string]struct {
		p    Params
		most int // numbers of 4 bytes
	}{
		"greedy":                 {Params{}, 2},
		"greedy, penalised":      {Params{Repeat: 1.1}, 2*65 + 64},
		"top_k":                  {Params{Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05}, 80},
		"top_p":                  {Params{Temperature: 1, TopP: 0.9}, 2*256 + 2*149},
		"min_p":                  {Params{Temperature: 1, MinP: 0.1}, 2 * 256},
		"everything":             {Params{Temperature: 1}, 2 + 2*149 + 1024},
		"with log-probabilities": {Params{Logprobs: true, TopLogprobs: 20}, 40 + 2*149},
	} {
		in := Input{Logits: logits, History: history, Position: 5, Top: make([]Logprob, 0, MaxTopLogprobs)}
		want := s.Draw(&c.p, in)
		in.Top = make([]Logprob, 0, MaxTopLogprobs)
		if diff := cmp.Diff(want, row.draw(s, &c.p, in)); diff != "" || row.asked > c.most {
			t.Errorf("%s: %d numbers were asked for, want at most %d (-whole +reduced):\n%s", name, row.asked, c.most, diff)
		}
	}
}

// Logits that differ may weigh the same: then the lower id is kept first, though it is not among the highest logits.
func TestEqualWeightsOfDifferentLogitsAreCutByID(t *testing.T) {
	const vocab = 400
	row, s, r := newAloof(t, conform.Naive(), vocab), New(vocab), rand.New(rand.NewPCG(3, 4))
	logits := make([]float32, vocab)
	for i := range logits {
		logits[i] = float32(r.NormFloat64() * 1e-6)
	}
	logits[7] = 1000
	for seed := range uint64(500) {
		for _, p := range []float32{0.985, 0.99, 0.995} {
			q := Params{Seed: seed, Temperature: 100, TopP: p}
			in := Input{Logits: logits, Position: 1}
			if want, got := s.Draw(&q, in), row.draw(s, &q, in); want.ID != got.ID {
				t.Fatalf("top_p %g: token %d of the row, %d of what is known of it", p, want.ID, got.ID)
			}
		}
	}
}
