package host

import (
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
)

// Bounds for all peers together and for each. A mesh of 100 members with a
// dozen sessions each stays well below; a flood ends here.
const (
	maxConns         = 1024
	maxHandshakes    = 64
	maxStreams       = 16384
	maxNegotiating   = 512
	maxPeerConns     = 8
	maxPeerStreams   = 1024
	maxMemory        = 2 << 30 // bytes that libp2p may buffer
	maxPeerMemory    = 512 << 20
	maxSubnetConns   = 64
	subnetPrefixLen4 = 32
	subnetPrefixLen6 = 56

	// How often connections to and from one address may begin, loopback excepted:
	// a fifth of one a second, as libp2p has it, is what a minute of attempts at a
	// lost member uses up, and members behind one router share an address. This
	// keeps handshakes below a few hundredths of a core.
	addressRate  = 20
	addressBurst = 512
)

// newLimits builds libp2p's resource manager. Scopes that are not named are
// unlimited: services and protocols are bounded by their peers.
func newLimits() (network.ResourceManager, error) {
	peerLimits := rcmgr.ResourceLimits{
		Streams: maxPeerStreams, StreamsInbound: maxPeerStreams, StreamsOutbound: maxPeerStreams,
		Conns: maxPeerConns, ConnsInbound: maxPeerConns, ConnsOutbound: maxPeerConns,
		FD: maxPeerConns, Memory: maxPeerMemory,
	}
	system := rcmgr.ResourceLimits{
		Streams: maxStreams, StreamsInbound: maxStreams, StreamsOutbound: maxStreams,
		Conns: maxConns, ConnsInbound: maxConns, ConnsOutbound: maxConns,
		FD: maxConns, Memory: maxMemory,
	}
	transient := rcmgr.ResourceLimits{
		Streams: maxNegotiating, StreamsInbound: maxNegotiating, StreamsOutbound: maxNegotiating,
		Conns: 2 * maxHandshakes, ConnsInbound: maxHandshakes, ConnsOutbound: 2 * maxHandshakes,
		FD: 2 * maxHandshakes, Memory: maxPeerMemory,
	}
	limits := rcmgr.PartialLimitConfig{
		System: system, AllowlistedSystem: system,
		// When strangers have taken all handshakes, those from addresses of
		// members have as many again.
		Transient: transient, AllowlistedTransient: transient,
		PeerDefault: peerLimits,
	}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(rcmgr.InfiniteLimits)),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::1/128")}},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: subnetPrefixLen4, Limit: rate.Limit{RPS: addressRate, Burst: addressBurst}}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: subnetPrefixLen6, Limit: rate.Limit{RPS: addressRate, Burst: addressBurst}}},
				GracePeriod:      time.Minute,
			},
		}),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: subnetPrefixLen4, ConnCount: maxSubnetConns}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: subnetPrefixLen6, ConnCount: maxSubnetConns}, {PrefixLength: 0, ConnCount: math.MaxInt}},
		))
}

// maxKnown bounds the addresses of members that are kept.
const maxKnown = 1024

// known are the addresses of members, for which room is kept.
type known struct {
	list *rcmgr.Allowlist

	mu    sync.Mutex // guards addrs
	addrs map[netip.Addr]bool
}

// add keeps room for connections from an address. When there are too many, the
// later ones have none: no list of a member can push others out.
func (k *known) add(a ma.Multiaddr) {
	ip, ok := addrOf(a)
	if !ok || relayed(a) || k.list == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.addrs[ip] || len(k.addrs) >= maxKnown {
		return
	}
	family := "/ip6/"
	if ip.Is4() {
		family = "/ip4/"
	}
	whole, err := ma.NewMultiaddr(family + ip.WithZone("").String())
	if err != nil || k.list.Add(whole) != nil {
		return
	}
	if k.addrs == nil {
		k.addrs = make(map[netip.Addr]bool)
	}
	k.addrs[ip] = true
}
