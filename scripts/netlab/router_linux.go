package netlab

import (
	"encoding/binary"
	"net/netip"
	"sync"
)

// Router translates addresses, as a home's router does: what hosts behind it send
// to others leaves from its own address and a port that it picks, and only
// answers come in, from where the sent went to. Hosts behind it reach each other
// directly; from elsewhere their own addresses lead nowhere.
type Router struct {
	lab *Lab

	mu        sync.Mutex // guards all below
	addr      netip.Addr
	symmetric bool
	next      uint16
	out       map[inner]uint16
	in        map[outer]*mapping
}

// inner is a conversation's end behind a router, with the other end where the
// router is symmetric.
type inner struct {
	protocol byte
	local    netip.AddrPort
	remote   netip.AddrPort // of a symmetric router only
}

// outer is a port of a router.
type outer struct {
	protocol byte
	port     uint16
}

type mapping struct {
	host  *Host
	local netip.AddrPort
	asked map[netip.AddrPort]bool // who may answer
}

// firstPort is the first that a router gives.
const firstPort = 20000

// Router puts hosts behind a router that has the next free address of a subnet
// outside. With symmetric it picks a port for each destination, so that what one
// is told about the way in is of no use to another.
func (l *Lab) Router(subnet int, symmetric bool, behind ...*Host) (*Router, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr, err := l.free(subnet)
	if err != nil {
		return nil, err
	}
	r := &Router{lab: l, addr: addr, symmetric: symmetric}
	r.forget()
	l.routers[addr] = r
	for _, h := range behind {
		h.router = r
	}
	return r, nil
}

// Addr returns the router's address outside.
func (r *Router) Addr() netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addr
}

// Forget drops all that the router knows of conversations, as when it starts
// anew: what its hosts send gets other ports, and nothing old comes in.
func (r *Router) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
}

// Readdress forgets and takes the next free address of a subnet, as when a
// provider gives another.
func (r *Router) Readdress(subnet int) (netip.Addr, error) {
	r.lab.mu.Lock()
	defer r.lab.mu.Unlock()
	addr, err := r.lab.free(subnet)
	if err != nil {
		return addr, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.lab.routers, r.addr)
	r.lab.routers[addr] = r
	r.addr = addr
	r.forget()
	return addr, nil
}

// forget leaves next as it is: a port is not given twice. Callers hold mu.
func (r *Router) forget() {
	r.next = max(r.next, firstPort)
	r.out, r.in = map[inner]uint16{}, map[outer]*mapping{}
}

// leaves gives a packet of a host behind the router the router's address; false
// when it cannot leave.
func (r *Router) leaves(h *Host, f frame) bool {
	w, ok := flowOf(f.packet(), true)
	if !ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := inner{protocol: w.protocol, local: w.local}
	if r.symmetric {
		key.remote = w.remote
	}
	port, ok := r.out[key]
	if !ok {
		r.next++
		port = r.next
		r.out[key] = port
		r.in[outer{w.protocol, port}] = &mapping{host: h, local: w.local, asked: map[netip.AddrPort]bool{}}
	}
	r.in[outer{w.protocol, port}].asked[w.remote] = true
	readdress(f, true, netip.AddrPortFrom(r.addr, port))
	return true
}

// enters gives a packet for the router its host's address; false when it is no
// answer to anything.
func (r *Router) enters(f frame) (to *Host, ok bool) {
	w, ok := flowOf(f.packet(), false)
	if !ok {
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.in[outer{w.protocol, w.local.Port()}]
	if m == nil || !m.asked[w.remote] {
		return nil, false
	}
	readdress(f, false, m.local)
	return m.host, true
}

// readdress writes another source, or else destination, into a packet of TCP or
// UDP over IPv4, which flowOf has looked at, and corrects its sums.
func readdress(f frame, source bool, to netip.AddrPort) {
	p := f.packet()
	ports := int(p[0]&15) * 4
	addrAt, portAt := 16, ports+2
	if source {
		addrAt, portAt = 12, ports
	}
	addr := to.Addr().As4()
	port := binary.BigEndian.AppendUint16(nil, to.Port())
	sumAt := ports + 16
	if p[9] == protocolUDP {
		sumAt = ports + 6
	}
	correct(p[10:12], p[addrAt:addrAt+4], addr[:], false)
	if len(p) >= sumAt+2 {
		// What the kernel has left for a card to finish is the sum of the
		// addresses alone, not inverted.
		unfinished := f[0]&needsSum != 0
		none := p[9] == protocolUDP && p[sumAt] == 0 && p[sumAt+1] == 0
		if !none {
			correct(p[sumAt:sumAt+2], p[addrAt:addrAt+4], addr[:], unfinished)
		}
		if !none && !unfinished {
			correct(p[sumAt:sumAt+2], p[portAt:portAt+2], port, false)
		}
	}
	copy(p[addrAt:], addr[:])
	copy(p[portAt:], port)
}

const (
	protocolUDP = 17
	needsSum    = 1 // in the first byte of a device's header
)

// correct changes an internet checksum (RFC 1624) for words that change.
func correct(sum, before, after []byte, plain bool) {
	s := uint32(binary.BigEndian.Uint16(sum))
	if !plain {
		s = ^s & 0xffff
	}
	for i := 0; i < len(before); i += 2 {
		s += ^uint32(binary.BigEndian.Uint16(before[i:]))&0xffff + uint32(binary.BigEndian.Uint16(after[i:]))
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	if !plain {
		s = ^s & 0xffff
	}
	binary.BigEndian.PutUint16(sum, uint16(s))
}
