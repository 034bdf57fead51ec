package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// A process that dies takes its listening port with it, and the machine then
// refuses connections to it: the one sign of a death that needs no waiting. It
// says nothing about a peer that was never seen to listen there, for firewalls
// refuse too, and other machines' addresses may be this machine's own.

// Door is where a connected peer listens for TCP: where this node has dialed it,
// or what it says of itself with the address that it comes from, once a
// connection to that is accepted. It is false when there is none. It blocks for
// as long as ctx lets it, a second at most.
func (h *Host) Door(ctx context.Context, id peer.ID, said []ma.Multiaddr) (netip.AddrPort, bool) {
	var likely []netip.AddrPort
	for _, c := range h.lib.Network().ConnsToPeer(id) {
		from, ok := endpoint(c.RemoteMultiaddr())
		if !ok || !isTCP(c.RemoteMultiaddr()) {
			continue
		}
		if c.Stat().Direction == network.DirOutbound {
			return from, true
		}
		for _, a := range said {
			if at, ok := endpoint(a); ok && isTCP(a) && at.Addr() == from.Addr() && !slices.Contains(likely, at) {
				likely = append(likely, at)
			}
		}
	}
	for _, at := range likely {
		if knock(ctx, at) == nil {
			return at, true
		}
	}
	return netip.AddrPort{}, false
}

// Shut says that nobody listens any more at a place where Door has found a peer.
// A place that does not answer, or not within a second, is not shut.
func (h *Host) Shut(ctx context.Context, door netip.AddrPort) bool {
	return errors.Is(knock(ctx, door), syscall.ECONNREFUSED)
}

const knockTimeout = time.Second

// knock connects and hangs up.
func knock(ctx context.Context, at netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, knockTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	return c.Close()
}
