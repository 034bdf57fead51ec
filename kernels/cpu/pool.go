package cpu

import (
	"sync"
	"sync/atomic"
	"time"
)

// task is work in units that may run in any order and on any worker. Which
// worker runs a unit must not matter for the result.
type task interface {
	// unit runs unit i. worker, from 0, picks scratch memory.
	unit(worker, i int)
}

// pool runs tasks on a fixed set of goroutines that spin for a moment between
// tasks, since waking a parked one costs tens of microseconds, and then park.
//
// A task does not wait for workers that are parked or not scheduled: units are
// handed out one by one, the caller takes them too, and only workers that have
// entered the task are waited for. A machine busy with other work therefore
// costs speed in proportion, not a stall. Who waits for longer than a moment
// gives its processor to any thread of the machine that wants it: another
// node's, or the very one that is waited for.
type pool struct {
	workers int // the caller included
	task    task
	units   int32

	_    [64]byte
	next atomic.Int32 // next unit to hand out
	_    [64]byte
	// state is the task's number times 2^16, plus openBit while units may be
	// left, plus the number of workers inside.
	state atomic.Uint64
	_     [64]byte
	// sleepers counts parked workers.
	sleepers atomic.Int32
	stop     atomic.Bool

	mu   sync.Mutex // guards the step from spinning to parked
	wake *sync.Cond
	done sync.WaitGroup // the workers
}

const (
	openBit    = 1 << 15
	insideMask = openBit - 1

	// eagerTurns is how long, about 20 us, a wait keeps its processor; after
	// that it yields in every yieldTurns-th turn.
	eagerTurns = 500
	yieldTurns = 16
	// spinFor bounds the wait of a worker before it parks.
	spinFor = 100 * time.Microsecond
)

func newPool(workers int) *pool {
	p := &pool{workers: workers}
	p.wake = sync.NewCond(&p.mu)
	for i := 1; i < workers; i++ {
		p.done.Add(1)
		go p.work(i)
	}
	return p
}

// run runs units 0..units-1 of t and returns when all have ended. It allocates
// nothing and is for one goroutine at a time.
func (p *pool) run(t task, units int) {
	if p.workers == 1 || units <= 1 {
		for i := range units {
			t.unit(0, i)
		}
		return
	}
	p.task, p.units = t, int32(units)
	p.next.Store(0)
	number := p.state.Load()>>16 + 1
	p.state.Store(number<<16 | openBit)
	p.rouse()
	p.drain(0)
	p.leave()
}

// leave closes the task to workers that have not entered and waits for the
// others.
func (p *pool) leave() {
	for s := p.state.Load(); !p.state.CompareAndSwap(s, s&^openBit); {
		s = p.state.Load()
	}
	for w := (wait{}); p.state.Load()&insideMask != 0; {
		w.turn()
	}
}

// wait is a spin loop that is soft on others.
type wait struct {
	turns int
	begun time.Time // of the part that yields
}

// turn passes a moment.
func (w *wait) turn() {
	relax()
	if w.turns++; w.turns > eagerTurns && w.turns%yieldTurns == 0 {
		if w.begun.IsZero() {
			w.begun = time.Now()
		}
		yield()
	}
}

// long reports whether the wait has lasted for spinFor.
func (w *wait) long() bool {
	return w.turns > eagerTurns && w.turns%yieldTurns == 0 && time.Since(w.begun) > spinFor
}

// rouse wakes parked workers, if there are any.
func (p *pool) rouse() {
	if p.sleepers.Load() > 0 {
		p.mu.Lock()
		p.wake.Broadcast()
		p.mu.Unlock()
	}
}

// drain runs units until none is left.
func (p *pool) drain(worker int) {
	t, units := p.task, p.units
	for i := p.next.Add(1) - 1; i < units; i = p.next.Add(1) - 1 {
		t.unit(worker, int(i))
	}
}

// work is the life of worker i.
func (p *pool) work(i int) {
	defer p.done.Done()
	seen := uint64(0)
	for {
		s := p.await(seen)
		if p.stop.Load() {
			return
		}
		seen = s >> 16
		for s&openBit != 0 && s>>16 == seen {
			if p.state.CompareAndSwap(s, s+1) {
				p.drain(i)
				p.state.Add(^uint64(0))
				break
			}
			s = p.state.Load()
		}
	}
}

// await gives the state once it is of another task than number seen, or once
// the pool stops: it spins, and then parks.
func (p *pool) await(seen uint64) uint64 {
	for w := (wait{}); !w.long(); w.turn() {
		if s := p.state.Load(); s>>16 != seen || p.stop.Load() {
			return s
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sleepers.Add(1)
	defer p.sleepers.Add(-1)
	for {
		if s := p.state.Load(); s>>16 != seen || p.stop.Load() {
			return s
		}
		p.wake.Wait()
	}
}

// close ends the workers and waits for them.
func (p *pool) close() {
	p.stop.Store(true)
	p.rouse()
	p.done.Wait()
}
