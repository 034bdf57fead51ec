package worker

import (
	"fmt"
	"sync"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
)

// session is one session at this stage. served.mu guards it.
type session struct {
	id       shard.SessionID
	relay    *relay // the decode chain on which it was opened
	epoch    uint32
	started  bool // its first run has come
	failed   bool // a run failed: what follows is dropped until the close
	closed   bool
	credit   int // positions that may be in flight
	inflight int // positions of the current epoch that wait or are in a step
	prefills int // its runs in queue.prefill
	early    []*work
	logprobs bool // the head wants them
}

// served is a loaded stage: its sessions, its queue and its step loop.
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
	lastDecode time.Time
	meter      meter

	// Touched by the step loop alone.
	step []*work
	runs []shard.Run
}

// newServed starts serving a loaded stage; Worker.mu is held.
func newServed(w *Worker, p *plan, l *Loaded) *served {
	s := &served{
		w: w, plan: p, l: l, last: p.stage == len(p.spec.Stages)-1,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		relays: map[*relay]struct{}{}, sessions: map[shard.SessionID]*session{},
		queue: queue{maxRows: l.MaxRows},
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

func (s *served) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
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
		for s.compose() {
			if err := s.stepOnce(); err != nil {
				s.w.cfg.Log.Error("device lost", "model", s.plan.spec.Name, "error", err)
				reason := "device lost: " + reasonOf(err)
				s.w.spawn(func() { s.w.release(s.plan, reason) })
				<-s.stop
				return
			}
			select {
			case <-s.stop:
				return
			default:
			}
		}
	}
}

// compose picks the next step's runs; false when there are none.
func (s *served) compose() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// stepOnce computes the composed step and hands its results on. The error means
// that the device is lost.
func (s *served) stepOnce() error {
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
		s.deliver(w, &results[i], took)
	}
	s.mu.Lock()
	s.meter.add(rows, rows-decodes, took)
	s.queue.settle(s.step)
	s.mu.Unlock()
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
	w.ses.failed = true
	s.queue.drop(func(o *work) bool { return o.ses == w.ses })
	return outcome{frame: errorFrame(w.run, s.w.self, err)}
}
