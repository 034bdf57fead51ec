package session

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// Times of a driver.
const (
	closeWait = 2 * time.Second        // until a reply whose end is not confirmed is taken to be over
	retryWait = 250 * time.Millisecond // between openings while the stages are full
)

// Spec is one reply to drive.
type Spec struct {
	Params
	Sampling  *weftv1.Sampling
	Salt      []byte        // of the prefix cache
	NoPrefix  bool          // do not reuse a prefix
	Positions int           // KV to reserve
	QueueWait time.Duration // how long to wait for room; 0: not at all
	Started   func(held int)
	// Tokens is called in order with newly committed tokens; true ends the
	// reply as stopped.
	Tokens func([]Token) (stop bool, err error)
	// Measured is told what each answered decode run took; it may be nil.
	Measured func(Measure)
	// Progress is called while the prompt is prefilled, and after a loss while
	// all known tokens are; it may be nil.
	Progress func(done, total int)
	// Queued is called when the reply waits for room; it may be nil.
	Queued func()
	// Elsewhere is asked, while the reply waits for room, for another path that has
	// some: nil means that there is none. It may be nil, and does not wait.
	Elsewhere func() *Path
	// Failover is called when the path has ended under the reply: it gives
	// another path, over which the reply goes on with the very next token, or
	// the error that ends it. It may take its time; Drive waits. cause is what
	// the path's Err gave. Nil ends the reply with cause.
	Failover func(ctx context.Context, cause error) (*Path, error)
}

// Outcome is what became of a reply.
type Outcome struct {
	Finish Finish
	Tokens []int32 // generated
	Held   int     // prompt positions from the prefix caches
	Hash   []byte
	// Failovers is how often the reply went on over another path.
	Failovers int
	Opened    time.Duration // from the start until KV was reserved
	First     time.Duration // until the first token
	Total     time.Duration
}

// Driver moves one session over a path. It is used once.
type Driver struct {
	spec  Spec
	s     *Session
	id    [16]byte
	path  *Path
	in    *inbox
	begin time.Time
	out   Outcome
	queue []Token // drawn, not yet committed
	// handed counts the tokens that went to the caller.
	handed  int
	stopped bool // by the caller
	hasRoom bool // the stages have reserved KV
	known   int  // tokens at the last opening: all are prefilled
	lone    lone // the last run that was sent while none was in flight
	dropped bool // runs in flight were, by a mismatch before them
	hash    []byte
	plain   bool // nothing is drafted any more: see faulted
	// fruitless counts paths that were lost one after the other without a token.
	fruitless int
}

// Drive drives a reply to its end and blocks meanwhile. Cancelling ctx ends the
// reply with FinishCancelled and no error. When it returns, the stages were
// told to free the session's KV; the path waits for their confirmation.
func Drive(ctx context.Context, p *Path, spec Spec) (Outcome, error) {
	s, err := New(spec.Params)
	if err != nil {
		return Outcome{}, err
	}
	d := &Driver{spec: spec, s: s, path: p, begin: time.Now()}
	err = d.run(ctx)
	d.out.Tokens, d.out.Hash, d.out.Held = s.Generated(), d.hash, s.Held()
	if d.stopped {
		d.out.Tokens = d.out.Tokens[:d.handed]
	}
	d.out.Total = time.Since(d.begin)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		d.out.Finish = FinishCancelled
		return d.out, nil
	}
	if err != nil {
		d.out.Finish = FinishFailed
	}
	return d.out, err
}

// over drives the reply over the path until it or the path has ended.
func (d *Driver) over(ctx context.Context) error {
	if err := d.open(ctx); err != nil {
		return err
	}
	defer d.close()
	if d.out.Opened == 0 {
		d.out.Opened = time.Since(d.begin)
	}
	if d.spec.Started != nil {
		d.spec.Started(d.s.Held())
	}
	for {
		done, err := d.act()
		if err != nil || done {
			return err
		}
		if err := d.wait(ctx, d.s.wake(), d.feed); err != nil {
			return err
		}
	}
}

