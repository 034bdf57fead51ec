package discovery

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	libhost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/zeroconf/v2"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Members of every mesh are announced under this service too, so that a
// machine without a mesh finds whom to ask. It says neither which mesh nor
// what it is called: that is learned over an encrypted connection.
const (
	nearbyService = "_weft._udp"
	nearbyDomain  = "local"
	addrPrefix    = "dnsaddr="
	// mDNS packets should fit one frame; these are the first addresses.
	maxBeaconAddrs = 8
)

// Nearby looks for members of any mesh on the local network until ctx ends
// and names them to found, one after another and some of them again and
// again. Anybody on the network can say anything there. An error means that
// this machine cannot look.
func Nearby(ctx context.Context, self peer.ID, found func(peer.AddrInfo)) error {
	entries := make(chan *zeroconf.ServiceEntry, 64)
	browsed := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case e, ok := <-entries:
				if !ok {
					return
				}
				for _, info := range parseBeacon(e.Text) {
					if info.ID != self {
						found(info)
					}
				}
			case <-browsed:
				return
			}
		}
	})
	err := zeroconf.Browse(ctx, nearbyService, nearbyDomain, entries)
	close(browsed)
	wg.Wait()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("look for meshes on the local network: %w", err)
	}
	return nil
}

// parseBeacon reads the addresses of an announcement.
func parseBeacon(texts []string) []peer.AddrInfo {
	var addrs []ma.Multiaddr
	for _, t := range texts[:min(len(texts), 4*maxBeaconAddrs)] {
		text, ok := strings.CutPrefix(t, addrPrefix)
		if !ok {
			continue
		}
		a, err := ma.NewMultiaddr(text)
		if err != nil || !isDirect(a) || manet.IsIPLoopback(a) {
			continue
		}
		addrs = append(addrs, a)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(infos, func(i peer.AddrInfo) bool { return len(i.Addrs) == 0 })
}

// announceNearby begins to answer those who look for any mesh.
func announceNearby(view libhost.Host) (*zeroconf.Server, error) {
	addrs, err := view.Network().InterfaceListenAddresses()
	if err != nil {
		return nil, err
	}
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a ma.Multiaddr) bool { return !isDirect(a) })
	full, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: view.ID(), Addrs: addrs[:min(len(addrs), maxBeaconAddrs)]})
	if err != nil {
		return nil, err
	}
	var texts, ips []string
	for _, a := range full {
		texts = append(texts, addrPrefix+a.String())
		ip, err := manet.ToIP(a)
		if err != nil {
			continue
		}
		if addr, ok := netip.AddrFromSlice(ip); ok && !slices.Contains(ips, addr.Unmap().String()) {
			ips = append(ips, addr.Unmap().String())
		}
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("no address to announce")
	}
	name := strings.ToLower(rand.Text()) // tells nothing about the machine
	return zeroconf.RegisterProxy(name, nearbyService, nearbyDomain, 4001, name, ips[:1], texts, nil)
}
