package wire

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// Link is one end of a two-way, ordered way of frames between two nodes.
//
// One goroutine of the owner calls Recv in a loop and must not wait for
// anything in between; every other method may be called from anywhere. The
// owner calls Close when it is done, and may wait on Done.
type Link interface {
	// Send queues a frame and returns without waiting for the other side. A
	// payload that is longer than a frame is cut into parts (runs and openings
	// only). Header and payload are encoded before Send returns and belong to
	// the caller again. When the queue is full the link is closed with
	// ErrQueueFull: the other side was granted more credit than it can take.
	Send(header *weftv1.Frame, payload []byte) error
	// Recv waits for the next whole body. The header belongs to the caller, the
	// payload is valid until the next Recv. Beats are answered inside and never
	// returned. After an error the link is closed and Recv keeps returning it.
	Recv() (*weftv1.Frame, []byte, error)
	// Close ends the link without waiting. With nil what is queued is still
	// sent, for a bounded time; with an error the stream is reset at once. The
	// first call decides.
	Close(err error)
	// Done is closed when the link has ended and its goroutines with it.
	Done() <-chan struct{}
	// Err is why the link ended: ErrClosed after Close(nil), nil while it is up.
	Err() error
	// Peer is the peer id of the other side.
	Peer() string
	// Busy counts users of the link up or down: while the count is above zero
	// the link beats, and a peer that does not answer is given up.
	Busy(delta int)
	// Stats is a snapshot of the link's counters.
	Stats() Stats
}

