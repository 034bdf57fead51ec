package shard

import (
	"errors"
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/shard/kv"
	"github.com/weft-mesh/weft/shard/sample"
)

// step is the working memory of Step, kept so that a steady decode allocates nothing.
type step struct {
	maxRows int
	full    bool // a run had no room
	batch   kernels.Batch
	ids     []int32 // one a row
	works   []work
	active  []*session // sessions of the batch, by slot
	results []Result

	hidden []float32 // between parts, and for the next stage

	// Of the last stage.
	heads      []int32   // batch rows that are sampled, in the order of runs
	cursor     int       // first of heads that is not dealt with
	from       int       // first of heads whose logits are at hand
	to         int       // end of those
	owners     []int32   // of each of heads its run, an index into works
	logits     []float32 // of the rows at hand, or of one where they lie on a card
	draws      draws     // of the rows at hand, where they lie on a card
	states     []float32 // headRows by Embd
	wantStates bool
	bytes      []byte // one state, for its hash
	tokens     []sample.Token
	tops       []sample.Logprob
	hashes     [][32]byte
}

// work is a run that is part of the batch.
type work struct {
	run   *Run
	index int // of the run's result
	s     *session
	row   int // its first row of the batch
	heads int // how many of its rows are sampled
}

func (t *step) init(s *Stage, maxRows int) {
	t.maxRows = maxRows
	if !s.last || len(s.parts) > 1 {
		t.hidden = make([]float32, maxRows*s.model.Embd)
	}
	if !s.last {
		return
	}
	rows := 1
	if s.graph.HostMemory() {
		rows = s.graph.HeadRows()
	}
	t.logits = make([]float32, rows*s.model.Vocab)
	t.states = make([]float32, s.graph.HeadRows()*s.model.Embd)
	t.bytes = make([]byte, 4*s.model.Embd)
	// Results point into these, so they must not move while a step fills them.
	t.tokens = make([]sample.Token, 0, maxRows)
	t.tops = make([]sample.Logprob, 0, maxRows*sample.MaxTopLogprobs)
	t.hashes = make([][32]byte, 0, maxRows)
}

// Step computes runs of any number of sessions as one batch and waits for it. Results come in the order of runs and are
// valid until the next Step. Runs of one session must be in order. One run's failure leaves other sessions unharmed; later
// runs of its own session then are gaps. The first run that would make more than MaxRows positions is refused with
// ErrBatchFull, and so are all that follow. The error means that
// the stage is closed or its device lost, and then there are no results.
func (s *Stage) Step(runs []Run) ([]Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, s.broken
	}
	s.plan(runs)
	err := s.compute()
	if err == nil {
		err = s.settleAll()
	}
	for _, e := range s.step.active {
		e.slot = -1
	}
	if err != nil {
		s.broken = fmt.Errorf("stage of layers %d to %d: device lost: %w", s.rng.First, s.rng.End-1, err)
		return nil, s.broken
	}
	return s.step.results, nil
}

// errRefused is about a run whose first token is not the one that was drawn for its position: nothing of it is computed.
var errRefused = errors.New("run is refused")

// plan decides which runs are computed and builds their batch.
func (s *Stage) plan(runs []Run) {
	t := &s.step
	b := &t.batch
	b.Rows, b.Seqs, b.Faults = b.Rows[:0], b.Seqs[:0], b.Faults[:0]
	t.ids, t.works, t.active, t.results = t.ids[:0], t.works[:0], t.active[:0], t.results[:0]
	t.heads, t.owners, t.cursor, t.from, t.to = t.heads[:0], t.owners[:0], 0, 0, 0
	t.full, t.wantStates = false, false
	t.tokens, t.tops, t.hashes = t.tokens[:0], t.tops[:0], t.hashes[:0]
	for i := range runs {
		r := &runs[i]
		t.results = append(t.results, Result{Session: r.Session, Epoch: r.Epoch, Base: r.Base, N: len(r.Tokens)})
		e, err := s.admit(r)
		if errors.Is(err, errRefused) {
			t.results[i].EpochEnded = true
			continue
		}
		if err != nil {
			t.results[i].Err = err
			continue
		}
		t.add(s.last, r, e, i)
	}
	for _, e := range t.active { // only now: a later run of a session may have extended its table
		b.Seqs = append(b.Seqs, e.seq.Table())
	}
}

