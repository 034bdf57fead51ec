package worker

import (
	"fmt"
	"sync"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/kv"
)

// session is one session at this stage. served.mu guards it, but for begun.
type session struct {
	id       shard.SessionID
	relay    *relay // the decode chain on which it was opened
	epoch    uint32
	opening  bool // its opening waits for the step loop
	started  bool // its first run has come
	failed   bool // a run failed: what follows is dropped until the close
	closed   bool
	begun    bool // the stage has started it; the step loop's own
	credit   int  // positions that may be in flight
	inflight int  // positions of the current epoch that wait or are in a step
	prefills int  // its runs in queue.prefill
	early    []*work
	logprobs bool // the head wants them
	turn     turn
}

// served is a loaded stage: its sessions, its queue and its step loop. The loop
// alone touches the stage, between steps and in them, so that readers of chains
// never wait for a step: what they want of the stage they leave as operations.
type served struct {
	w    *Worker
	plan *plan
	l    *Loaded
	last bool // the stage samples
	wake chan struct{}
	stop chan struct{}
	done chan struct{} // the step loop has ended

	// mu guards everything below.
	mu         sync.Mutex
	closed     bool
	relays     map[*relay]struct{}
	sessions   map[shard.SessionID]*session
	queue      queue
	ops        []func() // wait for the step loop, in order of arrival
	lastDecode time.Time
	meter      meter
	kv         kv.Stats // after the last step or operation

	// Touched by the step loop alone.
	step  []*work
	runs  []shard.Run
	doing []func()
}

// newServed starts serving a loaded stage; Worker.mu is held.
func newServed(w *Worker, p *plan, l *Loaded) *served {
	s := &served{
		w: w, plan: p, l: l, last: p.stage == len(p.spec.Stages)-1,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		relays: map[*relay]struct{}{}, sessions: map[shard.SessionID]*session{},
		queue: queue{maxRows: l.MaxRows, onward: p.stage < len(p.spec.Stages)-1}, kv: l.KV(),
	}
	w.wg.Go(s.loop)
	return s
}

// close ends the stage's chains, waits for the step under way and frees the
// stage.
func (s *served) close(reason string) {
	s.mu.Lock()
	s.closed = true
	relays := make([]*relay, 0, len(s.relays))
	for r := range s.relays {
		relays = append(relays, r)
	}
	s.mu.Unlock()
	for _, r := range relays {
		r.fail(s.w.self, reason)
	}
	for _, r := range relays {
		<-r.gone
	}
	close(s.stop)
	<-s.done
	s.l.free()
}

// usedByOthers says that a chain of another head than peer goes through the stage.
func (s *served) usedByOthers(peer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.relays {
		if r.head != peer {
			return true
		}
	}
	return false
}

func (s *served) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// maxOps bounds the operations that wait for the loop.
const maxOps = 4096

// backlogged says that a head asks for more than the stage can do.
func (s *served) backlogged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ops) >= maxOps
}

// do leaves an operation for the step loop; mu is held.
func (s *served) do(op func()) {
	s.ops = append(s.ops, op)
	s.signal()
}

// loop steps the stage while there is work.
func (s *served) loop() {
	defer close(s.done)
	for {
		select {
		case <-s.stop:
			return
		case <-s.wake:
		}
		if err := s.work(); err != nil {
			s.w.cfg.Log.Error("device lost", "model", s.plan.spec.Name, "error", err)
			reason := "device lost: " + reasonOf(err)
			s.w.spawn(func() { s.w.release(s.plan, reason) })
			<-s.stop
			return
		}
	}
}

// work does operations and steps until none are left or the stage is closed.
func (s *served) work() error {
	for {
		select {
		case <-s.stop:
			return nil
		default:
		}
		s.operate()
		if s.hold() {
			continue
		}
		if s.compose() {
			if err := s.stepOnce(); err != nil {
				return err
			}
			s.count()
			continue
		}
		s.count()
		return nil
	}
}

// count takes the blocks' numbers between steps.
func (s *served) count() {
	n := s.l.KV()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kv = n
}

// operate does what readers have left to do.
func (s *served) operate() {
	s.mu.Lock()
	s.doing, s.ops = s.ops, s.doing[:0]
	s.mu.Unlock()
	for _, op := range s.doing {
		op()
	}
	clear(s.doing)
}

// compose picks the next step's runs; false when there are none.
func (s *served) compose() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ops) > 0 {
		// A truncation came since operate, and perhaps a run of its epoch after
		// it: the stage has to see them in that order. The loop has been woken.
		return false
	}
	now := time.Now()
	rows := s.l.MaxRows
	if len(s.queue.decode) > 0 {
		s.lastDecode = now
	}
	if now.Sub(s.lastDecode) < decodeRecent {
		rows = s.meter.prefillRows(s.w.cfg.PrefillTime, s.l.MaxRows)
	}
	s.step = s.queue.compose(s.step[:0], rows)
	s.runs = s.runs[:0]
	for _, w := range s.step {
		s.runs = append(s.runs, w.piece(s.l.Embd))
	}
	return len(s.step) > 0
}

