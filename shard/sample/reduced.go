package sample

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// Reduced is a row of which only some logits are at hand, as a device's Reduction gives them.
type Reduced struct {
	Top      []kernels.Element // the highest, at least as many as were asked for
	Changed  []int32           // the tokens whose logits the settings change, as Ask gives them
	Values   []float32         // theirs, unchanged
	History  []int32           // as Input has it
	Position int               // the same
	Room     []Logprob         // for Params.TopLogprobs entries
	Sums     [2][]uint64       // of the weighings that Weighings asked for, in their order

	First int       // column of the first of Part
	Part  []float32 // a piece of the row that Missing asked for
}

// Missing is the piece of a row that a draw still needs: none, some columns, or all of them.
type Missing struct{ First, End int }

// None says that nothing is missing.
func (m Missing) None() bool { return m.End == 0 }

// Ask says what a draw needs of a row before anything else: how many of its highest elements, and the logits of the tokens
// that the settings change, which it appends to dst. Where width is 0 only the whole row will do.
func (s *Sampler) Ask(dst []int32, p *Params, history []int32) (width int, changed []int32) {
	changed = s.changed(dst, p, history)
	n, need := len(changed)-len(dst), 1
	switch {
	case p.Temperature == 0:
	case p.limitsRank(s.vocab):
		need = p.TopK
	case p.cutsShare() || p.MinP > 0:
		need = max(1, kernels.MaxTop-n)
	}
	width = max(need+n, p.TopLogprobs)
	if width > kernels.MaxTop && kernels.MaxTop < s.vocab {
		return 0, dst
	}
	return min(width, s.vocab), changed // with the whole vocabulary at hand nothing is missing
}

func (p *Params) limitsRank(vocab int) bool { return p.TopK > 0 && p.TopK < vocab }
func (p *Params) cutsShare() bool           { return p.TopP > 0 && p.TopP < 1 }

// changed appends the tokens that biases and penalties change, each once.
func (s *Sampler) changed(dst []int32, p *Params, history []int32) []int32 {
	first := len(dst)
	note := func(id int32) {
		if s.counts[id] == 0 {
			s.counts[id] = 1
			dst = append(dst, id)
		}
	}
	for _, b := range p.Bias {
		note(b.ID)
	}
	if p.penalises() {
		for _, id := range recent(history, p.LastN) {
			note(id)
		}
	}
	for _, id := range dst[first:] {
		s.counts[id] = 0
	}
	return dst
}

// reduced is what draws over reduced rows keep.
type reduced struct {
	place  []int32   // of a token among those that are changed, from 1; all 0 between draws
	values []float32 // of those, after biases and penalties
	set    set
}

// set is a row in the order of logits: the tokens that the settings change stand apart from the rest.
type set struct {
	rest    []kernels.Element // highest first, without what is changed
	changed []kernels.Element // as it is after biases and penalties, highest first
	whole   bool              // together they are the vocabulary
}

// order takes a row apart. The tokens that are changed keep their places until clear.
func (s *Sampler) order(p *Params, r *Reduced) *set {
	t := &s.reduced
	if t.place == nil {
		t.place = make([]int32, s.vocab)
	}
	for i, id := range r.Changed {
		t.place[id] = int32(i + 1)
	}
	t.values = append(t.values[:0], r.Values...)
	if len(r.Changed) > 0 {
		s.change(p, r.History, func(id int32) *float32 { return &t.values[t.place[id]-1] })
	}
	t.set.whole = len(r.Top) == s.vocab
	t.set.rest, t.set.changed = t.set.rest[:0], t.set.changed[:0]
	for _, e := range r.Top {
		if t.place[e.Col] == 0 {
			t.set.rest = append(t.set.rest, e)
		}
	}
	for i, id := range r.Changed {
		t.set.changed = append(t.set.changed, kernels.Element{Col: id, Value: t.values[i]})
	}
	slices.SortFunc(t.set.changed, byLogit)
	return &t.set
}

// clear forgets what is changed.
func (t *reduced) clear(r *Reduced) {
	for _, id := range r.Changed {
		t.place[id] = 0
	}
}

// byLogit orders elements: higher logits first, then lower ids.
func byLogit(a, b kernels.Element) int {
	if a.Value != b.Value {
		return cmp.Compare(b.Value, a.Value)
	}
	return cmp.Compare(a.Col, b.Col)
}

