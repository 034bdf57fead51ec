package worker

import (
	"errors"
	"fmt"
	"time"

	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/kv"
)

// join adds a chain; false when the stage is closing.
func (s *served) join(r *relay) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.relays[r] = struct{}{}
	return true
}

// leave removes a chain that has ended: its sessions are closed and its runs are
// dropped.
func (s *served) leave(r *relay) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.relays, r)
	for id, ses := range s.sessions {
		if ses.relay == r {
			s.forget(ses)
			s.do(func() { s.l.Stage.CloseSession(id) })
		}
	}
	s.queue.drop(func(w *work) bool { return w.relay == r })
}

// forget takes a session out of the tables; mu is held. The caller has the loop
// close it at the stage.
func (s *served) forget(ses *session) {
	ses.closed = true
	ses.early = nil
	delete(s.sessions, ses.id)
	s.queue.drop(func(w *work) bool { return w.ses == ses })
	ses.relay.busy(-1)
}

// find returns the session of that name, if it belongs to r's head; mu is held.
func (s *served) find(r *relay, name []byte) *session {
	if len(name) != len(shard.SessionID{}) {
		return nil
	}
	ses := s.sessions[shard.SessionID(name)]
	if ses == nil || ses.relay.head != r.head {
		return nil
	}
	return ses
}

// open takes a session in and has the loop reserve it; then the opening goes on,
// or is answered. A refusal goes on likewise, so that the head hears of it.
func (s *served) open(r *relay, o *weftv1.Open, payload []byte) error {
	if err := checkOpen(o, payload); err != nil {
		return err
	}
	if r.index == 0 && (o.Refused != "" || o.Held != 0) {
		return errors.New("an opening that is answered already")
	}
	prompt := append([]byte(nil), payload...)
	if o.Refused == "" {
		if kind, err := s.admit(r, o, prompt); err == nil {
			return nil
		} else {
			s.refuse(o, kind, err)
		}
	}
	s.passOpen(r, o, prompt)
	return nil
}

func (s *served) refuse(o *weftv1.Open, kind weftv1.RefusedKind, err error) {
	o.Refused, o.RefusedBy, o.RefusedKind, o.Held = reasonOf(err), s.w.self, kind, 0
}

// passOpen sends an opening on to the next stage, or its answer to the head.
func (s *served) passOpen(r *relay, o *weftv1.Open, prompt []byte) {
	if !s.last {
		r.send(&weftv1.Frame{Body: &weftv1.Frame_Open{Open: o}}, prompt)
		return
	}
	r.send(&weftv1.Frame{Body: &weftv1.Frame_OpenReply{OpenReply: &weftv1.OpenReply{
		Session: o.Session, Held: o.Held, Refused: o.Refused, RefusedBy: o.RefusedBy, RefusedKind: o.RefusedKind,
	}}}, nil)
}

// admit enters a session and leaves the rest to the loop; the opening goes on
// from there.
func (s *served) admit(r *relay, o *weftv1.Open, prompt []byte) (weftv1.RefusedKind, error) {
	spec, err := s.sessionSpec(o, prompt)
	if err != nil {
		return weftv1.RefusedKind_REFUSED_NEVER, err
	}
	ses := &session{id: spec.ID, relay: r, credit: s.credit(o), logprobs: spec.Sampling.Logprobs, opening: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.sessions[spec.ID] != nil:
		return weftv1.RefusedKind_REFUSED_INTERNAL, shard.ErrSessionExists
	case len(s.sessions) >= s.w.cfg.MaxSessions:
		return weftv1.RefusedKind_REFUSED_BUSY, fmt.Errorf("%d sessions are open here, which is the limit", len(s.sessions))
	}
	s.sessions[spec.ID] = ses
	r.busy(+1)
	s.do(func() {
		s.reserve(ses, spec, o)
		s.passOpen(r, o, prompt)
	})
	return weftv1.RefusedKind_REFUSED_NONE, nil
}

