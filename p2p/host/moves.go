package host

import (
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// sleepGap is how long the host must have stood still for its connections to
// be doubted: the machine slept, or the process was stopped.
const sleepGap = 10 * time.Second

// moves notices what happens to the machine: other addresses, and sleep. It
// has no clock of its own.
type moves struct {
	last  time.Time // by the wall clock
	addrs []netip.Addr
}

// look takes the time and the machine's addresses. A clock that somebody sets
// forward looks like sleep, which costs nothing but a question to each peer.
func (m *moves) look(now time.Time, addrs []netip.Addr) (moved, woke bool) {
	now = now.Round(0) // the monotonic clock stands still in sleep
	slices.SortFunc(addrs, netip.Addr.Compare)
	woke = !m.last.IsZero() && now.Sub(m.last) > sleepGap
	moved = !m.last.IsZero() && !slices.Equal(addrs, m.addrs)
	m.last, m.addrs = now, addrs
	return moved, woke
}

// has says whether the machine has an address. One that is no IP address, or
// stands for all, it always has.
func (m *moves) has(a ma.Multiaddr) bool {
	ip, ok := addrOf(a)
	return !ok || ip.IsUnspecified() || slices.Contains(m.addrs, ip)
}

func addrOf(a ma.Multiaddr) (netip.Addr, bool) {
	raw, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(raw)
	return ip.Unmap(), ok
}

// machineAddrs lists the IP addresses of all interfaces.
func machineAddrs() ([]netip.Addr, error) {
	all, err := manet.InterfaceMultiaddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range all {
		if ip, ok := addrOf(a); ok {
			out = append(out, ip)
		}
	}
	return out, nil
}

// watchMoves looks for changes. Connections from an address that the machine
// no longer has are dead, but would hang for most of a minute: they are closed,
// so that everybody connects anew.
func (h *Host) watchMoves(m *moves, now time.Time) {
	addrs, err := machineAddrs()
	if err != nil {
		h.log.Debug("addresses of this machine not read", "error", err)
		return
	}
	moved, woke := m.look(now, addrs)
	if moved {
		h.log.Info("addresses of this machine changed", "addrs", addrs)
		for _, c := range h.lib.Network().Conns() {
			if !m.has(c.LocalMultiaddr()) {
				_ = c.Close()
			}
		}
		h.events.Emit(Event{Kind: Moved})
	}
	if woke {
		h.log.Info("this machine was asleep")
		h.events.Emit(Event{Kind: Woke})
	}
}

// Preferred says whether a new stream to the connection's peer would take this
// connection. One that is not may be a leftover from before the peer moved.
func (h *Host) Preferred(c network.Conn) bool {
	conns := h.lib.Network().ConnsToPeer(c.RemotePeer())
	return len(conns) == 0 || best(conns).ID() == c.ID()
}
