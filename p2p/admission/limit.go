package admission

import (
	"net/netip"
	"sync"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"
)

const (
	maxJoining   = 32  // at once
	joinRate     = 1   // a second and address, in the long run
	joinBurst    = 32  // for a script that starts a rack, or machines behind one router
	maxJoinAddrs = 256 // addresses that are watched at once
)

// joinLimits keeps strangers from occupying an admitter.
type joinLimits struct {
	mu      sync.Mutex // guards active and byAddr
	active  int
	byAddr  map[netip.Addr]*rate.Limiter
	maximum int
}

func (l *joinLimits) init() {
	l.byAddr = make(map[netip.Addr]*rate.Limiter)
	l.maximum = maxJoining
}

// enter admits one attempt, or not; release ends it.
func (l *joinLimits) enter(from ma.Multiaddr) (release func(), ok bool) {
	addr := network64(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active >= l.maximum {
		return nil, false
	}
	lim := l.byAddr[addr]
	if lim == nil {
		// A flood from many addresses costs the memory of this bound only;
		// forgetting all is harmless, as secrets cannot be guessed anyway.
		if len(l.byAddr) >= maxJoinAddrs {
			clear(l.byAddr)
		}
		lim = rate.NewLimiter(joinRate, joinBurst)
		l.byAddr[addr] = lim
	}
	if !lim.Allow() {
		return nil, false
	}
	l.active++
	return func() {
		l.mu.Lock()
		l.active--
		l.mu.Unlock()
	}, true
}

// network64 returns the address, an IPv6 one as its /64: one machine has all
// addresses of that.
func network64(m ma.Multiaddr) netip.Addr {
	ip, err := manet.ToIP(m)
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	addr = addr.Unmap()
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}
