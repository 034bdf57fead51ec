package discovery

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestAnnouncementsAreCountedOnce(t *testing.T) {
	const a, b = "12D3KooWKS6KKXht8pYkAq3LEyjRx1o5xxBZ4PvXnGosQEfsbGsC", "12D3KooWBwbXkzeA8sZ5VvrtJWu1Dg3WkHfKjgpPXgwyYBRtF7tE"
	self, err := peer.Decode(a)
	if err != nil {
		t.Fatal(err)
	}
	s := sightings{self: self, seen: map[string]bool{}}
	s.take([]string{"dnsaddr=/ip4/10.0.0.1/tcp/4710/p2p/" + a, "dnsaddr=/ip4/10.0.0.1/udp/4710/quic-v1/p2p/" + a})
	s.take([]string{"dnsaddr=/ip4/10.0.0.2/tcp/4710/p2p/" + b, "nonsense", "/p2p/", "/p2p/evil", ""})
	s.take([]string{"dnsaddr=/ip4/10.0.0.2/tcp/4710/p2p/" + b})
	if !s.Self || s.Others != 1 || len(s.seen) != 2 {
		t.Errorf("%+v", s)
	}
}
