package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	libhost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/internal/feed"
)

// Authority says who belongs to the mesh; *admission.Mesh is one.
type Authority interface {
	// ID names the mesh, zero while this node belongs to none.
	ID() admission.ID
	// Credential is what this node shows to others, nil while it has none.
	Credential() []byte
	// Verify checks what another node shows.
	Verify(remote peer.ID, credential []byte) (admission.Member, error)
	// Revocations, with a digest, are what this node knows of members that
	// are none any more; TakeRevocations learns from others.
	Revocations() [][]byte
	RevocationDigest() []byte
	TakeRevocations([][]byte) (changed bool, err error)
}

// Config makes a Host.
type Config struct {
	// Key is the node's Ed25519 identity, see LoadIdentity.
	Key crypto.PrivKey
	// Authority decides on membership.
	Authority Authority
	// Listen is "HOST:PORT": an IP address of this machine, localhost, or
	// empty for all; port 0 takes any free one. TCP and QUIC share it.
	Listen string
	// NoQUIC leaves QUIC out; NoTCP leaves TCP out (tests of reachability).
	NoQUIC, NoTCP bool
	// NoRelay neither serves members as a relay nor looks for any.
	NoRelay bool
	// Wire, Contract and Software are told to other members.
	Wire, Contract uint32
	Software       string
	// StrangerTime is how long a connection may stay without a certificate,
	// MaxStrangers how many may at once. Defaults 20 s and 64.
	StrangerTime time.Duration
	MaxStrangers int
	// Logger may be nil.
	Logger *slog.Logger
	// Now is the clock that certificates are held against; nil means time.Now.
	Now func() time.Time
}

