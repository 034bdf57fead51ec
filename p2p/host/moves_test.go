package host

import (
	"net/netip"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

func TestOtherAddressesAndSleepAreNoticed(t *testing.T) {
	var m moves
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	home, cafe := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("192.168.7.9")
	loop := netip.MustParseAddr("127.0.0.1")
	for _, step := range []struct {
		what        string
		after       time.Duration
		addrs       []netip.Addr
		moved, woke bool
	}{
		{"at first", 0, []netip.Addr{home, loop}, false, false},
		{"another order", time.Second, []netip.Addr{loop, home}, false, false},
		{"a busy machine", 5 * time.Second, []netip.Addr{loop, home}, false, false},
		{"a nap", time.Minute, []netip.Addr{loop, home}, false, true},
		{"another network", time.Second, []netip.Addr{loop, cafe}, true, false},
		{"home again, asleep on the way", time.Hour, []netip.Addr{loop, home}, true, true},
		{"a clock set back", -time.Hour, []netip.Addr{loop, home}, false, false},
		{"no network", time.Second, nil, true, false},
	} {
		now = now.Add(step.after)
		if moved, woke := m.look(now, step.addrs); moved != step.moved || woke != step.woke {
			t.Errorf("%s: moved %v, woke %v", step.what, moved, woke)
		}
	}
	m.look(now, []netip.Addr{loop, home})
	for addr, want := range map[string]bool{
		"/ip4/10.0.0.2/tcp/1": true, "/ip4/192.168.7.9/tcp/1": false, "/ip4/0.0.0.0/udp/1/quic-v1": true,
		"/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp/p2p-circuit": true,
	} {
		if m.has(ma.StringCast(addr)) != want {
			t.Errorf("%s: not %v", addr, want)
		}
	}
}
