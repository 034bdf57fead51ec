package wire

import (
	"sync"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// backlogBytes is how much must wait behind a frame for its write to count as a
// sign of life: with less, the write may only have filled a buffer.
const backlogBytes = 256 << 10

// smallFrame is the size up to which a frame gets a small buffer.
const smallFrame = 2 << 10

// maxUrgent bounds the beats that wait; a peer that sends beats faster than it
// takes answers gets the newest answers only.
const maxUrgent = 16

// buffer holds one encoded frame.
type buffer struct {
	b    []byte
	pool *sync.Pool
}

func (b *buffer) free() {
	b.b = b.b[:0]
	b.pool.Put(b)
}

var smallPool, largePool sync.Pool

func newBuffer(size int) *buffer {
	pool, room := &smallPool, smallFrame
	if size > smallFrame {
		pool, room = &largePool, MaxFrame
	}
	if b, ok := pool.Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, 0, room), pool: pool}
}

// outgoing is a frame in the queue.
type outgoing struct {
	buf    *buffer
	at     time.Time
	behind int // bytes that were queued behind it when it was taken
}

// outbox is the queue between Send and the writer.
type outbox struct {
	wake  chan struct{}
	limit int

	// mu guards everything below.
	mu     sync.Mutex
	queue  []outgoing // from head on
	head   int
	urgent []outgoing
	bytes  int // in queue
	peak   int
	closed bool
}

// put queues a frame, in parts if need be: all of them in a row, or none.
func (o *outbox) put(header *weftv1.Frame, payload []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return ErrClosed
	}
	if o.bytes+len(payload) > o.limit {
		return ErrQueueFull
	}
	now := time.Now()
	length := len(o.queue)
	err := split(header, payload, func(h *weftv1.Frame, p []byte) error {
		buf, err := encode(h, p)
		if err == nil {
			o.queue = append(o.queue, outgoing{buf: buf, at: now})
		}
		return err
	})
	if err != nil {
		o.queue = freeAll(o.queue, length)
		return err
	}
	for _, f := range o.queue[length:] {
		o.bytes += len(f.buf.b)
	}
	o.peak = max(o.peak, o.bytes)
	o.signal()
	return nil
}

// putUrgent queues a beat ahead of everything else.
func (o *outbox) putUrgent(header *weftv1.Frame) {
	buf, err := encode(header, nil)
	if err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		buf.free()
		return
	}
	if len(o.urgent) == maxUrgent {
		o.urgent[0].buf.free()
		o.urgent = append(o.urgent[:0], o.urgent[1:]...)
	}
	o.urgent = append(o.urgent, outgoing{buf: buf, at: time.Now()})
	o.signal()
}

func encode(header *weftv1.Frame, payload []byte) (*buffer, error) {
	// A header seldom reaches a kilobyte; append grows the buffer where it does.
	buf := newBuffer(len(payload) + smallFrame/2)
	b, err := appendFrame(buf.b, header, payload)
	if err != nil {
		buf.free()
		return nil, err
	}
	buf.b = b
	return buf, nil
}

// freeAll gives back the buffers of queue from index i on.
func freeAll(queue []outgoing, i int) []outgoing {
	for j := i; j < len(queue); j++ {
		queue[j].buf.free()
		queue[j] = outgoing{}
	}
	return queue[:i]
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take waits for the next frame; false when the queue is closed and empty.
func (o *outbox) take() (outgoing, bool) {
	for {
		o.mu.Lock()
		f, ok := o.pop()
		closed := o.closed
		o.mu.Unlock()
		if ok || closed {
			return f, ok
		}
		<-o.wake
	}
}

// pop takes the next frame; mu is held.
func (o *outbox) pop() (outgoing, bool) {
	if len(o.urgent) > 0 {
		f := o.urgent[0]
		o.urgent = append(o.urgent[:0], o.urgent[1:]...)
		return f, true
	}
	if o.head == len(o.queue) {
		return outgoing{}, false
	}
	f := o.queue[o.head]
	o.queue[o.head] = outgoing{}
	o.head++
	o.bytes -= len(f.buf.b)
	f.behind = o.bytes
	if o.head == len(o.queue) {
		o.queue, o.head = o.queue[:0], 0
	} else if o.head >= 1024 && o.head*2 >= len(o.queue) {
		n := copy(o.queue, o.queue[o.head:])
		clear(o.queue[n:])
		o.queue, o.head = o.queue[:n], 0
	}
	return f, true
}

// close refuses new frames; those queued may still be taken.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.signal()
}

// drop refuses new frames and frees the queued ones.
func (o *outbox) drop() {
	o.mu.Lock()
	o.closed = true
	freeAll(o.queue[o.head:], 0)
	freeAll(o.urgent, 0)
	o.queue, o.head, o.urgent, o.bytes = nil, 0, nil, 0
	o.mu.Unlock()
	o.signal()
}

// depth returns the bytes that wait now and the most that ever did.
func (o *outbox) depth() (now, peak int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes, o.peak
}
