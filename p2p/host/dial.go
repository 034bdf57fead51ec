package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
)

// Dial connects to a peer, or finds it connected, without asking for its
// membership. An earlier failure does not delay it.
func (h *Host) Dial(ctx context.Context, to peer.AddrInfo) error {
	if to.ID == h.self {
		return errors.New("connect: the peer is this node itself")
	}
	if sw, ok := h.lib.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(to.ID)
	}
	if err := h.lib.Connect(ctx, to); err != nil {
		return fmt.Errorf("connect to %s: %w", to.ID, err)
	}
	return nil
}

// Connect connects to a member: it returns nil once both sides have accepted
// each other's certificates on some connection.
func (h *Host) Connect(ctx context.Context, to peer.AddrInfo) error {
	start := time.Now()
	if err := h.Dial(ctx, to); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*helloTimeout)
	defer cancel()
	if err := h.awaitMember(ctx, to.ID, start); err != nil {
		return fmt.Errorf("connect to %s: %w", to.ID, err)
	}
	return nil
}

// awaitMember blocks until a connected peer is a member, beginning a hello
// where none is under way. A failure since start counts as the answer.
func (h *Host) awaitMember(ctx context.Context, id peer.ID, start time.Time) error {
	conns := h.lib.Network().ConnsToPeer(id)
	h.mu.Lock()
	st := h.peers[id]
	switch {
	case st == nil || len(conns) == 0:
		err := h.gone(id, start)
		h.mu.Unlock()
		return err
	case st.member == nil && st.hellos == 0:
		h.startHello(st, best(conns))
	}
	for st.member == nil && st.hellos > 0 {
		changed := st.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-h.ctx.Done():
			return h.ctx.Err()
		}
		h.mu.Lock()
	}
	defer h.mu.Unlock()
	switch {
	case st.member != nil:
		return nil
	case st.err != nil:
		return st.err
	}
	return h.gone(id, start)
}

// OpenStream opens a stream to a member, connecting first where needed, through
// others if need be (SetRelays), over TCP where there is a choice. It returns after the other side has agreed to
// the protocol, so a stream that is returned works in both directions. The
// caller closes or resets it.
func (h *Host) OpenStream(ctx context.Context, to peer.ID, id protocol.ID) (network.Stream, error) {
	// A connection may have ended a moment ago, and be counted still.
	if _, ok := h.Member(to); !ok || len(h.lib.Network().ConnsToPeer(to)) == 0 {
		if err := h.ConnectVia(ctx, peer.AddrInfo{ID: to}, h.relaysTo(to)); err != nil {
			return nil, fmt.Errorf("open %s: %w", id, err)
		}
	}
	return h.OpenStranger(ctx, to, id)
}

// OpenStranger opens a stream to a connected peer that need not be a member.
// It serves the joining, before which there is no membership.
func (h *Host) OpenStranger(ctx context.Context, to peer.ID, id protocol.ID) (network.Stream, error) {
	conns := h.lib.Network().ConnsToPeer(to)
	if len(conns) == 0 {
		return nil, fmt.Errorf("open %s to %s: %w", id, to, network.ErrNoConn)
	}
	s, err := openOn(ctx, best(conns), id)
	if err != nil {
		return nil, fmt.Errorf("open %s to %s: %w", id, to, err)
	}
	return s, nil
}

// best prefers TCP to QUIC and both to a relay, then the youngest connection:
// an old one may be stale.
func best(conns []network.Conn) network.Conn {
	return slices.MaxFunc(conns, func(a, b network.Conn) int {
		if d := connRank(a.RemoteMultiaddr()) - connRank(b.RemoteMultiaddr()); d != 0 {
			return d
		}
		return a.Stat().Opened.Compare(b.Stat().Opened)
	})
}

func connRank(a ma.Multiaddr) int {
	switch {
	case relayed(a):
		return 0
	case isTCP(a):
		return 2
	}
	return 1
}

// openOn opens a stream on one connection and waits for the other side to
// take the protocol. libp2p's own way returns at once, and a stream on a
// stale connection then hangs at its first use.
func openOn(ctx context.Context, c network.Conn, id protocol.ID) (network.Stream, error) {
	s, err := c.NewStream(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // the muxer has a word of its own for it
		}
		return nil, err
	}
	if err := s.SetProtocol(id); err != nil {
		_ = s.ResetWithError(network.StreamResourceLimitExceeded)
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	err = multistream.SelectProtoOrFail(id, s)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = s.ResetWithError(network.StreamProtocolNegotiationFailed)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return s, nil
}