// admit checks a run and makes its positions addressable.
func (s *Stage) admit(r *Run) (*session, error) {
	e, err := s.find(r.Session)
	if err != nil {
		return nil, err
	}
	if err := s.checkRun(r); err != nil {
		return nil, fmt.Errorf("session %x: %w", r.Session, err)
	}
	if s.step.full {
		return nil, ErrBatchFull
	}
	at := e.valid
	if e.slot >= 0 {
		at = e.planned
	}
	switch {
	case !e.started:
		return nil, fmt.Errorf("session %x: %w: it has not been started", r.Session, ErrGap)
	case r.Epoch < e.epoch || (r.Epoch == e.epoch && e.ended):
		return nil, ErrStale
	case r.Epoch > e.epoch:
		return nil, fmt.Errorf("session %x: %w: epoch %d was not begun, the session is in %d", r.Session, ErrGap, r.Epoch, e.epoch)
	case r.Base != at:
		return nil, fmt.Errorf("session %x: %w: it begins at position %d, the valid length is %d", r.Session, ErrGap, r.Base, at)
	case len(s.step.ids)+len(r.Tokens) > s.step.maxRows:
		s.step.full = true // for all that follow too, so that no session's runs change their order
		return nil, ErrBatchFull
	}
	if e.slot < 0 && e.pending != noToken && r.Tokens[0] != e.pending {
		e.ended = true
		return nil, errRefused
	}
	if err := e.seq.Extend(r.Base + len(r.Tokens)); err != nil {
		if errors.Is(err, kv.ErrReserved) {
			err = fmt.Errorf("%w: %w", ErrContextFull, err)
		}
		return nil, fmt.Errorf("session %x: %w", r.Session, err)
	}
	return e, nil
}

// checkRun refuses a run that makes no sense for this stage, whatever its session.
func (s *Stage) checkRun(r *Run) error {
	n := len(r.Tokens)
	switch {
	case n == 0 || n > s.step.maxRows:
		return fmt.Errorf("%w: %d tokens; 1 to %d were expected", ErrRun, n, s.step.maxRows)
	case r.Sample > SampleAll:
		return fmt.Errorf("%w: sampling %d is unknown", ErrRun, r.Sample)
	case !s.rng.Embeds() && len(r.Hidden) != n*s.model.Embd:
		return fmt.Errorf("%w: %d hidden values for %d tokens; %d were expected", ErrRun, len(r.Hidden), n, n*s.model.Embd)
	}
	return s.checkTokens(r.Tokens)
}

// add puts an admitted run into the batch.
func (t *step) add(last bool, r *Run, e *session, index int) {
	if e.slot < 0 {
		e.slot, e.planned = len(t.active), e.valid
		t.active = append(t.active, e)
	}
	w := work{run: r, index: index, s: e, row: len(t.ids)}
	n := len(r.Tokens)
	for i := range n {
		t.batch.Rows = append(t.batch.Rows, kernels.Row{Seq: int32(e.slot), Pos: int32(r.Base + i)})
	}
	t.ids = append(t.ids, r.Tokens...)
	e.tokens = append(e.tokens[:r.Base], r.Tokens...)
	e.planned += n
	if last {
		switch r.Sample {
		case SampleLast:
			w.heads = 1
		case SampleAll:
			w.heads = n
		}
	}
	for i := n - w.heads; i < n; i++ {
		t.heads, t.owners = append(t.heads, int32(w.row+i)), append(t.owners, int32(len(t.works)))
	}
	t.wantStates = t.wantStates || (r.States && w.heads > 0)
	t.works = append(t.works, w)
}

