package netlab

import (
	"math/rand/v2"
	"sync"
	"time"
)

// headerSize is what stands before each packet of a TUN device: how the
// kernel left checksum and segmentation to be done. It is handed on unread.
const headerSize = 10

// frame is a packet with its header.
type frame []byte

func (f frame) packet() []byte { return f[headerSize:] }

// pipe is one stretch of the way, in order. Its zero value hands on at once.
type pipe struct {
	clock *clock
	next  func(frame)

	mu     sync.Mutex // guards all below
	set    Path
	free   time.Time // when the transmitter is done with what it was given
	last   time.Time // latest arrival so far
	flight []flying
	stats  Stats
}

type flying struct {
	frame frame
	at    time.Time
}

func (p *pipe) change(set Path) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = set
	if set.Rate == 0 {
		p.free = time.Time{}
	}
}

// send takes a frame that belongs to the caller again when it returns.
func (p *pipe) send(f frame) {
	p.mu.Lock()
	now := time.Now()
	at, ok := p.admit(len(f.packet()), now)
	if !ok {
		p.mu.Unlock()
		return
	}
	if len(p.flight) == 0 && !at.After(now) {
		p.delivered(f)
		p.mu.Unlock()
		p.next(f)
		return
	}
	p.flight = append(p.flight, flying{append(frame(nil), f...), at})
	first := len(p.flight) == 1
	p.mu.Unlock()
	if first {
		p.clock.at(at, p.arrive)
	}
}

// admit returns when a packet of that size arrives, unless it does not.
// Callers hold mu.
func (p *pipe) admit(size int, now time.Time) (at time.Time, ok bool) {
	switch {
	case p.set.Cut:
		p.stats.Cut++
		return at, false
	case p.set.Loss > 0 && rand.Float64() < p.set.Loss:
		p.stats.Lost++
		return at, false
	}
	at = now
	if p.set.Rate > 0 {
		if p.free.After(now) {
			at = p.free
		}
		if at.Sub(now) > p.set.Queue {
			p.stats.Overflowed++
			return at, false
		}
		at = at.Add(time.Duration(float64(size*8) / p.set.Rate * float64(time.Second)))
		p.free = at
	}
	at = at.Add(p.set.Delay)
	if p.set.Jitter > 0 {
		at = at.Add(rand.N(p.set.Jitter))
	}
	if at.Before(p.last) {
		at = p.last
	}
	p.last = at
	return at, true
}

// arrive hands on what is due; the clock calls it.
func (p *pipe) arrive() {
	p.mu.Lock()
	now := time.Now()
	n := 0
	for n < len(p.flight) && !p.flight[n].at.After(now) {
		n++
	}
	due := p.flight[:n:n]
	p.flight = p.flight[n:]
	if p.set.Cut {
		p.stats.Cut += uint64(n)
		due = nil
	}
	for _, f := range due {
		p.delivered(f.frame)
	}
	var again time.Time
	if len(p.flight) > 0 {
		again = p.flight[0].at
	}
	p.mu.Unlock()
	for _, f := range due {
		p.next(f.frame)
	}
	if !again.IsZero() {
		p.clock.at(again, p.arrive)
	}
}

// delivered counts. Callers hold mu.
func (p *pipe) delivered(f frame) {
	p.stats.Packets++
	p.stats.Bytes += uint64(len(f.packet()))
}

func (p *pipe) count() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}
