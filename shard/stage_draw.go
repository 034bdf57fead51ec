package shard

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/shard/sample"
)

// draws is what is known of the logits at hand where they lie on a card: only what the sampler needs of them is read back.
// It is asked for all rows in two rounds, of which the second needs answers of the first; what a draw still lacks then is
// read for its row alone.
type draws struct {
	rows    []rowDraw
	changed []int32 // tokens whose logits settings change, of all rows
	highest kernels.Reduction
	weights kernels.Reduction
	piece   kernels.Reduction
}

// rowDraw is one row of them.
type rowDraw struct {
	whole   bool // the row itself is needed
	reduced sample.Reduced
	changed [2]int // its part of draws.changed
	weights [2]int // its part of the weighings
}

// project sees to it that the logits of the row at the cursor are at hand.
func (s *Stage) project() error {
	t := &s.step
	if t.cursor < t.to {
		return nil
	}
	t.from = t.cursor
	t.to = min(len(t.heads), t.from+s.graph.HeadRows())
	n := t.to - t.from
	var states []float32
	if t.wantStates {
		states = t.states[:n*s.model.Embd]
	}
	if s.graph.HostMemory() {
		err := s.graph.Project(s.ends(), t.heads[t.from:t.to], states, t.logits[:n*s.model.Vocab])
		s.takeFaults()
		return s.ofLast(err)
	}
	s.askHighest(n)
	if err := s.graph.Reduce(s.ends(), t.heads[t.from:t.to], states, &t.draws.highest); err != nil {
		return s.ofLast(err)
	}
	s.takeFaults()
	return s.ofLast(s.askWeights())
}

// ofLast makes an error one of the last part.
func (s *Stage) ofLast(err error) error {
	if err == nil {
		return nil
	}
	return &PartError{len(s.parts) - 1, err}
}

// history is the tokens before the one that is drawn at a head.
func (t *step) history(head int) (e *session, tokens []int32) {
	w := &t.works[t.owners[head]]
	return w.s, w.s.tokens[:w.run.Base+int(t.heads[head])-w.row+1]
}

// askHighest fills the question for the highest logits of the rows at hand, and for those that settings change.
func (s *Stage) askHighest(n int) {
	t := &s.step
	d := &t.draws
	d.rows, d.changed = d.rows[:0], d.changed[:0]
	q := &d.highest
	q.Rows, q.Width, q.At = n, 0, q.At[:0]
	for i := range n {
		e, history := t.history(t.from + i)
		before := len(d.changed)
		var width int
		width, d.changed = s.sampler.Ask(d.changed, &e.params, history)
		for _, id := range d.changed[before:] {
			q.At = append(q.At, kernels.Place{Row: int32(i), Col: id})
		}
		q.Width = max(q.Width, width)
		d.rows = append(d.rows, rowDraw{whole: width == 0, changed: [2]int{before, len(d.changed)}})
	}
}

// askWeights takes the highest logits and asks for the sums of weights that draws need.
func (s *Stage) askWeights() error {
	t := &s.step
	d := &t.draws
	q := &d.weights
	q.Weigh = q.Weigh[:0]
	for i := range d.rows {
		x := &d.rows[i]
		if x.whole || t.faulted(int(t.heads[t.from+i])) {
			continue
		}
		e, history := t.history(t.from + i)
		from, to, width := x.changed[0], x.changed[1], d.highest.Width
		x.reduced = sample.Reduced{
			Top: d.highest.Top[i*width : (i+1)*width], Changed: d.changed[from:to], Values: d.highest.Values[from:to],
			History: history, Position: len(history),
		}
		first := len(q.Weigh)
		weigh, ok := s.sampler.Weighings(q.Weigh, &e.params, &x.reduced, int32(i))
		if x.whole = !ok; ok {
			q.Weigh, x.weights = weigh, [2]int{first, len(weigh)}
		}
	}
	if len(q.Weigh) == 0 {
		return nil
	}
	if err := s.graph.Ask(q); err != nil {
		return err
	}
	blocks := kernels.Blocks(s.model.Vocab)
	for i := range d.rows {
		x := &d.rows[i]
		for k := x.weights[0]; k < x.weights[1]; k++ {
			x.reduced.Sums[k-x.weights[0]] = q.Sums[k*blocks : (k+1)*blocks]
		}
	}
	return nil
}

// faulted says that a batch row has a fault.
func (t *step) faulted(row int) bool {
	return slices.ContainsFunc(t.batch.Faults, func(f kernels.Fault) bool { return f.Row == row })
}

// drawRow draws the token after position i of a run, from the logits at the cursor.
func (s *Stage) drawRow(w *work, i int) error {
	t, e := &s.step, w.s
	at, vocab := t.cursor-t.from, s.model.Vocab
	next := w.run.Base + i + 1
	room := len(t.tops)
	in := sample.Input{History: e.tokens[:next], Position: next, Top: t.tops[room:room]}
	var token sample.Token
	if s.graph.HostMemory() {
		in.Logits = t.logits[at*vocab : (at+1)*vocab]
		token = s.sampler.Draw(&e.params, in)
	} else {
		var err error
		if token, err = s.drawAway(&e.params, at, in); err != nil {
			return s.ofLast(err)
		}
	}
	t.tops = t.tops[:room+len(token.Top)]
	t.tokens = append(t.tokens, token)
	if w.run.States {
		embd := s.model.Embd
		t.hashes = append(t.hashes, t.hash(t.states[at*embd:(at+1)*embd]))
	}
	return nil
}

// drawAway draws from logits on a card: from what is known of them, with a piece of the row if the draw falls into it, and
// where that does not decide it from the whole row.
func (s *Stage) drawAway(p *sample.Params, row int, in sample.Input) (sample.Token, error) {
	t := &s.step
	if x := &t.draws.rows[row]; !x.whole {
		x.reduced.Room = in.Top
		token, missing := s.sampler.DrawReduced(p, &x.reduced)
		if !missing.None() && missing.End-missing.First < s.model.Vocab {
			if err := s.askPiece(row, missing); err != nil {
				return token, err
			}
			x.reduced.First, x.reduced.Part = missing.First, t.draws.piece.Values
			token, missing = s.sampler.DrawReduced(p, &x.reduced)
		}
		if missing.None() {
			return token, nil
		}
	}
	if err := s.graph.Logits(t.logits, row); err != nil {
		return sample.Token{}, err
	}
	in.Logits = t.logits
	return s.sampler.Draw(p, in), nil
}

// askPiece reads some columns of a row.
func (s *Stage) askPiece(row int, m sample.Missing) error {
	q := &s.step.draws.piece
	q.At = q.At[:0]
	for col := m.First; col < m.End; col++ {
		q.At = append(q.At, kernels.Place{Row: int32(row), Col: int32(col)})
	}
	return s.graph.Ask(q)
}

// hash is the SHA-256 of a state's little-endian bytes.
func (t *step) hash(state []float32) [32]byte {
	for i, x := range state {
		binary.LittleEndian.PutUint32(t.bytes[4*i:], math.Float32bits(x))
	}
	return sha256.Sum256(t.bytes)
}
