package wire

import (
	"sync/atomic"
	"time"
)

// Stats counts what went over a link since it was made.
type Stats struct {
	Peer           string
	FramesSent     uint64
	FramesReceived uint64
	BytesSent      uint64
	BytesReceived  uint64
	// QueuedBytes wait to be sent now; QueuedPeak is the most that ever did.
	QueuedBytes int
	QueuedPeak  int
	// QueueTime is what frames spent between Send and the end of their write,
	// all together; divide by FramesSent.
	QueueTime time.Duration
	// RTT is the smoothed round trip of heartbeats; 0 before the first.
	RTT time.Duration
}

// counters are a link's running totals.
type counters struct {
	framesSent, framesReceived atomic.Uint64
	bytesSent, bytesReceived   atomic.Uint64
	queueTime                  atomic.Int64
}

func (c *counters) received(bytes int) {
	c.framesReceived.Add(1)
	c.bytesReceived.Add(uint64(bytes))
}

func (c *counters) sent(bytes int, queued time.Duration) {
	c.framesSent.Add(1)
	c.bytesSent.Add(uint64(bytes))
	c.queueTime.Add(int64(queued))
}

func (l *link) Stats() Stats {
	now, peak := l.out.depth()
	return Stats{
		Peer:       l.peer,
		FramesSent: l.count.framesSent.Load(), FramesReceived: l.count.framesReceived.Load(),
		BytesSent: l.count.bytesSent.Load(), BytesReceived: l.count.bytesReceived.Load(),
		QueuedBytes: now, QueuedPeak: peak,
		QueueTime: time.Duration(l.count.queueTime.Load()),
		RTT:       l.beat.roundTrip(),
	}
}
