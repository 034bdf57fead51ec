package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// maxStrays bounds what is remembered of packets to nowhere.
const maxStrays = 64

// Lab is a network; make one with New. All methods are safe for use by
// several goroutines.
type Lab struct {
	clock *clock

	mu      sync.RWMutex // guards all below
	closed  bool
	hosts   []*Host
	byAddr  map[netip.Addr]*Host
	routers map[netip.Addr]*Router
	paths   map[way]*pipe
	all     Path // of paths that nobody has set
	strays  []netip.Addr
}

// way is a direction between two hosts.
type way struct{ from, to *Host }

// Available says why there can be no lab here, or nil.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("a network lab needs root")
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("a network lab needs /dev/net/tun: %w", err)
	}
	_ = unix.Close(fd)
	// A container's root may lack the right to make namespaces.
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("a network lab needs the right to make network namespaces: %w", err)
		}
		return nil
	})
}

// New makes a lab without hosts.
func New() (*Lab, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	c, err := newClock()
	if err != nil {
		return nil, err
	}
	return &Lab{clock: c, byAddr: map[netip.Addr]*Host{}, routers: map[netip.Addr]*Router{}, paths: map[way]*pipe{}}, nil
}

// Host adds a host on a subnet, 0 to 200. Its address is the next free one of
// 10.77.SUBNET.0/24.
func (l *Lab) Host(name string, subnet int) (*Host, error) {
	if subnet < 0 || subnet > 200 {
		return nil, fmt.Errorf("netlab: subnet %d; it must be 0 to 200", subnet)
	}
	h := &Host{lab: l, name: name, calls: make(chan func()), quit: make(chan struct{})}
	h.up = pipe{clock: l.clock, next: h.route}
	h.down = pipe{clock: l.clock, next: h.write}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	addr, err := l.free(subnet)
	if err != nil {
		return nil, err
	}
	h.addr = addr
	if err := h.begin(); err != nil {
		return nil, fmt.Errorf("netlab: host %s: %w", name, err)
	}
	l.hosts = append(l.hosts, h)
	l.byAddr[addr] = h
	return h, nil
}

var errClosed = errors.New("netlab: the lab is closed")

// free returns the next address of a subnet. Callers hold mu.
func (l *Lab) free(subnet int) (netip.Addr, error) {
	for n := 1; n < 255; n++ {
		if a := netip.AddrFrom4([4]byte{10, 77, byte(subnet), byte(n)}); l.byAddr[a] == nil && l.routers[a] == nil {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("netlab: subnet %d is full", subnet)
}

// SetAll says what the paths are like that have no setting of their own, and
// takes those away.
func (l *Lab) SetAll(p Path) error {
	if err := p.check(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = p
	for _, pi := range l.paths {
		pi.change(p)
	}
	return l.segment()
}

// Set changes one way between two hosts, from now on.
func (l *Lab) Set(from, to *Host, p Path) error {
	if err := p.check(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.path(from, to).change(p)
	return l.segment()
}

// Join changes both ways between two hosts, from now on. Packets under way
// keep their time of arrival, unless the path is cut.
func (l *Lab) Join(a, b *Host, p Path) error {
	return errors.Join(l.Set(a, b, p), l.Set(b, a, p))
}

// Cut takes all cables between a host and the others out, or puts them back
// as they were.
func (l *Lab) Cut(h *Host, out bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.hosts {
		if other == h {
			continue
		}
		for _, p := range []*pipe{l.path(h, other), l.path(other, h)} {
			p.mu.Lock()
			set := p.set
			p.mu.Unlock()
			set.Cut = out
			p.change(set)
		}
	}
}

// path returns the pipe of a way. Callers hold mu for writing.
func (l *Lab) path(from, to *Host) *pipe {
	p := l.paths[way{from, to}]
	if p == nil {
		p = &pipe{clock: l.clock, next: to.down.send, set: l.all}
		l.paths[way{from, to}] = p
	}
	return p
}

// segment lets hosts hand over large packets, but not those that lose some: a
// loss is of a packet as a network has it. Callers hold mu.
func (l *Lab) segment() error {
	var errs []error
	for _, h := range l.hosts {
		lossy := l.all.Loss > 0
		for w, p := range l.paths {
			lossy = lossy || w.from == h && p.set.Loss > 0
		}
		errs = append(errs, h.offload(!lossy))
	}
	return errors.Join(errs...)
}

// Stats counts one way between two hosts since the lab began.
func (l *Lab) Stats(from, to *Host) Stats {
	l.mu.RLock()
	p := l.paths[way{from, to}]
	l.mu.RUnlock()
	if p == nil {
		return Stats{}
	}
	return p.count()
}

// Strays returns addresses outside of the lab to which hosts have sent
// something: nothing was delivered.
func (l *Lab) Strays() []netip.Addr {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.strays)
}

// Close kills the programs that were started in hosts and takes the network
// down. Who started a program still waits for it.
func (l *Lab) Close() error {
	l.mu.Lock()
	hosts := l.hosts
	l.hosts, l.closed = nil, true
	l.mu.Unlock()
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.end())
	}
	l.clock.close()
	return errors.Join(errs...)
}

// addressee finds the host that a packet is for: none when it is for several or
// for nobody, and ok is false when it goes no further. On its way through routers
// it gets other addresses. Callers hold mu.
func (l *Lab) addressee(from *Host, dst netip.Addr, f frame) (to *Host, ok bool) {
	to, router := l.byAddr[dst], l.routers[dst]
	inside := local(dst) || to != nil && to.router == from.router
	switch {
	case inside:
		return to, true
	case to != nil && to.router != nil: // its own address means nothing out here
		return nil, false
	case from.router != nil && !from.router.leaves(from, f):
		return nil, false
	case router != nil:
		return router.enters(f)
	}
	return to, true
}

// to returns the ways of a packet to those that it is for, none when that is
// nobody.
func (l *Lab) to(from *Host, f frame) []*pipe {
	dst, ok := destination(f.packet())
	if !ok {
		return nil
	}
	l.mu.RLock()
	to, ok := l.addressee(from, dst, f)
	if !ok {
		l.mu.RUnlock()
		return nil
	}
	if to != nil {
		p := l.paths[way{from, to}]
		l.mu.RUnlock()
		if p != nil {
			return []*pipe{p}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		return []*pipe{l.path(from, to)}
	}
	l.mu.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	if !local(dst) {
		if len(l.strays) < maxStrays && !slices.Contains(l.strays, dst) {
			l.strays = append(l.strays, dst)
		}
		return nil
	}
	var out []*pipe
	for _, h := range l.hosts {
		if h != from && h.subnet() == from.subnet() {
			out = append(out, l.path(from, h))
		}
	}
	return out
}

// local says that an address is for a whole subnet, or for nobody knows whom
// in it: link-local IPv6 is flooded, as by a switch that has not learned.
func local(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		return a.IsMulticast() || b[3] == 255
	}
	return a.IsMulticast() || a.IsLinkLocalUnicast()
}