// piece is the part of the run that the step computes.
func (w *work) piece(embd int) shard.Run {
	r := shard.Run{
		Session: w.ses.id, Epoch: uint64(w.run.Epoch), Base: int(w.run.Base) + w.done,
		Tokens: w.tokens[w.done : w.done+w.take], Sample: w.sampling(), States: w.run.WantHash,
	}
	if w.hidden != nil {
		r.Hidden = w.hidden[w.done*embd : (w.done+w.take)*embd]
	}
	return r
}

// begin starts the sessions of the step's runs at the stage, where that has not
// happened: now it is known at which position all stages resume.
func (s *served) begin() {
	for _, w := range s.step {
		if ses := w.ses; !ses.begun {
			ses.begun = true
			if err := s.l.Stage.Start(ses.id, uint64(w.run.Epoch), int(w.run.Base)); err != nil && !unknown(err) {
				s.fail(ses, w.run, err)
			}
		}
	}
}

// stepOnce computes the composed step and hands its results on. The error means
// that the device is lost.
func (s *served) stepOnce() error {
	s.begin()
	results, took, err := s.compute()
	if err != nil {
		return err
	}
	if len(results) != len(s.step) {
		return fmt.Errorf("step gave %d results for %d runs", len(results), len(s.step))
	}
	rows, decodes := 0, 0
	for _, w := range s.step {
		rows += w.take
		if w.relay.class == weftv1.Class_CLASS_DECODE {
			decodes += w.take
		}
	}
	for i, w := range s.step {
		w.run.Effort = strive(w.run.Effort, took, rows)
		s.deliver(w, &results[i], took)
	}
	s.mu.Lock()
	first := s.meter.steps == 0
	s.meter.add(rows, rows-decodes, took)
	s.queue.settle(s.step)
	s.mu.Unlock()
	if first { // a token has crossed the stage: it is known to work
		s.w.cfg.Changed()
	}
	clear(s.step)
	return nil
}

// compute holds the device for one step.
func (s *served) compute() ([]shard.Result, time.Duration, error) {
	if d := s.l.Device; d != nil {
		d.Lock()
		defer d.Unlock()
	}
	start := time.Now()
	results, err := s.l.Stage.Step(s.runs)
	return results, time.Since(start), err
}

// deliver sends what became of a run's piece onward.
func (s *served) deliver(w *work, r *shard.Result, took time.Duration) {
	o := s.judge(w, r)
	switch {
	case o.frame == nil:
	case o.hidden != nil:
		w.relay.sendHidden(o.frame, o.hidden)
	default:
		if res := o.frame.GetResult(); res != nil {
			res.ComputeUs = uint64(took.Microseconds())
		}
		w.relay.send(o.frame, nil)
	}
}

// outcome is what goes onward after a step; no frame: nothing.
type outcome struct {
	frame  *weftv1.Frame
	hidden []float32
}

// judge settles a run's accounts after its step and says what goes onward.
func (s *served) judge(w *work, r *shard.Result) outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses := w.ses
	if w.dead || ses.closed {
		w.dead = true
		return outcome{}
	}
	if retry(r.Err) {
		w.again()
		return outcome{}
	}
	if r.Err != nil {
		w.dead = true
		s.settleCredit(w, w.left())
		return s.failed(w, r.Err)
	}
	s.settleCredit(w, w.take)
	if s.last {
		if w.take < w.left() {
			return outcome{}
		}
		ses.turn.given(time.Now())
		return outcome{frame: resultFrame(w, r)}
	}
	if w.take == len(w.tokens) {
		return outcome{frame: runFrame(w.run), hidden: r.Hidden}
	}
	w.out = append(w.out, r.Hidden...)
	if w.take < w.left() {
		return outcome{}
	}
	return outcome{frame: runFrame(w.run), hidden: w.out}
}

// settleCredit gives the credit of n positions back; mu is held.
func (s *served) settleCredit(w *work, n int) {
	if w.run.Epoch == w.ses.epoch {
		w.ses.inflight -= n
	}
}

// failed says what goes onward for a run that was not computed; mu is held.
func (s *served) failed(w *work, err error) outcome {
	switch {
	case unknown(err):
		return outcome{}
	case stale(err):
		if s.last {
			return outcome{frame: staleFrame(w.run)}
		}
		return outcome{}
	}
	s.spoil(w.ses)
	return outcome{frame: errorFrame(w.run, s.w.self, err)}
}

// spoil drops a failed session's runs; mu is held.
func (s *served) spoil(ses *session) {
	ses.failed, ses.early = true, nil
	s.queue.drop(func(o *work) bool { return o.ses == ses })
}

// fail ends a session's use here and tells the head by way of the later stages.
func (s *served) fail(ses *session, run *weftv1.Run, err error) {
	s.mu.Lock()
	tell := !ses.failed && !ses.closed
	s.spoil(ses)
	s.mu.Unlock()
	if tell {
		ses.relay.send(errorFrame(run, s.w.self, err), nil)
	}
}
