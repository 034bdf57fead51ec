package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
)

// Behind a router that translates addresses a node does not know under which it
// can be reached. A member outside sees it: the node asks over QUIC, which it
// dials from the port on which it listens, so that the router's port for that is
// the one through which others come in.

const (
	seenProtocol protocol.ID = "/weft/seen/1"

	seenTimeout = 3 * time.Second
	maxSeen     = 128 // bytes of an address
	// A router keeps an idle port for half a minute and more.
	seenLife = 20 * time.Second
)

// outside is where others see this node.
type outside struct {
	mu   sync.Mutex // guards all below
	addr ma.Multiaddr
	at   time.Time
}

// get returns the address, nil when there is none that is fresh.
func (o *outside) get(now time.Time) ma.Multiaddr {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.at) > seenLife {
		return nil
	}
	return o.addr
}

func (o *outside) set(a ma.Multiaddr, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.addr, o.at = a, now
}

// serveSeen tells a member where it is seen: the address's bytes, to the end.
func (h *Host) serveSeen(s network.Stream) {
	_ = s.SetDeadline(time.Now().Add(seenTimeout))
	if _, err := s.Write(s.Conn().RemoteMultiaddr().Bytes()); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// lookOutside finds out where others see this node, unless that is known. It
// asks the members that are reached directly until one answers.
func (h *Host) lookOutside(ctx context.Context) {
	if h.cfg.NoQUIC || h.outside.get(time.Now()) != nil {
		return
	}
	for _, m := range h.Members() {
		if h.Relayed(m.ID) {
			continue
		}
		for _, a := range h.lib.Peerstore().Addrs(m.ID) {
			if isTCP(a) || relayed(a) {
				continue
			}
			seen, err := h.askSeen(ctx, m, a)
			if err == nil {
				h.outside.set(seen, time.Now())
				return
			}
			h.log.Debug("not told where others see this node", "peer", m.ID.String(), "error", err)
		}
	}
}

// askSeen asks over a connection of its own, which no other stream takes.
func (h *Host) askSeen(ctx context.Context, m Member, at ma.Multiaddr) (ma.Multiaddr, error) {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	sw, ok := h.lib.Network().(*swarm.Swarm)
	if !ok {
		return nil, errors.New("no swarm")
	}
	t := sw.TransportForDialing(at)
	if t == nil {
		return nil, fmt.Errorf("no transport for %s", at)
	}
	c, err := t.Dial(ctx, at, m.ID)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	s, err := c.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Reset() }()
	if d, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(d)
	}
	if err := multistream.SelectProtoOrFail(seenProtocol, s); err != nil {
		return nil, err
	}
	return readSeen(s)
}

// readSeen reads the address of a QUIC port.
func readSeen(r io.Reader) (ma.Multiaddr, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSeen+1))
	if err != nil {
		return nil, fmt.Errorf("read the address: %w", err)
	}
	if len(b) > maxSeen {
		return nil, fmt.Errorf("an address of more than %d bytes", maxSeen)
	}
	a, err := ma.NewMultiaddrBytes(b)
	if err != nil {
		return nil, fmt.Errorf("read the address: %w", err)
	}
	at, ok := endpoint(quicBase(a))
	if !ok || len(a) != 3 || a[2].Protocol().Code != ma.P_QUIC_V1 || at.Port() == 0 || at.Addr().IsUnspecified() || at.Addr().IsMulticast() {
		return nil, fmt.Errorf("%s is no address of QUIC", a)
	}
	return a, nil
}
