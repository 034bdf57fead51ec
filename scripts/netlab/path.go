package netlab

import (
	"fmt"
	"time"
)

// Path says what happens to packets on one way from a host to another.
type Path struct {
	// Delay is one way.
	Delay time.Duration
	// Jitter is added to the delay, evenly from nothing to this.
	Jitter time.Duration
	// Loss is the share of packets that get lost, 0 to 1.
	Loss float64
	// Rate is in bits a second; 0 for no limit.
	Rate float64
	// Queue bounds how long a packet waits for the rate; 0 means 100 ms.
	Queue time.Duration
	// Cut loses all packets, those under way too.
	Cut bool
}

// defaultQueue is a common depth of routers' buffers.
const defaultQueue = 100 * time.Millisecond

func (p *Path) check() error {
	switch {
	case p.Delay < 0 || p.Jitter < 0 || p.Queue < 0:
		return fmt.Errorf("netlab: a path with a negative time: %+v", *p)
	case p.Loss < 0 || p.Loss > 1:
		return fmt.Errorf("netlab: a loss of %v; it must be 0 to 1", p.Loss)
	case p.Rate < 0:
		return fmt.Errorf("netlab: a rate of %v bits a second", p.Rate)
	}
	if p.Queue == 0 {
		p.Queue = defaultQueue
	}
	return nil
}

// Stats counts the packets of one way from a host to another. A packet may be
// as large as 64 KiB: the hosts' kernels hand over what a network card would
// cut, unless packets get lost on one of the host's paths.
type Stats struct {
	Packets, Bytes uint64 // delivered
	Lost           uint64 // by Path.Loss
	Cut            uint64 // by Path.Cut or a firewall
	Overflowed     uint64 // at the tail of a queue
}
