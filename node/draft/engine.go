package draft

import (
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/kv"
)

// Stage is what an Engine needs of a *shard.Stage that has all of a model's
// layers.
type Stage interface {
	Open(shard.SessionSpec) (held int, err error)
	Start(id shard.SessionID, epoch uint64, base int) error
	Truncate(id shard.SessionID, epoch uint64, keep int) error
	CloseSession(id shard.SessionID)
	Step([]shard.Run) ([]shard.Result, error)
	Close() error
}

// Options are what an Engine is made of.
type Options struct {
	Stage   Stage
	Device  sync.Locker // held around every step and other use of the stage's device
	Vocab   int         // tokens that the draft model and its target have in common: ids 0 to Vocab-1
	Context int         // positions of a reply at most
	MaxRows int         // of a step
	Now     func() time.Time
}

const (
	// chunk is how many positions of a prompt one reply has in a step: others
	// wait for its end.
	chunk = 32
	// most is how many replies are drafted for at once.
	most = 16
	// begun is how many tokens are drafted as soon as a prompt is read, so that
	// it is known what they cost and how good they are.
	begun = 2
	// late is how many positions a source may be behind and still be waited for.
	late = 16
	// narrow is the most rows a reply has in a step that tells what a drafted
	// token costs.
	narrow = 3
	// patience is how many tokens a reply may get without using the source
	// before it reads along no more.
	patience = 48
)

// Engine drafts for several replies at once. Its methods may be called from any
// goroutine.
type Engine struct {
	o    Options
	kick chan struct{} // of capacity 1: there may be work
	done chan struct{} // the loop has ended

	// mu guards everything below, and what says so in sources.
	mu      sync.Mutex
	moved   *sync.Cond // on mu: something was drafted, or nothing more will be
	sources []*Source
	gone    []*Source // closed, and still open at the stage
	closed  bool
	cost    time.Duration // of a token, as measured; 0: not known
	drafted int64
	rest    time.Time // since when there is no source

	// The loop's own.
	runs  []shard.Run
	works []work
}

// work is one source's part of a step.
type work struct {
	s      *Source
	turn   uint64 // Source.turn
	keep   int    // positions that stand
	tokens []int32
	ends   bool // the last of tokens is the last that is known: what follows is drawn
}

// New starts an engine; Close ends it.
func New(o Options) *Engine {
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &Engine{o: o, kick: make(chan struct{}, 1), done: make(chan struct{}), rest: o.Now()}
	e.moved = sync.NewCond(&e.mu)
	go e.loop()
	return e
}

// Close ends the engine, waits for the step under way and closes the stage.
// Sources draft nothing from then on.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		<-e.done
		return nil
	}
	e.shut()
	e.mu.Unlock()
	e.signal()
	<-e.done
	e.o.Device.Lock()
	defer e.o.Device.Unlock()
	return e.o.Stage.Close()
}

// shut says that nothing more will be drafted; mu is held.
func (e *Engine) shut() {
	e.closed = true
	e.moved.Broadcast()
}

// Open gives a source for one reply of at most so many positions, which the
// caller closes. salt separates tenants in the prefix cache, which is looked up
// where reuse says so.
func (e *Engine) Open(positions int, salt []byte, reuse bool) *Source {
	s := &Source{e: e, salt: salt, reuse: reuse, positions: min(positions, e.o.Context), wake: make(chan struct{}, 1), pending: -1}
	rand.Read(s.id[:])
	e.mu.Lock()
	defer e.mu.Unlock()
	s.spare = len(e.sources) >= most
	s.lost = true // until Begin
	e.sources = append(e.sources, s)
	return s
}

// Rests says whether no reply has used the engine for so long.
func (e *Engine) Rests(idle time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.sources) == 0 && e.o.Now().Sub(e.rest) >= idle
}

// Drafted is how many tokens the engine has drafted.
func (e *Engine) Drafted() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.drafted
}

func (e *Engine) signal() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// loop steps while there is something to draft.
func (e *Engine) loop() {
	defer close(e.done)
	for range e.kick {
		for {
			more, err := e.step()
			if err != nil {
				e.mu.Lock()
				e.shut()
				e.mu.Unlock()
			}
			if e.ended() {
				return
			}
			if !more {
				break
			}
		}
	}
}

func (e *Engine) ended() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// step takes each source that wants tokens one step further, all as one batch;
// false when none does. The error means that the device is lost.
func (e *Engine) step() (bool, error) {
	e.plan()
	e.o.Device.Lock()
	defer e.o.Device.Unlock()
	e.free()
	e.runs = e.runs[:0]
	works, again := e.works[:0], false
	for _, w := range e.works {
		stands, err := e.place(w)
		if err != nil {
			e.lose(w.s)
			continue
		}
		if !stands {
			again = true
			continue
		}
		r := shard.Run{Session: w.s.id, Epoch: w.s.epoch, Base: w.keep, Tokens: w.tokens}
		if w.ends {
			r.Sample = shard.SampleLast
		}
		e.runs, works = append(e.runs, r), append(works, w)
	}
	e.works = works
	if len(works) == 0 {
		return again, nil
	}
	begin := e.o.Now()
	results, err := e.o.Stage.Step(e.runs)
	if err != nil {
		return false, err
	}
	e.settle(results, e.o.Now().Sub(begin))
	return true, nil
}