// compute takes the batch through the layers and reads the hidden states or, on the last stage, projects the first rows that
// are sampled.
func (s *Stage) compute() error {
	t := &s.step
	if len(t.ids) == 0 {
		return nil
	}
	first := s.parts[0].graph
	if s.rng.Embeds() {
		first.Embed(&t.batch, t.ids)
	} else {
		for i := range t.works {
			first.Input(t.works[i].row, t.works[i].run.Hidden)
		}
	}
	if err := s.layers(); err != nil || len(t.heads) == 0 {
		return err
	}
	return s.project()
}

// settleAll turns what was computed into results, run after run.
func (s *Stage) settleAll() error {
	for i := range s.step.works {
		w := &s.step.works[i]
		if err := s.settle(w); err != nil {
			return err
		}
	}
	for _, e := range s.step.active {
		e.tokens = e.tokens[:e.valid]
	}
	return nil
}

// settle decides one run. Those before it are settled.
func (s *Stage) settle(w *work) error {
	t, e := &s.step, w.s
	res := &t.results[w.index]
	end := t.cursor + w.heads
	defer func() { t.cursor = end }()
	switch {
	case e.ended:
		res.Err = ErrStale
	case w.run.Base != e.valid:
		res.Err = fmt.Errorf("session %x: %w: the run before it failed", e.id, ErrGap)
	default:
		res.Err = s.fault(w)
	}
	if res.Err != nil {
		return nil
	}
	if !s.last {
		n := s.model.Embd
		res.Hidden = t.hidden[w.row*n : (w.row+res.N)*n]
		res.Accepted = res.N
		e.valid += res.N
		return nil
	}
	if err := s.draw(w, res); err != nil || res.Err != nil {
		return err
	}
	e.valid += res.Accepted
	e.ended = res.EpochEnded
	e.pending = noToken
	if len(res.Tokens) > 0 {
		e.pending = res.Tokens[len(res.Tokens)-1].ID
	}
	e.confirm(e.valid)
	return nil
}

// fault is the fault of the first of a run's rows that has one, or nil. In which order devices report does not matter.
func (s *Stage) fault(w *work) error {
	var first *kernels.Fault
	for i := range s.step.batch.Faults {
		f := &s.step.batch.Faults[i]
		if f.Row >= w.row && f.Row < w.row+len(w.run.Tokens) && (first == nil || f.Row < first.Row) {
			first = f
		}
	}
	if first == nil {
		return nil
	}
	return &FaultError{Layer: first.Layer, Op: first.Op, Position: w.run.Base + first.Row - w.row}
}

// draw samples a run's rows: at each position the target's own token, accepted for as long as the run's next token is the
// same.
func (s *Stage) draw(w *work, res *Result) error {
	t, e, tokens := &s.step, w.s, w.run.Tokens
	res.Accepted = res.N
	if e.pending != noToken && tokens[0] != e.pending {
		res.Accepted, res.EpochEnded = 0, true
		return nil
	}
	firstToken, firstHash := len(t.tokens), len(t.hashes)
	for i := res.N - w.heads; i < res.N; i++ {
		if err := s.project(); err != nil {
			return err
		}
		if res.Err = s.fault(w); res.Err != nil {
			res.Accepted = 0
			return nil
		}
		if err := s.drawRow(w, i); err != nil {
			return err
		}
		t.cursor++
		if i+1 < res.N && t.tokens[len(t.tokens)-1].ID != tokens[i+1] {
			res.Accepted, res.EpochEnded = i+1, true
			break
		}
	}
	res.Tokens = t.tokens[firstToken:len(t.tokens):len(t.tokens)]
	if w.run.States && w.heads > 0 {
		res.StateHashes = t.hashes[firstHash:len(t.hashes):len(t.hashes)]
	}
	return nil
}
