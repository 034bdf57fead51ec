package discovery

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const somePeer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"

func TestAnAnnouncementIsReadWithinBounds(t *testing.T) {
	good := "dnsaddr=/ip4/192.168.1.5/tcp/4710/p2p/" + somePeer
	got := parseBeacon([]string{
		good, "dnsaddr=/ip4/127.0.0.1/tcp/4710/p2p/" + somePeer, "dnsaddr=/dns4/example.org/tcp/1/p2p/" + somePeer, "dnsaddr=/nonsense", "other=1", "",
	})
	if len(got) != 1 || got[0].ID.String() != somePeer || len(got[0].Addrs) != 1 || got[0].Addrs[0].String() != "/ip4/192.168.1.5/tcp/4710" {
		t.Errorf("%+v", got)
	}
	if got := parseBeacon([]string{"dnsaddr=/ip4/192.168.1.5/tcp/4710"}); len(got) != 0 {
		t.Errorf("without a peer: %+v", got)
	}
	if got := parseBeacon(slices.Repeat([]string{good}, 100_000)); len(got) != 1 || len(got[0].Addrs) > 4*maxBeaconAddrs {
		t.Errorf("a flood: %d", len(got))
	}
}

func FuzzParseBeacon(f *testing.F) {
	f.Add("dnsaddr=/ip4/192.168.1.5/tcp/4710/p2p/" + somePeer + "\ndnsaddr=x")
	f.Fuzz(func(t *testing.T, text string) {
		for _, info := range parseBeacon(strings.Split(text, "\n")) {
			if len(info.Addrs) == 0 || info.ID == "" || slices.ContainsFunc(info.Addrs, manet.IsIPLoopback) {
				t.Fatalf("%+v", info)
			}
		}
	})
}

func TestAMemberIsFoundByAMachineWithoutAMesh(t *testing.T) {
	if !multicast() {
		t.Skip("not run: no network interface of this machine returns multicast")
	}
	a, _ := pair(t, "0.0.0.0:0")
	run(t, a, func(c *Config) { c.NoMDNS = false })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var mu sync.Mutex
	var found []ma.Multiaddr
	err := Nearby(ctx, "", func(info peer.AddrInfo) {
		mu.Lock()
		defer mu.Unlock()
		if info.ID == a.ID() {
			found = append(found, info.Addrs...)
			cancel()
		}
	})
	if err != nil || len(found) == 0 {
		t.Errorf("found %v, %v", found, err)
	}
}