// plan decides what the next step computes.
func (e *Engine) plan() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.works = e.works[:0]
	room := e.o.MaxRows
	for _, s := range e.sources {
		if e.closed || s.lost || len(s.path) >= s.want && !s.reads() {
			continue
		}
		s.all = append(append(s.all[:0], s.seq...), s.path...)
		keep := common(s.have, s.all, s.stood)
		keep = min(keep, len(s.all)-1) // there must be something to draw from
		end := min(len(s.all), keep+chunk, keep+room)
		if end <= keep {
			continue
		}
		if end > s.positions {
			s.lost = true
			e.moved.Broadcast()
			continue
		}
		room -= end - keep
		e.works = append(e.works, work{s: s, turn: s.turn, keep: keep, tokens: s.all[keep:end], ends: end == len(s.all)})
	}
}

// common is how many tokens two sequences begin with alike, given that the first
// known ones are.
func common(a, b []int32, known int) int {
	n := min(known, len(a), len(b))
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// free closes at the stage what was closed.
func (e *Engine) free() {
	e.mu.Lock()
	gone := e.gone
	e.gone = nil
	e.mu.Unlock()
	for _, s := range gone {
		e.o.Stage.CloseSession(s.id)
	}
}

// place makes a source's session at the stage stand at the position where its
// work begins: opened, and without what is not in its sequence. It is false when
// it stands elsewhere, so that the work has to be planned anew.
func (e *Engine) place(w work) (bool, error) {
	s := w.s
	if !s.opened {
		return e.open(w)
	}
	if w.keep == len(s.have) && (s.pending < 0 || s.pending == w.tokens[0]) {
		return true, nil
	}
	s.epoch++
	s.pending = -1
	keep := w.keep
	err := e.o.Stage.Truncate(s.id, s.epoch, keep)
	if errors.Is(err, kv.ErrShared) { // with a reply that was the same so far
		keep -= keep % kv.BlockPositions
		err = e.o.Stage.Truncate(s.id, s.epoch, keep)
	}
	if err != nil {
		return false, err
	}
	e.hold(s, s.have[:keep])
	return keep == w.keep, nil
}

// open opens a source's session.
func (e *Engine) open(w work) (bool, error) {
	s := w.s
	spec := shard.SessionSpec{ID: s.id, Positions: s.positions, Salt: s.salt}
	if s.reuse {
		spec.Prompt = s.all
	}
	held, err := e.o.Stage.Open(spec)
	if err != nil {
		return false, err
	}
	s.opened, s.epoch = true, 1
	if err := e.o.Stage.Start(s.id, s.epoch, held); err != nil {
		return false, err
	}
	e.hold(s, append(s.have[:0], s.all[:held]...))
	return held == w.keep, nil
}

// hold notes what the stage has of a source's sequence.
func (e *Engine) hold(s *Source, tokens []int32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.have = tokens
}

// lose ends a source's drafting until it begins anew.
func (e *Engine) lose(s *Source) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.lost = true
	e.moved.Broadcast()
}

// settle takes a step's results in.
func (e *Engine) settle(results []shard.Result, took time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	slim := true
	for i := range e.works {
		slim = slim && len(e.works[i].tokens) <= narrow
		e.works[i].take(&results[i])
	}
	if slim {
		e.learn(took)
	}
	e.moved.Broadcast()
}

// learn takes in what a token costs: a moving average that a pause of the machine
// does not spoil.
func (e *Engine) learn(took time.Duration) {
	if e.cost == 0 {
		e.cost = took
		return
	}
	e.cost += (min(took, 3*e.cost) - e.cost) / 8
}

// take takes in what became of one source's work; mu is held.
func (w *work) take(r *shard.Result) {
	s := w.s
	if r.Err != nil {
		s.lost = !errors.Is(r.Err, shard.ErrBatchFull)
		return
	}
	s.have = append(s.have[:w.keep], w.tokens...)
	if s.turn == w.turn {
		s.stood = len(s.have)
	}
	s.pending = -1
	if len(r.Tokens) == 0 {
		return
	}
	s.pending = r.Tokens[0].ID
	at := w.keep + len(w.tokens)
	if s.turn != w.turn || len(s.seq)+len(s.path) != at {
		return // the sequence is another by now
	}
	if int(s.pending) >= s.e.o.Vocab {
		s.want = len(s.path) // the target knows no such token
		return
	}
	s.path = append(s.path, s.pending)
	s.e.drafted++
	if len(s.path) >= s.want {
		s.rouse()
	}
}