// Stream is what a link needs of a transport's stream; libp2p streams have it.
type Stream interface {
	io.ReadWriteCloser
	// Reset ends both directions at once; blocked calls return.
	Reset() error
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Errors that end a link.
var (
	// ErrClosed is what calls return after Close(nil).
	ErrClosed = errors.New("link closed")
	// ErrQueueFull ends a link whose peer takes too little of what it is sent.
	ErrQueueFull = errors.New("send queue is full: the peer does not keep up")
	// ErrHung ends a link whose peer did not answer heartbeats.
	ErrHung = errors.New("no answer to heartbeats")
)

// Config says how a link behaves. The zero value means the defaults.
type Config struct {
	// QueueBytes bounds what Send may have queued. Default 128 MiB.
	QueueBytes int
	// MaxPayload bounds a received body. Default 64 MiB.
	MaxPayload int
	// Beat is the time between heartbeats while the link is in use. Default
	// 100 ms; below zero: none.
	Beat time.Duration
	// Missed is how many beats without a sign of life end the link, beside what
	// the link's own round trip takes. Default 5.
	Missed int
	// FlushTimeout bounds how long Close(nil) goes on sending. Default 2 s.
	FlushTimeout time.Duration
	// OnHung is called once, from a goroutine of the link, after the peer was
	// given up: close the connection there, since no transport notices a hung
	// peer before 30 s. It must not wait for the link's Done.
	OnHung func(peer string)
	// Alive counts signs of life of the peer. Links to one peer may share it, so
	// that one is not given up while another receives. Default: one of its own.
	Alive *atomic.Uint64
	// Budget bounds what bodies in parts take on this link and all others that
	// share it. Default: MaxPayload of each link alone.
	Budget *Budget
	// Log gets one line when a link ends by a fault. Default: none.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.QueueBytes <= 0 {
		c.QueueBytes = 128 << 20
	}
	if c.MaxPayload <= 0 {
		c.MaxPayload = 64 << 20
	}
	if c.Beat == 0 {
		c.Beat = 100 * time.Millisecond
	}
	if c.Missed <= 0 {
		c.Missed = 5
	}
	if c.FlushTimeout <= 0 {
		c.FlushTimeout = 2 * time.Second
	}
	if c.Alive == nil {
		c.Alive = new(atomic.Uint64)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// link is the one implementation, over any Stream.
type link struct {
	cfg    Config
	peer   string
	stream Stream
	reader *frameReader
	parts  assembly // touched by Recv alone, but for the end of its share
	out    outbox
	beat   pulse
	count  counters

	stop chan struct{} // closed by the first Close
	done chan struct{}
	wg   sync.WaitGroup

	// mu guards err, the reason of the first Close.
	mu  sync.Mutex
	err error
	// reset is set once the stream was reset, so that a flush is given up.
	reset atomic.Bool
}

// NewLink puts a link on stream, whose other side is peer. It takes the stream
// over: nothing else may read, write or close it.
func NewLink(stream Stream, peer string, cfg Config) Link {
	cfg = cfg.withDefaults()
	l := &link{
		cfg: cfg, peer: peer, stream: stream,
		reader: newFrameReader(stream),
		parts:  assembly{limit: cfg.MaxPayload, share: share{budget: cfg.Budget}},
		stop:   make(chan struct{}), done: make(chan struct{}),
	}
	l.out.wake = make(chan struct{}, 1)
	l.out.limit = cfg.QueueBytes
	l.beat.changed = make(chan struct{}, 1)
	l.wg.Go(l.write)
	if cfg.Beat > 0 {
		l.wg.Go(l.beats)
	}
	go func() {
		l.wg.Wait()
		l.parts.share.end()
		close(l.done)
	}()
	return l
}

func (l *link) Peer() string          { return l.peer }
func (l *link) Done() <-chan struct{} { return l.done }

func (l *link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *link) Close(err error) {
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = err
		if err == nil {
			l.err = ErrClosed
		}
	}
	l.mu.Unlock()
	if !first {
		return
	}
	if err == nil {
		l.out.close()
		_ = l.stream.SetWriteDeadline(time.Now().Add(l.cfg.FlushTimeout))
	} else {
		l.out.drop()
		l.abort()
	}
	close(l.stop)
}

// abort resets the stream, which ends blocked reads and writes.
func (l *link) abort() {
	l.reset.Store(true)
	_ = l.stream.Reset()
}

// fail closes the link for a fault and returns the reason that counts.
func (l *link) fail(err error) error {
	l.Close(err)
	first := l.Err()
	if errors.Is(first, ErrFrame) || errors.Is(first, ErrQueueFull) || errors.Is(first, ErrHung) || errors.Is(first, ErrBudget) {
		l.cfg.Log.Warn("link ended", "peer", l.peer, "error", first)
	}
	return first
}

func (l *link) Send(header *weftv1.Frame, payload []byte) error {
	if err := l.Err(); err != nil {
		return err
	}
	if len(payload) > l.cfg.MaxPayload {
		return fmt.Errorf("payload of %d bytes, at most %d: %w", len(payload), l.cfg.MaxPayload, ErrTooLong)
	}
	err := l.out.put(header, payload)
	if errors.Is(err, ErrQueueFull) {
		return l.fail(err)
	}
	if errors.Is(err, ErrClosed) && l.Err() != nil {
		return l.Err()
	}
	return err
}

func (l *link) Recv() (*weftv1.Frame, []byte, error) {
	for {
		header, payload, size, err := l.reader.next()
		if err != nil {
			return nil, nil, l.fail(fmt.Errorf("receive from %s: %w", l.peer, err))
		}
		l.cfg.Alive.Add(1)
		l.count.received(size)
		if b := header.GetBeat(); b != nil {
			l.onBeat(b)
			continue
		}
		header, payload, err = l.parts.add(header, payload)
		if err != nil {
			return nil, nil, l.fail(fmt.Errorf("receive from %s: %w", l.peer, err))
		}
		if header != nil {
			return header, payload, nil
		}
	}
}

// write sends what is queued until the link is closed; after Close(nil) it
// first empties the queue.
func (l *link) write() {
	for {
		f, ok := l.out.take()
		if !ok {
			break
		}
		backlog := f.behind > backlogBytes
		_, err := l.stream.Write(f.buf.b)
		l.count.sent(len(f.buf.b), time.Since(f.at))
		f.buf.free()
		if err != nil {
			l.failWrite(err)
			return
		}
		if backlog {
			l.cfg.Alive.Add(1)
		}
	}
	if !l.reset.Load() {
		_ = l.stream.Close()
	}
}

// lastWords is how long a link whose writes fail may still be read: what the peer
// sent before it closed may say why it did.
const lastWords = 500 * time.Millisecond

// failWrite ends the link after a failed write, once its reader has come to an
// end or lastWords have passed.
func (l *link) failWrite(err error) {
	l.out.drop()
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-l.stop:
	case <-timer.C:
		_ = l.fail(fmt.Errorf("send to %s: %w", l.peer, err))
	}
	l.abort()
}
