package host

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/admission"
)

// Member is a connected peer that has proved its membership.
type Member struct {
	admission.Member
	// Wire, Contract and Software are what it says about its program.
	Wire, Contract uint32
	Software       string
}

// peerState is what the host knows of a connected peer. It lives from the
// first connection to the last; a new connection proves itself anew. The
// host's mutex guards it.
type peerState struct {
	conns      int
	hellos     int // of ours, under way
	answering  int // hellos of the peer that are being answered
	member     *Member
	credential []byte
	err        error         // why the last hello failed
	changed    chan struct{} // closed and replaced at every change
	since      time.Time
	tolerated  time.Time // until when it may stay without a certificate
}

func (st *peerState) notify() {
	close(st.changed)
	st.changed = make(chan struct{})
}

// errGone means that the connection ended before the peer was known.
var errGone = errors.New("the connection ended before the other side had shown its certificate")

// notifiee is the host as libp2p's connection listener; its calls must not
// block.
type notifiee Host

func (n *notifiee) Listen(network.Network, ma.Multiaddr)      {}
func (n *notifiee) ListenClose(network.Network, ma.Multiaddr) {}

func (n *notifiee) Connected(_ network.Network, c network.Conn) {
	h := (*Host)(n)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	st := h.peers[c.RemotePeer()]
	if st == nil {
		st = &peerState{changed: make(chan struct{}), since: time.Now()}
		h.peers[c.RemotePeer()] = st
	}
	st.conns++
	if st.conns > 1 {
		h.doubt(c)
	}
	// The side that dialed begins. A node without a certificate has nothing
	// to say; it is about to join.
	if c.Stat().Direction == network.DirOutbound && h.cfg.Authority.Credential() != nil {
		h.startHello(st, c)
	}
}

func (n *notifiee) Disconnected(_ network.Network, c network.Conn) {
	h := (*Host)(n)
	h.mu.Lock()
	defer h.mu.Unlock()
	id := c.RemotePeer()
	st := h.peers[id]
	if st == nil {
		return
	}
	if st.conns--; st.conns > 0 {
		return
	}
	delete(h.peers, id)
	if st.err == nil {
		st.err = errGone
	}
	if st.member != nil {
		h.events.Emit(Event{Kind: Disconnected, Member: *st.member})
		st.member = nil
	}
	st.notify()
}

// admits says whether a peer is a member now, waiting for a hello of ours
// that is under way: the peer may have read our certificate and gone on
// before we have read its own.
func (h *Host) admits(id peer.ID) bool {
	timer := time.NewTimer(helloTimeout)
	defer timer.Stop()
	for {
		h.mu.Lock()
		st := h.peers[id]
		if st == nil || st.member == nil && st.hellos == 0 {
			h.mu.Unlock()
			return false
		}
		if st.member != nil {
			ok := !h.cfg.Now().After(st.member.Expires.Add(admission.ClockSkew))
			h.mu.Unlock()
			return ok
		}
		changed := st.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-h.ctx.Done():
			return false
		}
	}
}

// verified notes a member after a successful hello.
func (h *Host) verified(id peer.ID, m Member, credential []byte) {
	for _, c := range h.lib.Network().ConnsToPeer(id) {
		h.known.add(c.RemoteMultiaddr())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.peers[id]
	if st == nil {
		return // the connection ended meanwhile
	}
	first := st.member == nil
	st.member, st.credential, st.err = &m, credential, nil
	if first {
		h.events.Emit(Event{Kind: Connected, Member: m})
	}
	st.notify()
}

// Members returns the connected members, ordered by peer id.
func (h *Host) Members() []Member {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Member
	for _, st := range h.peers {
		if st.member != nil {
			out = append(out, *st.member)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

// Member returns a connected member.
func (h *Host) Member(id peer.ID) (Member, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if st := h.peers[id]; st != nil && st.member != nil {
		return *st.member, true
	}
	return Member{}, false
}

// Admitters returns the connected members that may issue certificates.
func (h *Host) Admitters() []peer.ID {
	var out []peer.ID
	for _, m := range h.Members() {
		if m.Role == admission.Admitter {
			out = append(out, m.ID)
		}
	}
	return out
}

// Credential returns the certificate chain that a connected member has shown.
func (h *Host) Credential(id peer.ID) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if st := h.peers[id]; st != nil && st.member != nil {
		return st.credential
	}
	return nil
}

// Peers returns the ids of the connected members.
func (h *Host) Peers() []peer.ID {
	var out []peer.ID
	for _, m := range h.Members() {
		out = append(out, m.ID)
	}
	return out
}

// RoleOf returns a connected member's role, zero for any other peer.
func (h *Host) RoleOf(id peer.ID) admission.Role {
	m, _ := h.Member(id)
	return m.Role
}

// Tolerate lets a connected peer stay for d without a certificate: a machine
// that waits to be let in, or the member that it waits at.
func (h *Host) Tolerate(id peer.ID, d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if st := h.peers[id]; st != nil {
		st.tolerated = time.Now().Add(d)
	}
}

// ClosePeer ends all connections to a peer.
func (h *Host) ClosePeer(id peer.ID) error { return h.lib.Network().ClosePeer(id) }

const (
	sweepEvery   = time.Second
	recheckEvery = 30 * time.Second
)

// sweepLoop closes connections that stayed without a certificate, those of
// members whose certificate has ended or was revoked since, and those that the
// machine has moved away from.
func (h *Host) sweepLoop() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	last := time.Now()
	var m moves
	for {
		h.watchMoves(&m, time.Now())
		select {
		case <-h.ctx.Done():
			return
		case now := <-tick.C:
			for _, id := range h.overdue(now) {
				h.log.Debug("stranger disconnected", "peer", id.String())
				_ = h.ClosePeer(id)
			}
			if now.Sub(last) >= recheckEvery {
				last = now
				h.Recheck()
			}
		}
	}
}

func (h *Host) overdue(now time.Time) []peer.ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []peer.ID
	for id, st := range h.peers {
		if st.member == nil && now.Sub(st.since) > h.cfg.StrangerTime && now.After(st.tolerated) {
			out = append(out, id)
		}
	}
	return out
}

// Recheck verifies the certificates of all connected members again and
// disconnects those that fail. It runs by itself every half minute; call it
// when the authority has learned something.
func (h *Host) Recheck() {
	h.mu.Lock()
	shown := make(map[peer.ID][]byte)
	for id, st := range h.peers {
		if st.member != nil {
			shown[id] = st.credential
		}
	}
	h.mu.Unlock()
	for id, credential := range shown {
		if _, err := h.cfg.Authority.Verify(id, credential); err != nil {
			h.log.Warn("member disconnected", "peer", id.String(), "error", err)
			_ = h.ClosePeer(id)
		}
	}
}

// EventKind says what happened to a member.
type EventKind uint8

// Kinds of events.
const (
	Connected    EventKind = iota + 1 // a member's first connection was verified
	Disconnected                      // its last connection ended
	Moved                             // this machine has other addresses
	Woke                              // this machine was asleep: connections may be dead
)

// Event is a change of the set of connected members, or of this machine.
type Event struct {
	Kind   EventKind
	Member Member // of Connected and Disconnected
}

// Watch returns a channel of the events from now on, in order, none lost, and
// a function that ends it. The reader must keep up or memory grows with the
// number of events. Close of the host closes the channel.
func (h *Host) Watch() (<-chan Event, func()) { return h.events.Watch() }
