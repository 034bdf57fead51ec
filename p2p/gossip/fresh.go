package gossip

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Freshness says how old what is known of a member is. All times are of this
// node's clock, so that another's wrong clock makes nothing look old or new.
type Freshness struct {
	// Received is when the record came, zero while there is none.
	Received time.Time
	// Behind is since when a newer record is announced that has not come, zero
	// if there is none.
	Behind time.Time
	// Measured is when the round trip was last measured.
	Measured time.Time
}

// announced notes whether the record that is held is not the newest.
func (f *Freshness) announced(behind bool, now time.Time) {
	switch {
	case !behind:
		f.Behind = time.Time{}
	case f.Behind.IsZero():
		f.Behind = now
	}
}

// LastName is the name that a node gave itself in its last record, also when it
// has left since: an error about its leaving should name it. "" is unknown.
func (g *Gossip) LastName(id peer.ID) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.contacts[id]; c != nil && c.record != nil {
		return c.record.Name
	}
	return ""
}

// Traffic shows what a link can do at least, for the sender or the disk may have
// been slower than the link: what is faster than the estimate raises it, and
// what stays far below it makes the link be probed again.
const (
	slowTraffic  = 2 // below bandwidth divided by this
	slowRepeated = 3 // so often in a row
)

// Observe takes the rate at which bulk data arrived from a member.
func (g *Gossip) Observe(from peer.ID, bytesPerSecond float64) {
	if !(bytesPerSecond > 0 && bytesPerSecond < 1e15) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.contacts[from]
	if c == nil || !c.listed {
		return
	}
	if c.observed(uint64(bytesPerSecond)) {
		g.markDirty()
	}
}

// observed says whether the estimate has changed.
func (c *contact) observed(rate uint64) bool {
	switch {
	case rate > c.bandwidth:
		c.slow = 0
		// Half the way: one sample may be a buffer that was full.
		c.bandwidth += (rate - c.bandwidth + 1) / 2
		return true
	case rate < c.bandwidth/slowTraffic:
		c.slow++ // unmeasured sees it, and probes as often as it may
	default:
		c.slow = 0
	}
	return false
}

// unprobed says that the bandwidth is not known, or no longer believed.
func (c *contact) unprobed() bool { return c.bandwidth == 0 || c.slow >= slowRepeated }
