package host

import (
	"math"

	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
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
)

// newLimits builds libp2p's resource manager. Scopes that are not named are
// unlimited: services and protocols are bounded by their peers.
func newLimits() (network.ResourceManager, error) {
	peerLimits := rcmgr.ResourceLimits{
		Streams: maxPeerStreams, StreamsInbound: maxPeerStreams, StreamsOutbound: maxPeerStreams,
		Conns: maxPeerConns, ConnsInbound: maxPeerConns, ConnsOutbound: maxPeerConns,
		FD: maxPeerConns, Memory: maxPeerMemory,
	}
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Streams: maxStreams, StreamsInbound: maxStreams, StreamsOutbound: maxStreams,
			Conns: maxConns, ConnsInbound: maxConns, ConnsOutbound: maxConns,
			FD: maxConns, Memory: maxMemory,
		},
		Transient: rcmgr.ResourceLimits{
			Streams: maxNegotiating, StreamsInbound: maxNegotiating, StreamsOutbound: maxNegotiating,
			Conns: 2 * maxHandshakes, ConnsInbound: maxHandshakes, ConnsOutbound: 2 * maxHandshakes,
			FD: 2 * maxHandshakes, Memory: maxPeerMemory,
		},
		PeerDefault: peerLimits,
	}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(rcmgr.InfiniteLimits)),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: subnetPrefixLen4, ConnCount: maxSubnetConns}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: subnetPrefixLen6, ConnCount: maxSubnetConns}, {PrefixLength: 0, ConnCount: math.MaxInt}},
		))
}