// open reserves KV at every stage, waiting for room within QueueWait.
func (d *Driver) open(ctx context.Context) error {
	deadline, told := time.Now().Add(d.spec.QueueWait), false
	for {
		room := d.path.room()
		err := d.tryOpen(ctx)
		var refused *RefusedError
		if err == nil || !errors.As(err, &refused) || !refused.Busy || !time.Now().Before(deadline) {
			return err
		}
		if d.spec.Queued != nil && !told {
			d.spec.Queued()
			told = true
		}
		if d.spec.Elsewhere != nil {
			if p := d.spec.Elsewhere(); p != nil {
				d.path = p
				continue
			}
		}
		select {
		case <-room:
		case <-time.After(retryWait):
		case <-d.path.Done():
			return d.path.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *Driver) tryOpen(ctx context.Context) error {
	rand.Read(d.id[:])
	in, err := d.path.register(d.id)
	if err != nil {
		return err
	}
	d.in = in
	tokens := d.s.Tokens()
	payload := make([]byte, 0, 4*len(tokens))
	for _, t := range tokens {
		payload = binary.LittleEndian.AppendUint32(payload, uint32(t))
	}
	err = d.path.decode.Send(&weftv1.Frame{Body: &weftv1.Frame_Open{Open: &weftv1.Open{
		Session: d.id[:], Positions: uint32(d.spec.Positions), Salt: d.spec.Salt, Sampling: d.spec.Sampling,
		NoPrefix: d.spec.NoPrefix, CreditPositions: uint32(d.s.p.Credit), Prompt: uint32(len(tokens)),
	}}}, payload)
	if err == nil {
		err = d.wait(ctx, nil, d.opened)
	}
	if err != nil {
		d.close()
	}
	return err
}

// opened takes the last stage's answer to Open.
func (d *Driver) opened(ev any) (bool, error) {
	m, ok := ev.(*weftv1.OpenReply)
	if !ok {
		return false, nil
	}
	if m.Refused != "" {
		return true, &RefusedError{Peer: m.RefusedBy, Cause: m.Refused, Busy: m.RefusedKind == weftv1.RefusedKind_REFUSED_BUSY}
	}
	d.hasRoom, d.known = true, len(d.s.Tokens())
	d.s.Opened(int(m.Held))
	return true, nil
}

// wait hands what comes to f until f is content, something comes from wake, the
// path ends or ctx does.
func (d *Driver) wait(ctx context.Context, wake <-chan struct{}, f func(any) (bool, error)) error {
	for {
		if err := ctx.Err(); err != nil { // also when something always comes
			return err
		}
		enough := false
		for _, ev := range d.in.take() {
			ok, err := f(ev)
			if err != nil {
				return err
			}
			enough = enough || ok
		}
		if enough {
			return nil
		}
		select {
		case <-d.in.wake:
		case <-wake:
			return nil
		case <-d.path.Done():
			return d.path.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// act does what the session asks for; true once the reply has ended.
func (d *Driver) act() (bool, error) {
	idle := d.s.Runs() == 0
	rd := d.s.Ready()
	if idle && len(rd.Runs) > 0 && !rd.Runs[0].Prefill {
		d.lone = lone{rd.Runs[0].Epoch, rd.Runs[0].Base, time.Now(), d.dropped}
		d.dropped = false
	}
	lost := d.send(rd) // told below: what is committed is the caller's in any case
	if len(rd.Committed) > 0 {
		d.fruitless = 0
		if d.out.First == 0 {
			d.out.First = time.Since(d.begin)
		}
		stop, err := d.commit(rd.Committed)
		if err != nil {
			return false, err
		}
		if stop {
			d.out.Finish, d.stopped = FinishStop, true
			return true, nil
		}
	} else if n := d.s.Acked(); d.spec.Progress != nil && d.hasRoom && n < d.known {
		d.spec.Progress(n, d.known)
	}
	if lost != nil {
		return false, lost
	}
	if rd.Done != FinishNone {
		d.out.Finish = rd.Done
		return true, d.s.Err()
	}
	if d.s.finished() {
		return d.act()
	}
	return false, nil
}

func (d *Driver) send(rd Ready) error {
	if rd.Confirm > 0 {
		f := &weftv1.Frame{Body: &weftv1.Frame_Confirm{Confirm: &weftv1.Confirm{Session: d.id[:], Length: uint32(rd.Confirm)}}}
		if err := d.path.decode.Send(f, nil); err != nil {
			return d.why(err)
		}
	}
	if rd.Truncate != nil {
		f := &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: &weftv1.Truncate{Session: d.id[:], Epoch: rd.Truncate.Epoch, Keep: uint32(rd.Truncate.Keep)}}}
		if err := d.path.decode.Send(f, nil); err != nil {
			return d.why(err)
		}
	}
	for _, r := range rd.Runs {
		chain := d.path.decode
		if r.Prefill {
			chain = d.path.prefill
		}
		run := &weftv1.Run{Session: d.id[:], Epoch: r.Epoch, Base: uint32(r.Base), Sample: uint32(r.Sample), WantHash: r.WantHash, Tokens: make([]uint32, len(r.Tokens))}
		for i, t := range r.Tokens {
			run.Tokens[i] = uint32(t)
		}
		if err := chain.Send(&weftv1.Frame{Body: &weftv1.Frame_Run{Run: run}}, nil); err != nil {
			return d.why(err)
		}
	}
	return nil
}

// why prefers the reason of the path's end over a failed Send.
func (d *Driver) why(err error) error {
	select {
	case <-d.path.Done():
		return d.path.Err()
	case <-time.After(100 * time.Millisecond): // the chain's end is told right after
		if perr := d.path.Err(); perr != nil {
			return perr
		}
		return err
	}
}

// close tells every stage to free the session's KV.
func (d *Driver) close() {
	// What the stages know to be confirmed stays in their prefix caches.
	if n := d.s.Acked(); n > 0 {
		f := &weftv1.Frame{Body: &weftv1.Frame_Confirm{Confirm: &weftv1.Confirm{Session: d.id[:], Length: uint32(n)}}}
		if d.path.decode.Send(f, nil) != nil {
			d.path.unregister(d.id, d.hasRoom)
			return
		}
	}
	d.path.over(d.id, d.hasRoom) // first, for the answer may come at once
	f := &weftv1.Frame{Body: &weftv1.Frame_Close{Close: &weftv1.Close{Session: d.id[:]}}}
	if d.path.decode.Send(f, nil) != nil {
		d.path.unregister(d.id, d.hasRoom)
	}
}
