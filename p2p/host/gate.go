package host

import (
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// gate is the host as libp2p's connection gater. It bounds strangers before
// they cost more than a handshake; who is a member is decided by hello.
type gate Host

func (g *gate) InterceptPeerDial(p peer.ID) bool { return p != g.self }

func (g *gate) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

// InterceptAccept refuses all while this node belongs to no mesh: there is
// nothing that it could do for anybody. Only members may bring others.
func (g *gate) InterceptAccept(c network.ConnMultiaddrs) bool {
	if via, ok := relayOf(c.RemoteMultiaddr()); ok {
		if _, member := (*Host)(g).Member(via); !member {
			return false
		}
	}
	return g.cfg.Authority.Credential() != nil
}

func (g *gate) InterceptSecured(dir network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	if dir == network.DirOutbound {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	strangers := 0
	for id, st := range g.peers {
		if st.member != nil {
			if id == p {
				return true
			}
			continue
		}
		strangers++
	}
	return !g.closed && strangers < g.cfg.MaxStrangers
}

func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
