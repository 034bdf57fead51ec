// Package feed hands events of one source to any number of readers, in order
// and without losing one, and never blocks the source. It keeps what a reader
// has not taken yet, so a reader must keep up. Start at Feed.
package feed

import (
	"context"
	"sync"
)

// Feed distributes events of type T. Make it by New.
type Feed[T any] struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards closed and readers
	closed  bool
	readers map[*reader[T]]struct{}
}

// New returns an open feed.
func New[T any]() *Feed[T] {
	f := &Feed[T]{readers: make(map[*reader[T]]struct{})}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// Emit queues an event for all present readers. It does not block.
func (f *Feed[T]) Emit(e T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		r.push(e)
	}
}

// Watch returns a channel of the events from now on and a function that ends
// the watching. The channel is closed by that function or by Close.
func (f *Feed[T]) Watch() (<-chan T, func()) {
	ctx, cancel := context.WithCancel(f.ctx)
	r := &reader[T]{out: make(chan T), wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		cancel()
		close(r.out)
		return r.out, func() {}
	}
	f.readers[r] = struct{}{}
	f.wg.Go(func() { r.run(ctx) })
	return r.out, func() {
		f.mu.Lock()
		delete(f.readers, r)
		f.mu.Unlock()
		cancel()
	}
}

// Close ends all watching and waits for it.
func (f *Feed[T]) Close() {
	f.mu.Lock()
	f.closed = true
	f.readers = nil
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
}

type reader[T any] struct {
	out  chan T
	wake chan struct{}

	mu    sync.Mutex // guards queue
	queue []T
}

func (r *reader[T]) push(e T) {
	r.mu.Lock()
	r.queue = append(r.queue, e)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reader[T]) run(ctx context.Context) {
	defer close(r.out)
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		batch := r.queue
		r.queue = nil
		r.mu.Unlock()
		for _, e := range batch {
			select {
			case r.out <- e:
			case <-ctx.Done():
				return
			}
		}
	}
}
