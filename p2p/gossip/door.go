package gossip

import (
	"context"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// memberlist takes seconds over a death, because silence may have other causes.
// A connection that breaks while the peer's listening port, which was open
// before, refuses, has one: the process is gone. Such a peer is no longer listed
// from then on, whatever memberlist still thinks; when it is met again before
// memberlist has noticed, it is back.

// maxDoorsAtOnce bounds how many listening ports are looked for at once: when
// many nodes join, all of them look.
const maxDoorsAtOnce = 2

// doorLooks are the pauses before each look at the port of a member whose
// connection has broken: a process may end its connections before its port.
var doorLooks = []time.Duration{0, 50 * time.Millisecond, 250 * time.Millisecond, time.Second}

// findDoor finds out where a member listens.
func (g *Gossip) findDoor(id peer.ID) {
	g.workIn(g.doors, func(ctx context.Context) {
		g.mu.Lock()
		c := g.contacts[id]
		if c == nil || !c.listed {
			g.mu.Unlock()
			return
		}
		said := c.addrs
		g.mu.Unlock()
		door, _ := g.host.Door(ctx, id, said)
		g.mu.Lock()
		c.door = door
		g.mu.Unlock()
	})
}

// lost looks after a member whose last connection has ended.
func (g *Gossip) lost(id peer.ID) {
	g.mu.Lock()
	c := g.contacts[id]
	if c == nil || !c.listed || !c.door.IsValid() || g.ctx.Err() != nil {
		g.mu.Unlock()
		return
	}
	door := c.door
	g.mu.Unlock()
	g.wg.Go(func() {
		for _, wait := range doorLooks {
			select {
			case <-time.After(wait):
			case <-g.ctx.Done():
				return
			}
			if _, back := g.host.Member(id); back || g.look(id, door) {
				return
			}
		}
	})
}

// look says whether it has found a member gone.
func (g *Gossip) look(id peer.ID, door netip.AddrPort) bool {
	if !g.host.Shut(g.ctx, door) {
		return false
	}
	if _, back := g.host.Member(id); back {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.contacts[id]
	if c == nil || !c.unlist() {
		return false
	}
	g.notices.Emit(notice{noticeLeave, id})
	return true
}

// unlist says whether the contact was listed until now.
func (c *contact) unlist() bool {
	was := c.listed
	c.listed, c.departed = false, true
	return was
}
