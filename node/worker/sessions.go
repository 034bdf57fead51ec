package worker

import (
	"errors"
	"fmt"

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
	delete(s.relays, r)
	var gone []shard.SessionID
	for id, ses := range s.sessions {
		if ses.relay == r {
			s.forget(ses)
			gone = append(gone, id)
		}
	}
	s.queue.drop(func(w *work) bool { return w.relay == r })
	s.mu.Unlock()
	for _, id := range gone {
		s.l.Stage.CloseSession(id)
		r.busy(-1)
	}
}

// forget takes a session out of the tables; mu is held. The caller closes it at
// the stage.
func (s *served) forget(ses *session) {
	ses.closed = true
	ses.early = nil
	delete(s.sessions, ses.id)
	s.queue.drop(func(w *work) bool { return w.ses == ses })
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

// open reserves a session and passes the opening on, or answers it.
func (s *served) open(r *relay, o *weftv1.Open, payload []byte) error {
	if err := checkOpen(o, payload); err != nil {
		return err
	}
	if r.index == 0 && (o.Refused != "" || o.Held != 0) {
		return errors.New("an opening that is answered already")
	}
	if o.Refused == "" {
		held, kind, err := s.admit(r, o, payload)
		if err != nil {
			o.Refused, o.RefusedBy, o.RefusedKind, o.Held = reasonOf(err), s.w.self, kind, 0
		} else if r.index == 0 || held < o.Held {
			o.Held = held
		}
	}
	if !s.last {
		r.send(&weftv1.Frame{Body: &weftv1.Frame_Open{Open: o}}, payload)
		return nil
	}
	r.send(&weftv1.Frame{Body: &weftv1.Frame_OpenReply{OpenReply: &weftv1.OpenReply{
		Session: o.Session, Held: o.Held, Refused: o.Refused, RefusedBy: o.RefusedBy, RefusedKind: o.RefusedKind,
	}}}, nil)
	return nil
}

// admit opens a session at this stage.
func (s *served) admit(r *relay, o *weftv1.Open, payload []byte) (held uint32, kind weftv1.RefusedKind, err error) {
	spec, err := s.sessionSpec(o, payload)
	if err != nil {
		return 0, weftv1.RefusedKind_REFUSED_NEVER, err
	}
	ses := &session{id: spec.ID, relay: r, credit: s.credit(o), logprobs: spec.Sampling.Logprobs}
	s.mu.Lock()
	switch {
	case s.sessions[spec.ID] != nil:
		err = shard.ErrSessionExists
		kind = weftv1.RefusedKind_REFUSED_INTERNAL
	case len(s.sessions) >= s.w.cfg.MaxSessions:
		err = fmt.Errorf("%d sessions are open here, which is the limit", len(s.sessions))
		kind = weftv1.RefusedKind_REFUSED_BUSY
	default:
		s.sessions[spec.ID] = ses
	}
	s.mu.Unlock()
	if err != nil {
		return 0, kind, err
	}
	n, err := s.l.Stage.Open(spec)
	if err != nil {
		s.mu.Lock()
		s.forget(ses)
		s.mu.Unlock()
		kind = weftv1.RefusedKind_REFUSED_INTERNAL
		if errors.Is(err, kv.ErrNoRoom) {
			kind = weftv1.RefusedKind_REFUSED_BUSY
		}
		return 0, kind, err
	}
	r.busy(+1)
	return uint32(n), 0, nil
}

// sessionSpec checks an opening against the model and turns it into the stage's
// form. Its errors are for good: waiting does not help.
func (s *served) sessionSpec(o *weftv1.Open, payload []byte) (shard.SessionSpec, error) {
	prompt, err := wire.Tokens(payload)
	if err != nil {
		return shard.SessionSpec{}, err
	}
	spec := shard.SessionSpec{
		ID: shard.SessionID(o.Session), Positions: int(o.Positions), Salt: o.Salt,
		Sampling: samplingOf(o.Sampling),
	}
	blocks := s.l.KV().Blocks
	switch {
	case o.Positions == 0 || int64(o.Positions) > int64(s.l.Context):
		return spec, fmt.Errorf("%d positions were asked for; the context has %d", o.Positions, s.l.Context)
	case o.Prompt > o.Positions:
		return spec, fmt.Errorf("prompt of %d tokens in %d positions", o.Prompt, o.Positions)
	case kv.BlocksFor(spec.Positions) > blocks:
		return spec, fmt.Errorf("%d positions were asked for; this stage has KV for %d", o.Positions, blocks*kv.BlockPositions)
	}
	if err := spec.Sampling.Validate(s.l.Vocab); err != nil {
		return spec, err
	}
	if !o.NoPrefix {
		spec.Prompt = tokenIDs(prompt)
	}
	return spec, nil
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
	w := &work{relay: r, run: run, tokens: tokenIDs(run.Tokens)}
	if r.index > 0 {
		w.hidden = make([]float32, len(run.Tokens)*s.l.Embd)
		if err := wire.Floats(w.hidden, payload); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ses := s.find(r, run.Session)
	if ses == nil || ses.failed {
		return nil
	}
	w.ses = ses
	switch {
	case run.Epoch < ses.epoch && ses.started:
		if s.last {
			r.send(staleFrame(run), nil)
		}
		return nil
	case run.Epoch > ses.epoch && ses.started:
		return s.await(w)
	case !ses.started:
		if err := s.l.Stage.Start(ses.id, uint64(run.Epoch), int(run.Base)); err != nil {
			ses.failed = true
			r.send(errorFrame(run, s.w.self, err), nil)
			return nil
		}
		ses.started, ses.epoch = true, run.Epoch
	}
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
	s.queue.add(w, w.relay.class)
	s.signal()
	return nil
}

// truncate begins a session's new epoch: runs of older ones are dropped here and,
// as the frame goes on, at the stages after this one.
func (s *served) truncate(r *relay, t *weftv1.Truncate) error {
	s.mu.Lock()
	ses := s.find(r, t.Session)
	if ses == nil || ses.failed {
		s.mu.Unlock()
		s.pass(r, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: t}})
		return nil
	}
	if t.Epoch <= ses.epoch {
		defer s.mu.Unlock()
		return fmt.Errorf("truncation to epoch %d, the session is in %d", t.Epoch, ses.epoch)
	}
	err := s.l.Stage.Truncate(ses.id, uint64(t.Epoch), int(t.Keep))
	if err == nil {
		s.queue.drop(func(w *work) bool { return w.ses == ses && w.run.Epoch < t.Epoch })
		ses.started, ses.epoch, ses.inflight = true, t.Epoch, 0
	}
	s.mu.Unlock()
	if err != nil {
		s.fail(r, ses, t.Epoch, t.Keep, err)
		return nil
	}
	s.pass(r, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: t}})
	return s.admitEarly(ses)
}

