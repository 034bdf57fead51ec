package gossip

import (
	"net/netip"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Halt stops without telling the others, as a crash would.
func (g *Gossip) Halt() error { return g.halt() }

// DoorOf is where a member was seen to listen.
func (g *Gossip) DoorOf(id peer.ID) netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.contacts[id]; c != nil {
		return c.door
	}
	return netip.AddrPort{}
}

// Look asks a member's port as after the end of its last connection, and says
// whether the member was found gone.
func (g *Gossip) Look(id peer.ID) bool { return g.look(id, g.DoorOf(id)) }

// Stall takes all places for attempts at missing peers, as many that do not answer
// do, until the function that it returns is called.
func (g *Gossip) Stall() (end func()) {
	for range cap(g.reaches) {
		g.reaches <- struct{}{}
	}
	return func() {
		for range cap(g.reaches) {
			<-g.reaches
		}
	}
}
