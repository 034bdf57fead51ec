package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// refusals remembers where TCP was refused a moment ago. A node listens with
// both transports on one port, so nobody is there for QUIC either; QUIC itself
// would find that out after five seconds.
type refusals struct {
	mu sync.Mutex // guards at
	at map[netip.AddrPort]time.Time
}

const (
	refusalLife = 2 * time.Second
	maxRefusals = 256
)

var errTCPRefused = errors.New("nobody listens there: TCP was refused at the same port")

func endpoint(a ma.Multiaddr) (netip.AddrPort, bool) {
	n, err := manet.ToNetAddr(a)
	if err != nil || relayed(a) {
		return netip.AddrPort{}, false
	}
	at, err := netip.ParseAddrPort(n.String())
	return at, err == nil
}

// note takes the outcome of a dial by TCP.
func (r *refusals) note(a ma.Multiaddr, err error) {
	at, ok := endpoint(a)
	if !ok || err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.at, at)
		return
	}
	if r.at == nil || len(r.at) >= maxRefusals {
		r.at = make(map[netip.AddrPort]time.Time)
	}
	r.at[at] = time.Now()
}

// refused says whether a dial by QUIC is in vain.
func (r *refusals) refused(a ma.Multiaddr) bool {
	at, ok := endpoint(quicBase(a))
	if !ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.at[at]) < refusalLife
}

// quicBase is the UDP address under one of QUIC.
func quicBase(a ma.Multiaddr) ma.Multiaddr {
	base, _ := ma.SplitFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_QUIC_V1 })
	return base
}

// tcpDialer is libp2p's TCP; refusals are noted.
type tcpDialer struct {
	*tcp.TcpTransport
	r *refusals
}

func (r *refusals) tcp(up transport.Upgrader, limits network.ResourceManager, shared *tcpreuse.ConnMgr) (*tcpDialer, error) {
	// Sharing a port with another process would split its connections.
	t, err := tcp.NewTCPTransport(up, limits, shared, tcp.DisableReuseport())
	return &tcpDialer{t, r}, err
}

func (t *tcpDialer) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	c, err := t.TcpTransport.Dial(ctx, a, p)
	t.r.note(a, err)
	return c, err
}

func (t *tcpDialer) DialWithUpdates(ctx context.Context, a ma.Multiaddr, p peer.ID, updates chan<- transport.DialUpdate) (transport.CapableConn, error) {
	c, err := t.TcpTransport.DialWithUpdates(ctx, a, p, updates)
	t.r.note(a, err)
	return c, err
}

// quicDialer is libp2p's QUIC; what TCP was refused is not tried.
type quicDialer struct {
	transport.Transport
	r *refusals
}

func (r *refusals) quic(key crypto.PrivKey, reuse *quicreuse.ConnManager, psk pnet.PSK, gater connmgr.ConnectionGater, limits network.ResourceManager) (*quicDialer, error) {
	t, err := libp2pquic.NewTransport(key, reuse, psk, gater, limits)
	return &quicDialer{t, r}, err
}

func (t *quicDialer) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	if t.r.refused(a) {
		return nil, fmt.Errorf("dial %s: %w", a, errTCPRefused)
	}
	return t.Transport.Dial(ctx, a, p)
}

// ListenOrder keeps what libp2p asks of its own transport.
func (t *quicDialer) ListenOrder() int {
	if o, ok := t.Transport.(interface{ ListenOrder() int }); ok {
		return o.ListenOrder()
	}
	return 0
}

func (t *quicDialer) Close() error {
	if c, ok := t.Transport.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}