// best is the highest element.
func (t *set) best() kernels.Element {
	if len(t.rest) == 0 || len(t.changed) > 0 && byLogit(t.changed[0], t.rest[0]) < 0 {
		return t.changed[0]
	}
	return t.rest[0]
}

// Weighings appends the weighings that a draw needs to dst, none or one or two. Row is that of the weighings. ok is false
// where only the whole row will do.
func (s *Sampler) Weighings(dst []kernels.Weighing, p *Params, r *Reduced, row int32) (w []kernels.Weighing, ok bool) {
	if p.Logprobs {
		dst = append(dst, kernels.Weighing{Row: row, Best: r.Top[0].Value})
	}
	if p.weighs(s.vocab) {
		t := s.order(p, r)
		s.reduced.clear(r)
		own := kernels.Weighing{Row: row, Best: t.best().Value + 0, Temperature: p.Temperature}
		// Devices subtract floats, and need not have denormal ones.
		if own.Best != 0 && math.Abs(float64(own.Best)) < 0x1p-40 || own.Temperature < 0x1p-126 {
			return dst, false
		}
		dst = append(dst, own)
	}
	return dst, true
}

// weighs says whether a draw needs the sum of the weights of all tokens.
func (p *Params) weighs(vocab int) bool {
	return p.Temperature > 0 && !p.limitsRank(vocab) && (p.cutsShare() || p.MinP == 0)
}

// DrawReduced is Draw over a reduced row: the same token, unless it tells what is missing. All of it is missing where the row
// must be drawn from as it is, by Draw.
func (s *Sampler) DrawReduced(p *Params, r *Reduced) (Token, Missing) {
	var tok Token
	var norm float64
	own := r.Sums[0]
	if p.Logprobs {
		norm = normOf(r.Top[0].Value, r.Sums[0])
		own = r.Sums[1]
		tok.Top = topOf(r.Room[:0], r.Top[:min(p.TopLogprobs, len(r.Top))], norm)
	}
	t := s.order(p, r)
	defer s.reduced.clear(r)
	best := t.best()
	tok.ID = best.Col
	if p.Temperature > 0 {
		var m Missing
		if p.weighs(s.vocab) {
			tok.ID, m = s.randomBySums(p, r, t, best.Value, own)
		} else {
			tok.ID, m = s.randomByRank(p, r, t, best)
		}
		if !m.None() {
			return Token{}, m
		}
	}
	if p.Logprobs {
		tok.Logprob = float32(float64(s.raw(r, tok.ID)) - norm)
	}
	return tok, Missing{}
}

// raw is a token's own logit, which is at hand.
func (s *Sampler) raw(r *Reduced, id int32) float32 {
	if i := s.reduced.place[id]; i > 0 {
		return r.Values[i-1]
	}
	if i := slices.IndexFunc(r.Top, func(e kernels.Element) bool { return e.Col == id }); i >= 0 {
		return r.Top[i].Value
	}
	return r.Part[int(id)-r.First]
}

// randomByRank draws where the highest logits decide: with top_k, or with min_p alone.
func (s *Sampler) randomByRank(p *Params, r *Reduced, t *set, best kernels.Element) (int32, Missing) {
	s.cands = s.cands[:0]
	if p.limitsRank(s.vocab) {
		for i, j := 0, 0; i+j < p.TopK && i+j < len(t.rest)+len(t.changed); {
			var e kernels.Element
			if j == len(t.changed) || i < len(t.rest) && byLogit(t.rest[i], t.changed[j]) < 0 {
				e = t.rest[i]
				i++
			} else {
				e = t.changed[j]
				j++
			}
			s.consider(e, best.Value, p.Temperature, 1)
		}
	} else {
		lightest := max(1, fixed(p.MinP))
		if lightest <= s.unseen(t, best.Value, p.Temperature) {
			return 0, Missing{End: s.vocab}
		}
		s.considerAll(t, best.Value, p.Temperature, lightest)
	}
	return s.finish(p, sumOf(s.cands), r.Position, best.Col), Missing{}
}

