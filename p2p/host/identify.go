package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multistream"
)

const identifyTimeout = 5 * time.Second

// Resolve turns an address as people write it into one that can be dialed:
// a multiaddr that ends in a peer id as it is, HOST:PORT by asking the node
// that listens there over TCP who it is. Whether that is the node that was
// meant is for the caller to find out; the connection that is made later is
// bound to the id.
func (h *Host) Resolve(ctx context.Context, addr string) (peer.AddrInfo, error) {
	if strings.HasPrefix(addr, "/") {
		m, err := ma.NewMultiaddr(addr)
		if err != nil {
			return peer.AddrInfo{}, fmt.Errorf("address %s: %w", addr, err)
		}
		info, err := peer.AddrInfoFromP2pAddr(m)
		if err != nil {
			return peer.AddrInfo{}, fmt.Errorf("address %s: %w: it must end in /p2p/PEER; HOST:PORT is good too", addr, err)
		}
		return *info, nil
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return peer.AddrInfo{}, fmt.Errorf("address %s: %w: write HOST:PORT", addr, err)
	}
	ctx, cancel := context.WithTimeout(ctx, identifyTimeout)
	defer cancel()
	info, err := h.identify(ctx, addr)
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("no weft answers at %s: %w", addr, err)
	}
	return info, nil
}

// identify makes one handshake to learn a node's id.
func (h *Host) identify(ctx context.Context, addr string) (peer.AddrInfo, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return peer.AddrInfo{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := multistream.SelectProtoOrFail(libp2ptls.ID, c); err != nil {
		return peer.AddrInfo{}, err
	}
	t, err := libp2ptls.New(libp2ptls.ID, h.cfg.Key, nil)
	if err != nil {
		return peer.AddrInfo{}, err
	}
	s, err := t.SecureOutbound(ctx, c, "") // no id: anybody's is good
	if err != nil {
		return peer.AddrInfo{}, err
	}
	if s.RemotePeer() == h.self {
		return peer.AddrInfo{}, errors.New("it is this node itself")
	}
	at, err := manet.FromNetAddr(c.RemoteAddr())
	if err != nil {
		return peer.AddrInfo{}, err
	}
	return peer.AddrInfo{ID: s.RemotePeer(), Addrs: []ma.Multiaddr{at}}, nil
}
