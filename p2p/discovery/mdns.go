package discovery

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/zeroconf/v2"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/weft-mesh/weft/p2p/admission"
)

// addressCheck is how often a change of this machine's addresses is looked
// for; mDNS announces the ones it was started with.
const addressCheck = 2 * time.Second

// ServiceName returns the DNS-SD service of a mesh. A service name has at
// most 15 characters; two meshes that share it only refuse each other.
func ServiceName(mesh admission.ID) string {
	return "_weft-" + mesh.Label()[:10] + "._udp"
}

// announce keeps mDNS running with the machine's present addresses.
func (d *Discovery) announce() {
	tick := time.NewTicker(addressCheck)
	defer tick.Stop()
	var service mdns.Service
	var announced []ma.Multiaddr
	defer func() { stopMDNS(service) }()
	for {
		addrs := d.host.DialAddrs()
		if !slices.EqualFunc(addrs, announced, func(a, b ma.Multiaddr) bool { return a.Equal(b) }) {
			stopMDNS(service)
			service, announced = d.startMDNS(), addrs
		}
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *Discovery) startMDNS() mdns.Service {
	view, ok := d.host.Announcer()
	if !ok {
		d.log.Info("not announced on the local network: listening on loopback only")
		return nil
	}
	s := mdns.NewMdnsService(view, ServiceName(d.cfg.Mesh), (*finder)(d))
	if err := s.Start(); err != nil {
		d.log.Warn("not announced on the local network", "error", err)
		stopMDNS(s)
		return nil
	}
	beacon, err := announceNearby(view)
	if err != nil {
		d.log.Warn("not announced to machines that look for a mesh", "error", err)
		return s
	}
	return announced{s, beacon}
}

// announced is both of a member's announcements: to its mesh and to those
// that look for one.
type announced struct {
	mdns.Service
	beacon *zeroconf.Server
}

func (a announced) Close() error {
	a.beacon.Shutdown()
	return a.Service.Close()
}

func stopMDNS(s mdns.Service) {
	if s != nil {
		_ = s.Close() // returns nil always; it waits for its goroutines
	}
}

// finder takes what mDNS finds. Anybody on the network can say anything
// there: addresses are filtered and candidates bounded.
type finder Discovery

func (f *finder) HandlePeerFound(info peer.AddrInfo) {
	info.Addrs = slices.DeleteFunc(slices.Clone(info.Addrs), func(a ma.Multiaddr) bool {
		return manet.IsIPLoopback(a) || !isDirect(a)
	})
	(*Discovery)(f).add(info, false)
}

// isDirect says that an address is a node's own: an IP address, and not that of
// another node which leads there.
func isDirect(a ma.Multiaddr) bool {
	_, err := manet.ToIP(a)
	_, relayed := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil && relayed != nil
}