// admitEarly queues the runs that came before their epoch.
func (s *served) admitEarly(ses *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// fail ends a session's use here and tells the head by way of the later stages.
func (s *served) fail(r *relay, ses *session, epoch, base uint32, err error) {
	s.mu.Lock()
	ses.failed = true
	s.queue.drop(func(w *work) bool { return w.ses == ses })
	s.mu.Unlock()
	r.send(errorFrame(&weftv1.Run{Session: ses.id[:], Epoch: epoch, Base: base}, s.w.self, err), nil)
}

// mark notes that a session has failed at an earlier stage.
func (s *served) mark(r *relay, res *weftv1.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ses := s.find(r, res.Session); ses != nil {
		ses.failed = true
		s.queue.drop(func(w *work) bool { return w.ses == ses })
	}
}

// confirm tells the stage how far the last one has acknowledged.
func (s *served) confirm(r *relay, c *weftv1.Confirm) error {
	s.mu.Lock()
	ses := s.find(r, c.Session)
	ok := ses != nil && !ses.failed
	s.mu.Unlock()
	if ok && !s.last {
		if err := s.l.Stage.Confirm(ses.id, int(c.Length)); err != nil && !unknown(err) {
			s.fail(r, ses, 0, c.Length, err)
			return nil
		}
	}
	s.pass(r, &weftv1.Frame{Body: &weftv1.Frame_Confirm{Confirm: c}})
	return nil
}

// closeSession ends a session here and passes the close on, or answers it.
func (s *served) closeSession(r *relay, c *weftv1.Close) error {
	if len(c.Session) != len(shard.SessionID{}) {
		return fmt.Errorf("session name of %d bytes", len(c.Session))
	}
	s.mu.Lock()
	ses := s.find(r, c.Session)
	if ses != nil && ses.relay != r {
		ses = nil
	}
	if ses != nil {
		s.forget(ses)
	}
	s.mu.Unlock()
	if ses != nil {
		s.l.Stage.CloseSession(ses.id)
		r.busy(-1)
	}
	if s.last {
		r.send(&weftv1.Frame{Body: &weftv1.Frame_CloseReply{CloseReply: &weftv1.CloseReply{Session: c.Session}}}, nil)
		return nil
	}
	s.pass(r, &weftv1.Frame{Body: &weftv1.Frame_Close{Close: c}})
	return nil
}

// pass sends a control frame on to the next stage; behind the last there is none.
func (s *served) pass(r *relay, f *weftv1.Frame) {
	if !s.last {
		r.send(f, nil)
	}
}
