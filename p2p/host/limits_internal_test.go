package host

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// TestAttemptsAtALostMemberDoNotUseUpItsAddress makes as many as two minutes of a
// cut link take, over both transports, and those of a home's other machines, which
// come from the same address. A flood ends somewhere all the same.
func TestAttemptsAtALostMemberDoNotUseUpItsAddress(t *testing.T) {
	limits, err := newLimits()
	if err != nil {
		t.Fatal(err)
	}
	defer limits.Close()
	attempt := func(addr string) error {
		c, err := limits.OpenConnection(network.DirOutbound, true, ma.StringCast(addr))
		if err == nil {
			c.Done()
		}
		return err
	}
	for i := range 2 * 2 * 120 {
		if err := attempt("/ip4/192.0.2.7/tcp/4710"); err != nil {
			t.Fatalf("attempt %d: %v", i, err)
		}
		if err := attempt("/ip6/2001:db8::7/tcp/4710"); err != nil {
			t.Fatalf("attempt %d over IPv6: %v", i, err)
		}
	}
	refused := 0
	for range 10_000 {
		if attempt("/ip4/192.0.2.8/tcp/4710") != nil {
			refused++
		}
		if err := attempt("/ip4/127.0.0.1/tcp/4710"); err != nil {
			t.Fatal(err)
		}
	}
	if refused < 5_000 {
		t.Errorf("of 10,000 connections at once %d were refused", refused)
	}
}