// reserve opens a session at the stage; on the loop.
func (s *served) reserve(ses *session, spec shard.SessionSpec, o *weftv1.Open) {
	held, err := s.l.Stage.Open(spec)
	s.mu.Lock()
	defer s.mu.Unlock()
	ses.opening = false
	if err == nil {
		if ses.relay.index == 0 || uint32(held) < o.Held {
			o.Held = uint32(held)
		}
		return
	}
	if !ses.closed {
		s.forget(ses)
	}
	kind := weftv1.RefusedKind_REFUSED_INTERNAL
	if errors.Is(err, kv.ErrNoRoom) {
		kind = weftv1.RefusedKind_REFUSED_BUSY
	}
	s.refuse(o, kind, err)
}

// sessionSpec checks an opening against the model and turns it into the stage's
// form. Its errors are for good: waiting does not help.
func (s *served) sessionSpec(o *weftv1.Open, prompt []byte) (shard.SessionSpec, error) {
	spec := shard.SessionSpec{
		ID: shard.SessionID(o.Session), Positions: int(o.Positions), Salt: o.Salt,
		Sampling: Sampling(o.Sampling),
	}
	tokens, err := wire.Tokens(prompt)
	switch {
	case err != nil:
		return spec, err
	case o.Positions == 0 || int64(o.Positions) > int64(s.l.Context):
		return spec, fmt.Errorf("%d positions were asked for; the context has %d", o.Positions, s.l.Context)
	case o.Prompt > o.Positions:
		return spec, fmt.Errorf("prompt of %d tokens in %d positions", o.Prompt, o.Positions)
	case kv.BlocksFor(spec.Positions) > s.l.Blocks:
		return spec, fmt.Errorf("%d positions were asked for; this stage has KV for %d", o.Positions, s.l.Blocks*kv.BlockPositions)
	}
	if !o.NoPrefix {
		spec.Prompt = tokenIDs(tokens)
	}
	return spec, spec.Sampling.Validate(s.l.Vocab)
}

// credit is how many positions a session may have in flight: what it asked for,
// bounded by the bytes of its hidden states.
func (s *served) credit(o *weftv1.Open) int {
	return max(1, min(int(o.CreditPositions), maxCredit/(4*s.l.Embd)))
}

// run queues a run for a step. A run of an unknown session is dropped: the
// session was closed while it was under way.
func (s *served) run(r *relay, run *weftv1.Run, payload []byte) error {
	if err := checkRun(run, payload, s.l.Embd, s.l.MaxRows, r.index == 0); err != nil {
		return err
	}
	if n := len(run.Tokens); r.class == weftv1.Class_CLASS_DECODE && n > s.l.MaxRows {
		// It would never fit a step, and all decoding behind it would wait.
		return fmt.Errorf("run of %d positions on a decode chain; at most %d fit a step", n, s.l.MaxRows)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ses := s.find(r, run.Session)
	if ses == nil || ses.failed || (ses.started && run.Epoch < ses.epoch) {
		return nil
	}
	w := &work{relay: r, ses: ses, run: run, tokens: tokenIDs(run.Tokens)}
	if r.index > 0 {
		w.hidden = make([]float32, len(run.Tokens)*s.l.Embd)
		if err := wire.Floats(w.hidden, payload); err != nil {
			return err
		}
	}
	if ses.started && run.Epoch > ses.epoch {
		return s.await(w)
	}
	ses.started, ses.epoch = true, run.Epoch
	return s.enqueue(w)
}

// await keeps a run whose epoch has not begun here: its truncation comes on the
// decode chain and may be overtaken by the prefill chain; mu is held.
func (s *served) await(w *work) error {
	ses, n := w.ses, len(w.tokens)
	if w.relay.class == weftv1.Class_CLASS_DECODE {
		return fmt.Errorf("run of epoch %d, the session is in %d", w.run.Epoch, ses.epoch)
	}
	for _, e := range ses.early {
		n += len(e.tokens)
	}
	if n > ses.credit {
		return fmt.Errorf("%d positions in flight, %d were granted", n, ses.credit)
	}
	ses.early = append(ses.early, w)
	return nil
}

// enqueue takes a run of the current epoch; mu is held.
func (s *served) enqueue(w *work) error {
	ses := w.ses
	if ses.inflight+len(w.tokens) > ses.credit {
		return fmt.Errorf("%d positions in flight, %d were granted", ses.inflight+len(w.tokens), ses.credit)
	}
	ses.inflight += len(w.tokens)
	ses.turn.came(time.Now())
	s.queue.add(w, w.relay.class)
	s.signal()
	return nil
}

// truncate begins a session's new epoch: runs of older ones are dropped here and,
// as the frame goes on at once, at the stages after this one.
func (s *served) truncate(r *relay, t *weftv1.Truncate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass(r, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: t}})
	ses := s.find(r, t.Session)
	if ses == nil || ses.failed {
		return nil
	}
	if ses.started && t.Epoch <= ses.epoch {
		return fmt.Errorf("truncation to epoch %d, the session is in %d", t.Epoch, ses.epoch)
	}
	s.queue.drop(func(w *work) bool { return w.ses == ses && w.run.Epoch < t.Epoch })
	ses.started, ses.epoch, ses.inflight = true, t.Epoch, 0
	s.do(func() {
		if err := s.rewind(ses, t); err != nil && !unknown(err) {
			s.fail(ses, &weftv1.Run{Session: t.Session, Epoch: t.Epoch, Base: t.Keep}, err)
		}
	})
	return s.admitEarly(ses)
}

