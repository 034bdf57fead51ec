package session

import (
	"errors"
	"fmt"
	"sync"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// Chain is a way through a plan's stages; worker.Chain is one. Send does not
// wait.
type Chain interface {
	Send(header *weftv1.Frame, payload []byte) error
	Busy(delta int)
	Err() error
	Close()
}

// LostError ends a reply whose plan lost a stage.
type LostError struct {
	Peer   string // the stage's peer id
	Stage  int
	Reason string
}

func (e *LostError) Error() string {
	return fmt.Sprintf("stage %d on node %s was lost: %s", e.Stage+1, e.Peer, e.Reason)
}

// RefusedError is a stage that would not open a session.
type RefusedError struct {
	Peer  string
	Cause string
	Busy  bool // no room now; there may be later
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("node %s has no room for this reply: %s", e.Peer, e.Cause)
}

// ErrPathClosed is returned once a path was closed by its owner.
var ErrPathClosed = errors.New("the plan was given up")

// Path is one plan's pair of chains, decode and prefill, with the replies that
// run over it. It hands what comes back to the reply it belongs to and never
// waits for one: a reply has at most its credit in flight.
type Path struct {
	decode, prefill Chain

	// mu guards everything below.
	mu      sync.Mutex
	replies map[[16]byte]*inbox
	err     error
	ended   time.Time     // when err was set
	freed   chan struct{} // closed and replaced when a reply ends
	done    chan struct{} // closed when err is set
}

// inbox is what came back for one reply. It is bounded by the credit: a result
// comes for a run that was sent.
type inbox struct {
	mu     sync.Mutex // guards events
	events []any
	wake   chan struct{} // of capacity 1

	// Guarded by Path.mu.
	closed  time.Time // when its stages were told that the reply is over; zero: they were not
	hadRoom bool
}

// NewPath makes a path that has no chains yet; its Handler goes to both.
func NewPath() *Path {
	return &Path{replies: map[[16]byte]*inbox{}, freed: make(chan struct{}), done: make(chan struct{})}
}

// Attach gives the path its chains.
func (p *Path) Attach(decode, prefill Chain) { p.decode, p.prefill = decode, prefill }

// Done is closed when the path is of no more use; Err says why.
func (p *Path) Done() <-chan struct{} { return p.done }

// Err is why the path ended, nil while it is up.
func (p *Path) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Ended is when the path ended, zero while it is up.
func (p *Path) Ended() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// Replies is how many replies run over the path.
func (p *Path) Replies() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep()
	n := 0
	for _, in := range p.replies {
		if in.closed.IsZero() {
			n++
		}
	}
	return n
}

// sweep removes replies whose end the last stage does not confirm; mu is held.
func (p *Path) sweep() {
	for id, in := range p.replies {
		if !in.closed.IsZero() && time.Since(in.closed) > closeWait {
			p.remove(id, in.hadRoom)
		}
	}
}

// Close ends the path: replies that run over it fail with ErrPathClosed.
func (p *Path) Close() {
	p.fail(ErrPathClosed)
	for _, c := range []Chain{p.decode, p.prefill} {
		if c != nil {
			c.Close()
		}
	}
}

// OpenReply, Result, CloseReply and Lost make a Path the handler of its chains.
func (p *Path) OpenReply(m *weftv1.OpenReply) { p.deliver(m.Session, m) }

// Result hands a run's answer to its reply.
func (p *Path) Result(m *weftv1.Result) { p.deliver(m.Session, m) }

// CloseReply removes a reply whose KV is free again.
func (p *Path) CloseReply(m *weftv1.CloseReply) {
	if len(m.Session) != 16 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if in := p.replies[[16]byte(m.Session)]; in != nil && !in.closed.IsZero() {
		p.remove([16]byte(m.Session), in.hadRoom)
	}
}

// Lost ends every reply of the path.
func (p *Path) Lost(m *weftv1.Lost) {
	p.fail(&LostError{Peer: m.Peer, Stage: int(m.Stage), Reason: m.Reason})
}

func (p *Path) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return
	}
	p.err, p.ended = err, time.Now()
	for id, in := range p.replies {
		if !in.closed.IsZero() {
			p.remove(id, in.hadRoom)
		}
	}
	close(p.done)
}

func (p *Path) deliver(session []byte, m any) {
	if len(session) != 16 {
		return
	}
	p.mu.Lock()
	in := p.replies[[16]byte(session)]
	over := in == nil || !in.closed.IsZero()
	p.mu.Unlock()
	if over {
		return
	}
	if !in.put(m) {
		p.fail(errFlood)
		return
	}
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// maxInbox is more than any reply can have in flight.
const maxInbox = 8192

// errFlood ends a path whose last stage sends what was not asked for.
var errFlood = errors.New("the last stage sends more results than it was sent runs")

// put takes what came; false when there is no room for it.
func (in *inbox) put(m any) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.events) >= maxInbox {
		return false
	}
	in.events = append(in.events, m)
	return true
}

// take gives and forgets what has come.
func (in *inbox) take() []any {
	in.mu.Lock()
	defer in.mu.Unlock()
	ev := in.events
	in.events = nil
	return ev
}

// register adds a reply; the path's chains count as in use until it is removed.
func (p *Path) register(id [16]byte) (*inbox, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, p.err
	}
	p.sweep()
	in := &inbox{wake: make(chan struct{}, 1)}
	p.replies[id] = in
	p.decode.Busy(1)
	p.prefill.Busy(1)
	return in, nil
}

// over notes that a reply is over: it is removed when the last stage confirms that
// its KV is free. Nobody waits for that: an opening goes down the chain behind it.
func (p *Path) over(id [16]byte, hadRoom bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch in := p.replies[id]; {
	case in == nil:
	case p.err != nil: // nothing comes any more
		p.remove(id, hadRoom)
	default:
		in.closed, in.hadRoom = time.Now(), hadRoom
	}
}

// unregister removes a reply.
func (p *Path) unregister(id [16]byte, hadRoom bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(id, hadRoom)
}

// remove takes a reply out. One that had room leaves it to those that wait; mu is
// held.
func (p *Path) remove(id [16]byte, hadRoom bool) {
	if p.replies[id] == nil {
		return
	}
	delete(p.replies, id)
	p.decode.Busy(-1)
	p.prefill.Busy(-1)
	if !hadRoom {
		return
	}
	close(p.freed)
	p.freed = make(chan struct{})
}

// room is closed when a reply of this path ends next.
func (p *Path) room() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.freed
}
