package netlab

import (
	"encoding/binary"
	"net/netip"
	"sync"
)

// firewall remembers to whom a host has sent TCP and UDP. Multicast passes.
type firewall struct {
	mu    sync.Mutex // guards all below
	on    bool
	flows map[flow]bool
}

// flow is a conversation as its host sees it.
type flow struct {
	protocol      byte
	local, remote netip.AddrPort
}

func (w *firewall) set(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = on
	if w.flows == nil {
		w.flows = map[flow]bool{}
	}
}

func (w *firewall) leaves(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.on {
		return
	}
	if f, ok := flowOf(p, true); ok {
		w.flows[f] = true
	}
}

func (w *firewall) enters(p []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.on {
		return true
	}
	f, ok := flowOf(p, false)
	return !ok || w.flows[f]
}

// flowOf reads addresses and ports of IPv4's TCP and UDP; ok is false for
// anything else.
func flowOf(p []byte, leaves bool) (f flow, ok bool) {
	if len(p) < 20 || p[0]>>4 != 4 || p[9] != 6 && p[9] != 17 {
		return f, false
	}
	at := int(p[0]&15) * 4
	if len(p) < at+4 {
		return f, false
	}
	src := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), binary.BigEndian.Uint16(p[at:]))
	dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), binary.BigEndian.Uint16(p[at+2:]))
	if dst.Addr().IsMulticast() {
		return f, false
	}
	if leaves {
		return flow{p[9], src, dst}, true
	}
	return flow{p[9], dst, src}, true
}