// rewind truncates a session at the stage; on the loop.
func (s *served) rewind(ses *session, t *weftv1.Truncate) error {
	if !ses.begun {
		ses.begun = true
		return s.l.Stage.Start(ses.id, uint64(t.Epoch), int(t.Keep))
	}
	return s.l.Stage.Truncate(ses.id, uint64(t.Epoch), int(t.Keep))
}

// admitEarly queues the runs that came before their epoch; mu is held.
func (s *served) admitEarly(ses *session) error {
	early := ses.early
	ses.early = nil
	for _, w := range early {
		switch {
		case w.run.Epoch < ses.epoch:
		case w.run.Epoch > ses.epoch:
			ses.early = append(ses.early, w)
		default:
			if err := s.enqueue(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// mark notes that a session has failed at an earlier stage.
func (s *served) mark(r *relay, res *weftv1.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ses := s.find(r, res.Session); ses != nil {
		s.spoil(ses)
	}
}

// confirm tells the stage how far the last one has acknowledged.
func (s *served) confirm(r *relay, c *weftv1.Confirm) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass(r, &weftv1.Frame{Body: &weftv1.Frame_Confirm{Confirm: c}})
	ses := s.find(r, c.Session)
	if ses == nil || ses.failed || s.last {
		return nil
	}
	epoch := ses.epoch
	s.do(func() {
		if err := s.l.Stage.Confirm(ses.id, int(c.Length)); err != nil && !unknown(err) {
			s.fail(ses, &weftv1.Run{Session: c.Session, Epoch: epoch, Base: c.Length}, err)
		}
	})
	return nil
}

// closeSession ends a session here and passes the close on, or answers it. A
// close that overtakes its opening's turn on the loop waits for it, so that no
// later stage sees the two in the wrong order.
func (s *served) closeSession(r *relay, c *weftv1.Close) error {
	if len(c.Session) != len(shard.SessionID{}) {
		return fmt.Errorf("session name of %d bytes", len(c.Session))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ses := s.find(r, c.Session)
	if ses == nil || ses.relay != r {
		s.passClose(r, c)
		return nil
	}
	s.forget(ses)
	early := !s.last && !ses.opening
	if early {
		s.passClose(r, c)
	}
	s.do(func() {
		s.l.Stage.CloseSession(ses.id)
		if !early {
			s.passClose(r, c)
		}
	})
	return nil
}

// passClose sends a close on to the next stage, or its answer to the head.
func (s *served) passClose(r *relay, c *weftv1.Close) {
	if !s.last {
		r.send(&weftv1.Frame{Body: &weftv1.Frame_Close{Close: c}}, nil)
		return
	}
	r.send(&weftv1.Frame{Body: &weftv1.Frame_CloseReply{CloseReply: &weftv1.CloseReply{Session: c.Session}}}, nil)
}

// pass sends a control frame on to the next stage; behind the last there is none.
func (s *served) pass(r *relay, f *weftv1.Frame) {
	if !s.last {
		r.send(f, nil)
	}
}