// unseen is the most that a token outside of the set may weigh.
func (s *Sampler) unseen(t *set, best, temperature float32) uint64 {
	switch {
	case t.whole:
		return 0
	case len(t.rest) == 0:
		return one
	}
	// Weights fall with the logit, up to a rounding.
	return weight(distance(t.rest[len(t.rest)-1].Value, best, temperature)) + 2
}

// considerAll makes candidates of the tokens of at least some weight.
func (s *Sampler) considerAll(t *set, best, temperature float32, lightest uint64) {
	for _, e := range t.rest {
		s.consider(e, best, temperature, lightest)
	}
	for _, e := range t.changed {
		s.consider(e, best, temperature, lightest)
	}
}

func (s *Sampler) consider(e kernels.Element, best, temperature float32, lightest uint64) {
	if w := weight(distance(e.Value, best, temperature)); w >= lightest {
		s.cands = append(s.cands, candidate{w, e.Col})
	}
}

func sumOf(cands []candidate) (total uint64) {
	for _, c := range cands {
		total += c.weight
	}
	return total
}

// finish cuts the candidates, of which top_p counts from total, and draws one of them.
func (s *Sampler) finish(p *Params, total uint64, position int, best int32) int32 {
	slices.SortFunc(s.cands, func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
	if p.cutsShare() {
		total = s.cut(share(total, p.TopP))
	}
	if p.MinP > 0 {
		total = s.floor(fixed(p.MinP))
	}
	return s.walk(p, total, position, best)
}

// randomBySums draws where the sum of all weights decides: with top_p, or without any cut.
func (s *Sampler) randomBySums(p *Params, r *Reduced, t *set, best float32, blocks []uint64) (int32, Missing) {
	s.correct(r, t, best, p.Temperature, blocks)
	total := uint64(0)
	for _, b := range s.sums {
		total += b
	}
	if !p.cutsShare() {
		left, _ := bits.Mul64(random(p.Seed, p.Choice, uint64(r.Position)), total)
		return s.pickPart(p, r, t, best, left)
	}
	s.cands = s.cands[:0]
	s.considerAll(t, best, p.Temperature, 1+s.unseen(t, best, p.Temperature))
	if sumOf(s.cands) < share(total, p.TopP) {
		return 0, Missing{End: s.vocab}
	}
	return s.finish(p, total, r.Position, t.best().Col), Missing{}
}

// correct makes sums of the blocks' weights after biases and penalties of those before.
func (s *Sampler) correct(r *Reduced, t *set, best, temperature float32, blocks []uint64) {
	s.sums = append(s.sums[:0], blocks...)
	for i, id := range r.Changed {
		if l := r.Values[i]; l <= best { // others had no weight
			s.sums[id/kernels.WeighBlock] -= weight(distance(l, best, temperature))
		}
	}
	for _, e := range t.changed {
		s.sums[e.Col/kernels.WeighBlock] += weight(distance(e.Value, best, temperature))
	}
}

// pickPart is the token at which the sum of weights, ascending by id, passes left: it asks for the block in which that is.
func (s *Sampler) pickPart(p *Params, r *Reduced, t *set, best float32, left uint64) (int32, Missing) {
	b := 0
	for ; left >= s.sums[b] && b+1 < len(s.sums); b++ {
		left -= s.sums[b]
	}
	first, end := b*kernels.WeighBlock, min(s.vocab, (b+1)*kernels.WeighBlock)
	if r.First != first || len(r.Part) != end-first {
		return 0, Missing{first, end}
	}
	for i, l := range r.Part {
		if k := s.reduced.place[first+i]; k > 0 {
			l = s.reduced.values[k-1]
		}
		w := weight(distance(l, best, p.Temperature))
		if left < w {
			return int32(first + i), Missing{}
		}
		left -= w
	}
	return t.best().Col, Missing{} // not reached: left is below the block's sum
}

// normOf is logNorm of a row whose weights beside its best logit have those sums.
func normOf(best float32, blocks []uint64) float64 {
	sum := uint64(0)
	for _, b := range blocks {
		sum += b
	}
	return float64(best) + arith.Log64(float64(sum)/one)
}

// topOf appends the highest tokens with their log-probabilities.
func topOf(dst []Logprob, best []kernels.Element, norm float64) []Logprob {
	if len(best) == 0 {
		return nil
	}
	for _, e := range best {
		dst = append(dst, Logprob{e.Col, float32(float64(e.Value) - norm)})
	}
	return dst
}
