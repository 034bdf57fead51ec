package sample

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/cpu"
)

// clampLogit keeps logits finite under penalties.
const clampLogit = 1e38

// candidate is a token that can still be drawn. Candidates are kept in ascending order of ids.
type candidate struct {
	weight uint64 // p * 2^40, with p = 1 for the most likely token
	id     int32
}

// Sampler holds the working memory of draws over one vocabulary: about 48 bytes a token of it. Nothing in it outlives a draw. It
// is for one goroutine at a time.
type Sampler struct {
	vocab   int
	maxima  []float32   // of blocks of logits
	counts  []int32     // of tokens in the penalties' window; all 0 between draws
	cands   []candidate // what can be drawn
	edge    []candidate // the bucket that a cut goes through
	ranks   rankHistogram
	tied    []rank // the tokens of one bucket of ranks
	hist    histogram
	sums    []uint64 // of blocks of weights
	weights [cpu.MaximaBlock]uint64
	touched []Logprob // logits that were changed, as they were

	reduced reduced
}

// New makes a sampler for a vocabulary.
func New(vocab int) *Sampler {
	return &Sampler{
		vocab:  vocab,
		counts: make([]int32, vocab),
		cands:  make([]candidate, 0, vocab),
		edge:   make([]candidate, 0, vocab),
		tied:   make([]rank, 0, vocab),
	}
}

// Input is what one draw depends on, beside the parameters.
type Input struct {
	Logits   []float32 // one a token of the vocabulary, all finite; changed during the draw, and back as they were after it
	History  []int32   // the sequence's tokens before the drawn one, prompt included
	Position int       // of the drawn token in the sequence; len(History) as a rule
	Mask     []uint64  // bit id&63 of word id>>6 allows a token; nil allows all.
	Top      []Logprob // room for Params.TopLogprobs entries, which the token's Top then uses
}

// Draw draws a token; its ID is -1 when the mask allows none. It allocates nothing when in.Top has room. The parameters must
// be valid for the vocabulary.
func (s *Sampler) Draw(p *Params, in Input) Token {
	var t Token
	var norm float64
	if p.Logprobs {
		norm = logNorm(in.Logits)
		t.Top = top(in.Top[:0], in.Logits, p.TopLogprobs, norm)
	}
	s.adjust(p, in.Logits, in.History)
	s.maxima = cpu.Maxima(s.maxima, in.Logits)
	if p.Temperature == 0 {
		t.ID = s.argmax(in.Logits, in.Mask)
	} else {
		t.ID = s.random(p, in)
	}
	s.restore(in.Logits)
	if p.Logprobs && t.ID >= 0 {
		t.Logprob = float32(float64(in.Logits[t.ID]) - norm)
	}
	return t
}

// adjust applies biases and penalties and notes what it changes.
func (s *Sampler) adjust(p *Params, logits []float32, history []int32) {
	s.touched = s.touched[:0]
	s.change(p, history, func(id int32) *float32 {
		s.touched = append(s.touched, Logprob{id, logits[id]})
		return &logits[id]
	})
}

// change applies biases and penalties to the logits of the tokens that they change, which at gives.
func (s *Sampler) change(p *Params, history []int32, at func(id int32) *float32) {
	for _, b := range p.Bias {
		l := at(b.ID)
		*l = clamp(float32(*l + b.Value))
	}
	if !p.penalises() {
		return
	}
	window := recent(history, p.LastN)
	for _, id := range window {
		s.counts[id]++
	}
	for _, id := range window {
		n := s.counts[id]
		if n == 0 {
			continue
		}
		s.counts[id] = 0
		to := at(id)
		l := *to
		switch {
		case !p.repeats():
		case l > 0:
			l = float32(l / p.Repeat)
		default:
			l = float32(l * p.Repeat)
		}
		l = float32(l - float32(float32(n)*p.Frequency))
		*to = clamp(float32(l - p.Presence))
	}
}

func (p *Params) repeats() bool   { return p.Repeat != 0 && p.Repeat != 1 }
func (p *Params) penalises() bool { return p.repeats() || p.Presence != 0 || p.Frequency != 0 }

// recent is the part of the history that penalties look at.
func recent(history []int32, lastN int) []int32 {
	switch {
	case lastN == 0:
		lastN = DefaultLastN
	case lastN < 0:
		lastN = len(history)
	}
	return history[max(0, len(history)-lastN):]
}

func clamp(l float32) float32 { return max(-clampLogit, min(clampLogit, l)) }

// restore undoes adjust, latest change first.
func (s *Sampler) restore(logits []float32) {
	for i := len(s.touched) - 1; i >= 0; i-- {
		logits[s.touched[i].ID] = s.touched[i].Logprob
	}
}

func allowed(mask []uint64, id int) bool { return mask == nil || mask[id>>6]>>(id&63)&1 != 0 }

// argmax is the allowed token with the highest logit, ties to the lowest id, or -1.
func (s *Sampler) argmax(logits []float32, mask []uint64) int32 {
	if mask != nil {
		return maskedArgmax(logits, mask)
	}
	most := 0
	for b, m := range s.maxima {
		if m > s.maxima[most] {
			most = b
		}
	}
	first, end := s.block(most)
	best := first
	for id := first; id < end; id++ {
		if logits[id] > logits[best] {
			best = id
		}
	}
	return int32(best)
}