func (c *Config) fill() error {
	if c.Key == nil {
		return errors.New("start host: an identity key is needed")
	}
	if c.Authority == nil {
		return errors.New("start host: an authority is needed")
	}
	if c.NoQUIC && c.NoTCP {
		return errors.New("start host: no transport is left")
	}
	if c.StrangerTime <= 0 {
		c.StrangerTime = 20 * time.Second
	}
	if c.MaxStrangers <= 0 {
		c.MaxStrangers = 64
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Host is a listening node. All methods are safe for use by several
// goroutines.
type Host struct {
	cfg  Config
	log  *slog.Logger
	lib  libhost.Host
	self peer.ID

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	helloS chan struct{} // a slot for each hello that is being answered

	events *feed.Feed[Event]

	relaying *relaying // nil with NoRelay
	outside  outside
	known    known

	mu       sync.Mutex // guards all below
	closed   bool
	peers    map[peer.ID]*peerState
	failures map[peer.ID]failure // of recent hellos; bounded
	relays   func(peer.ID) []peer.ID
}

// New starts a host. The context bounds the start only; Close ends the host.
func New(ctx context.Context, cfg Config) (*Host, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	self, err := peer.IDFromPrivateKey(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("start host: %w", err)
	}
	addrs, err := listenAddrs(cfg.Listen)
	if err != nil {
		return nil, err
	}
	addrs = slices.DeleteFunc(addrs, func(a ma.Multiaddr) bool {
		return cfg.NoTCP && isTCP(a) || cfg.NoQUIC && !isTCP(a)
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h := &Host{
		cfg: cfg, log: cfg.Logger, self: self,
		helloS: make(chan struct{}, maxHellos),
		events: feed.New[Event](),
		peers:  make(map[peer.ID]*peerState), failures: make(map[peer.ID]failure),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if h.lib, err = newLibp2p(h, addrs); err != nil {
		h.cancel()
		return nil, err
	}
	h.lib.Network().Notify((*notifiee)(h))
	h.HandleStranger(helloProtocol, h.serveHello)
	if err := h.lib.Network().Listen(addrs...); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", cfg.Listen, err), h.Close())
	}
	if got := len(slices.DeleteFunc(h.lib.Network().ListenAddresses(), relayed)); got < len(addrs) {
		return nil, errors.Join(fmt.Errorf("listen on %s: only %d of %d addresses could be bound: %w; choose another with --listen HOST:PORT",
			cfg.Listen, got, len(addrs), ErrPortInUse), h.Close())
	}
	h.wg.Go(h.sweepLoop)
	if !cfg.NoRelay {
		if h.relaying, err = h.startRelaying(h.lib); err != nil {
			return nil, errors.Join(err, h.Close())
		}
		h.Handle(seenProtocol, h.serveSeen)
		h.wg.Go(h.relayLoop)
	}
	return h, nil
}

// newLibp2p makes the libp2p host, which does not listen yet: nothing may
// come in before the handlers stand.
func newLibp2p(h *Host, addrs []ma.Multiaddr) (libhost.Host, error) {
	limits, err := newLimits()
	if err != nil {
		return nil, fmt.Errorf("start host: %w", err)
	}
	h.known.list = rcmgr.GetAllowlist(limits)
	opts := []libp2p.Option{
		libp2p.Identity(h.cfg.Key),
		libp2p.NoListenAddrs,
		libp2p.Security(libp2ptls.ID, newTLS),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.EnableRelay(),
		libp2p.DisableMetrics(),
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.ResourceManager(limits),
		libp2p.ConnectionManager(connmgr.NullConnMgr{}),
		libp2p.ConnectionGater((*gate)(h)),
		libp2p.SwarmOpts(swarm.WithDialRanker(rankDials), swarm.WithDialTimeoutLocal(nearTimeout)),
		libp2p.Ping(false),
		libp2p.UserAgent("weft"),
	}
	var r refusals
	if !h.cfg.NoTCP {
		opts = append(opts, libp2p.Transport(r.tcp))
	}
	if !h.cfg.NoQUIC {
		opts = append(opts, libp2p.Transport(r.quic))
	}
	lib, err := libp2p.New(opts...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start host: %w", err), limits.Close())
	}
	return lib, nil
}

// ID returns the node's peer id.
func (h *Host) ID() peer.ID { return h.self }

// Self returns this node's own membership as others see it.
func (h *Host) Self() (admission.Member, error) {
	c := h.cfg.Authority.Credential()
	if c == nil {
		return admission.Member{}, admission.ErrNoMesh
	}
	return h.cfg.Authority.Verify(h.self, c)
}

// DialAddrs returns the addresses under which others can dial this node,
// without its peer id, best first. Loopback addresses are in it only when
// there are no others: then the mesh lives on one machine.
func (h *Host) DialAddrs() []ma.Multiaddr {
	// libp2p would answer from what it knew a minute ago.
	now, err := manet.ResolveUnspecifiedAddresses(slices.DeleteFunc(h.lib.Network().ListenAddresses(), relayed), nil)
	if err != nil {
		return nil // not listening, or without any address
	}
	all := sortAddrs(now)
	outer := slices.DeleteFunc(slices.Clone(all), manet.IsIPLoopback)
	if len(outer) == 0 {
		return all
	}
	return outer
}

// Addrs is DialAddrs with the peer id at the end of each address.
func (h *Host) Addrs() []ma.Multiaddr {
	info := peer.AddrInfo{ID: h.self, Addrs: h.DialAddrs()}
	full, err := peer.AddrInfoToP2pAddrs(&info)
	if err != nil {
		return nil // cannot happen: the id is valid
	}
	return full
}

// SetAddrs notes addresses of a peer for later dials, for a while, instead of
// those that were noted with the same time before: a peer that moves all the
// time keeps no more of them than its last. As the peer may be a member, room
// for its connections is kept when strangers take all.
func (h *Host) SetAddrs(id peer.ID, addrs []ma.Multiaddr, ttl time.Duration) {
	h.lib.Peerstore().UpdateAddrs(id, ttl, 0)
	h.lib.Peerstore().AddAddrs(id, addrs, ttl)
	for _, a := range addrs {
		h.known.add(a)
	}
}

// KnownAddrs returns the addresses that are noted for a peer.
func (h *Host) KnownAddrs(id peer.ID) []ma.Multiaddr { return h.lib.Peerstore().Addrs(id) }

// Handle serves a protocol to members. The handler owns the stream and must
// return when it is reset. A stranger's stream is reset before any byte of
// the protocol is read.
func (h *Host) Handle(id protocol.ID, handler network.StreamHandler) {
	h.lib.SetStreamHandler(id, func(s network.Stream) {
		if !h.enter() {
			_ = s.Reset()
			return
		}
		defer h.wg.Done()
		if !h.admits(s.Conn().RemotePeer()) {
			h.log.Warn("stream of a stranger refused", "protocol", string(id), "peer", s.Conn().RemotePeer().String())
			_ = s.ResetWithError(network.StreamGated)
			return
		}
		handler(s)
	})
}

// Protocols are those that are served, to members or to anybody.
func (h *Host) Protocols() []protocol.ID { return h.lib.Mux().Protocols() }

// HandleStranger serves a protocol to anybody. The handler must bound all.
func (h *Host) HandleStranger(id protocol.ID, handler network.StreamHandler) {
	h.lib.SetStreamHandler(id, func(s network.Stream) {
		if !h.enter() {
			_ = s.Reset()
			return
		}
		defer h.wg.Done()
		handler(s)
	})
}

// RemoveHandler ends the serving of a protocol; running handlers go on.
func (h *Host) RemoveHandler(id protocol.ID) { h.lib.RemoveStreamHandler(id) }

// enter counts a goroutine in, unless the host is closed.
func (h *Host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wg.Add(1)
	return true
}

// Close ends all connections and waits for all handlers and goroutines.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	err := errors.Join(h.relaying.close(), h.lib.Close())
	h.wg.Wait()
	h.events.Close()
	return err
}
