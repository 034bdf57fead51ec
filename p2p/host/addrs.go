package host

import (
	"slices"
	"time"

	libhost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// quicDelay is the head start that TCP gets: a hung or killed peer shows on
// TCP in milliseconds and on QUIC after tens of seconds.
const quicDelay = 500 * time.Millisecond

// nearTimeout is how long a dial to a private address may take. While a link is
// cut, TCP asks ever more seldom; a new attempt asks at once.
const nearTimeout = 3 * time.Second

// relayDelay is the head start of everything else over a relay.
const relayDelay = 1500 * time.Millisecond

// rankDials orders the addresses of a peer for dialing: TCP at once, QUIC
// for what TCP does not reach, relays for what neither reaches.
func rankDials(addrs []ma.Multiaddr) []network.AddrDelay {
	tcp := slices.ContainsFunc(addrs, isTCP)
	direct := slices.ContainsFunc(addrs, func(a ma.Multiaddr) bool { return !relayed(a) })
	ranked := make([]network.AddrDelay, 0, len(addrs))
	for _, a := range addrs {
		d := network.AddrDelay{Addr: a}
		switch {
		case relayed(a) && direct:
			d.Delay = relayDelay
		case tcp && !isTCP(a):
			d.Delay = quicDelay
		}
		ranked = append(ranked, d)
	}
	slices.SortStableFunc(ranked, func(a, b network.AddrDelay) int { return int(a.Delay - b.Delay) })
	return ranked
}

// isTCP says that an address is one of TCP all the way.
func isTCP(a ma.Multiaddr) bool {
	if relayed(a) {
		return false
	}
	_, err := a.ValueForProtocol(ma.P_TCP)
	return err == nil
}

// sortAddrs orders addresses by use to others: private network first (where
// a mesh lives), then public, link-local, loopback last; TCP before QUIC.
func sortAddrs(addrs []ma.Multiaddr) []ma.Multiaddr {
	out := slices.Clone(addrs)
	slices.SortStableFunc(out, func(a, b ma.Multiaddr) int { return addrRank(a) - addrRank(b) })
	return out
}

func addrRank(a ma.Multiaddr) int {
	rank := 2 // public
	switch {
	case manet.IsIPLoopback(a):
		rank = 6
	case manet.IsIP6LinkLocal(a):
		rank = 4
	case manet.IsPrivateAddr(a):
		rank = 0
	}
	if !isTCP(a) {
		rank++
	}
	return rank
}

// Announcer returns a view of the host for libp2p's mDNS, which wants a whole
// libp2p host and uses its id and addresses: nothing else works on the view,
// so nothing can be served or opened past this package's rules. Loopback
// addresses are not in it; ok is false when there are no others.
func (h *Host) Announcer() (view libhost.Host, ok bool) {
	addrs := slices.DeleteFunc(h.DialAddrs(), manet.IsIPLoopback)
	return announcer{id: h.self, net: announcedNet{addrs: addrs}}, len(addrs) > 0
}

type announcer struct {
	libhost.Host
	id  peer.ID
	net announcedNet
}

func (a announcer) ID() peer.ID              { return a.id }
func (a announcer) Network() network.Network { return a.net }

type announcedNet struct {
	network.Network
	addrs []ma.Multiaddr
}

func (n announcedNet) InterfaceListenAddresses() ([]ma.Multiaddr, error) { return n.addrs, nil }
