package netlab

import (
	"container/heap"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clock calls functions at their time, from one thread. Go's own timers are
// late by up to a millisecond on an idle machine, a path of 5 ms would have 6;
// this one waits in the kernel with nanoseconds and no slack.
type clock struct {
	wakeFD int
	done   chan struct{}

	mu     sync.Mutex // guards all below
	events events
	closed bool
}

type event struct {
	at time.Time
	f  func()
}

func newClock() (*clock, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("netlab: eventfd: %w", err)
	}
	c := &clock{wakeFD: fd, done: make(chan struct{})}
	go c.run()
	return c, nil
}

// at calls f at that time, or soon after.
func (c *clock) at(t time.Time, f func()) {
	c.mu.Lock()
	heap.Push(&c.events, event{t, f})
	first := c.events[0].at.Equal(t)
	c.mu.Unlock()
	if first {
		c.wake()
	}
}

func (c *clock) wake() {
	_, _ = unix.Write(c.wakeFD, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (c *clock) run() {
	defer close(c.done)
	runtime.LockOSThread() // never unlocked: the slack belongs to the thread
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for {
		f, wait, ok := c.pop()
		switch {
		case !ok:
			return
		case f != nil:
			f()
		default:
			c.sleep(wait)
		}
	}
}

// pop returns what is due, or else how long to wait, less than 0 for ever.
func (c *clock) pop() (f func(), wait time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, 0, false
	}
	if len(c.events) == 0 {
		return nil, -1, true
	}
	if wait = time.Until(c.events[0].at); wait > 0 {
		return nil, wait, true
	}
	return heap.Pop(&c.events).(event).f, 0, true
}

func (c *clock) sleep(d time.Duration) {
	var limit *unix.Timespec
	if d >= 0 {
		ts := unix.NsecToTimespec(int64(d))
		limit = &ts
	}
	_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(c.wakeFD), Events: unix.POLLIN}}, limit, nil)
	var b [8]byte
	_, _ = unix.Read(c.wakeFD, b[:])
}

// close ends the clock and waits until it calls nothing more.
func (c *clock) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wake()
	<-c.done
	_ = unix.Close(c.wakeFD)
}

// events is a heap by time.
type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}