// block gives the tokens first..end-1 of a block of maxima.
func (s *Sampler) block(b int) (first, end int) {
	return b * cpu.MaximaBlock, min(s.vocab, (b+1)*cpu.MaximaBlock)
}

// maskedArgmax visits the allowed tokens alone.
func maskedArgmax(logits []float32, mask []uint64) int32 {
	best := -1
	for i, word := range mask {
		for ; word != 0; word &= word - 1 {
			id := i*64 + bits.TrailingZeros64(word)
			if id >= len(logits) {
				return int32(best)
			}
			if best < 0 || logits[id] > logits[best] {
				best = id
			}
		}
	}
	return int32(best)
}

// random draws from the tempered and truncated distribution. Tokens are walked in ascending order of ids.
func (s *Sampler) random(p *Params, in Input) int32 {
	best := s.argmax(in.Logits, in.Mask)
	if best < 0 {
		return best
	}
	top, temperature := in.Logits[best], p.Temperature
	total := uint64(0)
	switch {
	case p.TopK > 0 && p.TopK < s.vocab && in.Mask == nil && p.TopK <= len(s.maxima)/2:
		total = s.weighTop(in.Logits, top, temperature, p.TopK)
	case p.TopK > 0 && p.TopK < s.vocab:
		total = s.weigh(in, top, temperature, s.kth(in.Logits, in.Mask, p.TopK), p.least())
	case in.Mask == nil:
		total = s.weighBlocks(in.Logits, top, temperature, p.least())
		if !(p.TopP > 0 && p.TopP < 1) && p.MinP == 0 {
			left, _ := bits.Mul64(random(p.Seed, p.Choice, uint64(in.Position)), total)
			return s.pick(in.Logits, top, temperature, left)
		}
		total = s.heavy(in.Logits, top, temperature, total, p)
	default:
		total = s.weigh(in, top, temperature, lowest, p.least())
	}
	if p.TopP > 0 && p.TopP < 1 {
		total = s.cut(share(total, p.TopP))
	}
	if p.MinP > 0 {
		total = s.floor(fixed(p.MinP))
	}
	return s.walk(p, total, in.Position, best)
}

// walk draws one of the candidates, whose weights have the sum total.
func (s *Sampler) walk(p *Params, total uint64, position int, best int32) int32 {
	left, _ := bits.Mul64(random(p.Seed, p.Choice, uint64(position)), total)
	for _, c := range s.cands {
		if left < c.weight {
			return c.id
		}
		left -= c.weight
	}
	return best // not reached: left is below the sum of weights
}

// least is the least logarithm of a share of the most likely token's probability that can count: a token whose logit is
// further below than that, in units of the temperature, is never drawn. Where min_p alone cuts it is that of min_p, less
// what roundings could make of it.
func (p *Params) least() float64 {
	if p.MinP > 0 && (p.TopP == 0 || p.TopP == 1) {
		return max(least, math.Log(float64(p.MinP))-0.001)
	}
	return least
}

// weigh fills cands with the allowed tokens of any weight, down to last in the order of logits, and gives their sum. Blocks
// of tokens that lie below lowest are not looked at.
func (s *Sampler) weigh(in Input, best, temperature float32, last rank, lowest float64) uint64 {
	total := uint64(0)
	s.cands = s.cands[:0]
	for b, m := range s.maxima {
		if distance(m, best, temperature) < lowest {
			continue
		}
		first, end := s.block(b)
		for id := first; id < end; id++ {
			l := in.Logits[id]
			if last.before(l, int32(id)) {
				continue
			}
			w := weight(distance(l, best, temperature))
			if w == 0 || !allowed(in.Mask, id) {
				continue
			}
			s.cands = append(s.cands, candidate{w, int32(id)})
			total += w
		}
	}
	return total
}

// weighTop is weigh for the k highest logits.
func (s *Sampler) weighTop(logits []float32, best, temperature float32, k int) uint64 {
	total := uint64(0)
	s.cands = s.cands[:0]
	for _, t := range s.top(logits, k) {
		if w := weight(distance(logits[t.id], best, temperature)); w > 0 {
			s.cands = append(s.cands, candidate{w, t.id})
			total += w
		}
	}
	slices.SortFunc(s.cands, func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
	return total
}

// distance is how far a logit lies below the best, in units of the temperature.
func distance(l, best, temperature float32) float64 { return arith.Distance(l, best, temperature) }

// share is the part p of total, rounded up, at least 1; p is taken in steps of 2^-40.
func share(total uint64, p float32) uint64 {
	hi, lo := bits.Mul64(total, fixed(p))
	need := hi<<24 | lo>>40
	if lo&(one-1) != 0 {
		need++
	}
	return max(1, need)
}

// floor keeps candidates of at least weight w and gives their sum.
func (s *Sampler) floor(w uint64) uint64 {
	return s.filter(func(c candidate) bool { return c.weight >= w })
}

// filter keeps some candidates, in order, and gives their sum.
func (s *Sampler) filter(keep func(candidate) bool) uint64 {
	total, n := uint64(0), 0
	for _, c := range s.cands {
		if keep(c) {
			s.cands[n] = c
			n++
			total += c.weight
		}
	}
	s.cands = s.cands[:n]
	return total
}
