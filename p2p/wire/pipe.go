package wire

import (
	"io"
	"os"
	"sync"
	"time"
)

// pipeWindow is how much one end of a pipe may hold that the other has not read.
const pipeWindow = 256 << 10

// Pipe joins two nodes of one process, or a node with itself, without a
// network: the first link is held by a and has b as its peer, the second is held
// by b. Frames are encoded, bounded and queued as on a stream. There are no
// heartbeats, whatever cfg says: both ends live and die together.
func Pipe(a, b string, cfg Config) (Link, Link) {
	cfg.Beat = -1
	near, far := PipeStream()
	return NewLink(near, b, cfg), NewLink(far, a, cfg)
}

// PipeStream is a stream in memory: the two ends of it. Each holds pipeWindow
// bytes that the other has not read; a write beyond that waits.
func PipeStream() (Stream, Stream) {
	left, right := newDuct(), newDuct()
	return &pipeEnd{in: left, out: right}, &pipeEnd{in: right, out: left}
}

// pipeEnd is a Stream over two ducts.
type pipeEnd struct{ in, out *duct }

func (p *pipeEnd) Read(b []byte) (int, error)  { return p.in.read(b) }
func (p *pipeEnd) Write(b []byte) (int, error) { return p.out.write(b) }

// CloseWrite ends the direction to the peer, which can still read what was
// written.
func (p *pipeEnd) CloseWrite() error {
	p.out.end(io.EOF)
	return nil
}

// Close ends both directions; what was written can still be read by the peer.
func (p *pipeEnd) Close() error {
	p.out.end(io.EOF)
	p.in.abandon(io.ErrClosedPipe)
	return nil
}

func (p *pipeEnd) Reset() error {
	p.out.abandon(io.ErrClosedPipe)
	p.in.abandon(io.ErrClosedPipe)
	return nil
}

func (p *pipeEnd) SetDeadline(t time.Time) error {
	p.in.deadline(&p.in.reading, t)
	p.out.deadline(&p.out.writing, t)
	return nil
}

func (p *pipeEnd) SetReadDeadline(t time.Time) error {
	p.in.deadline(&p.in.reading, t)
	return nil
}

func (p *pipeEnd) SetWriteDeadline(t time.Time) error {
	p.out.deadline(&p.out.writing, t)
	return nil
}

// duct is one direction: a buffer that a writer fills up to pipeWindow.
type duct struct {
	// mu guards everything below; cond is signalled whenever any of it changes.
	mu    sync.Mutex
	cond  *sync.Cond
	buf   []byte
	off   int
	ended error // after buf is read, reads return this
	dead  error // reads and writes return this at once
	// Deadlines of the two sides.
	reading, writing timeout
}

// timeout is one side's deadline; its duct's mu guards it.
type timeout struct {
	timer  *time.Timer
	passed bool
}

func (t *timeout) stop() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}

func newDuct() *duct {
	d := &duct{}
	d.cond = sync.NewCond(&d.mu)
	return d
}

func (d *duct) read(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.off == len(d.buf) {
		switch {
		case d.dead != nil:
			return 0, d.dead
		case d.ended != nil:
			return 0, d.ended
		case d.reading.passed:
			return 0, os.ErrDeadlineExceeded
		}
		d.cond.Wait()
	}
	if d.dead != nil {
		return 0, d.dead
	}
	n := copy(b, d.buf[d.off:])
	d.off += n
	if d.off == len(d.buf) {
		d.buf, d.off = d.buf[:0], 0
	}
	d.cond.Broadcast()
	return n, nil
}

func (d *duct) write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case d.dead != nil:
			return 0, d.dead
		case d.ended != nil:
			return 0, io.ErrClosedPipe
		case d.writing.passed:
			return 0, os.ErrDeadlineExceeded
		}
		if len(d.buf)-d.off < pipeWindow {
			break
		}
		d.cond.Wait()
	}
	if d.off > 0 && len(d.buf)+len(b) > cap(d.buf) {
		d.buf = append(d.buf[:0], d.buf[d.off:]...)
		d.off = 0
	}
	d.buf = append(d.buf, b...)
	d.cond.Broadcast()
	return len(b), nil
}

// end lets the reader finish what is buffered.
func (d *duct) end(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended == nil {
		d.ended = err
	}
	d.writing.stop()
	d.cond.Broadcast()
}

// abandon ends both sides at once.
func (d *duct) abandon(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead == nil {
		d.dead = err
	}
	d.buf, d.off = nil, 0
	d.stopTimers()
	d.cond.Broadcast()
}

// deadline makes calls of one side that wait past at fail.
func (d *duct) deadline(t *timeout, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.stop()
	t.passed = false
	if at.IsZero() || d.dead != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(at), func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if t.timer == timer {
			t.passed = true
			d.cond.Broadcast()
		}
	})
	t.timer = timer
}

// stopTimers ends pending deadlines; mu is held.
func (d *duct) stopTimers() {
	d.reading.stop()
	d.writing.stop()
}
