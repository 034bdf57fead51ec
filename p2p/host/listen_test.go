package host

import (
	"errors"
	"net"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

func TestListenAddressesShareOnePort(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "localhost:0", ":0", "0.0.0.0:0"} {
		addrs, err := listenAddrs(listen)
		if err != nil {
			t.Fatal(listen, err)
		}
		ports := map[string]bool{}
		for _, a := range addrs {
			code := ma.P_UDP
			if isTCP(a) {
				code = ma.P_TCP
			}
			port, err := a.ValueForProtocol(code)
			if err != nil {
				t.Fatal(err)
			}
			ports[port] = true
		}
		if len(ports) != 1 || ports["0"] || len(addrs) < 2 || len(addrs)%2 != 0 {
			t.Errorf("%s: %v", listen, addrs)
		}
	}
}

func TestAPortInUseIsNamedWithAWayOut(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, at := range []string{l.Addr().String(), u.LocalAddr().String()} {
		_, err := listenAddrs(at)
		if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), at) || !strings.Contains(err.Error(), "--listen") {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func TestBadListenAddressesAreExplained(t *testing.T) {
	for _, bad := range []string{"", "9338", "example.org:1", "127.0.0.1:70000", "127.0.0.1:x", "fe80::1%eth0:1", "[fe80::1%lo]:1", "192.0.2.250:1"} {
		if _, err := listenAddrs(bad); err == nil || !strings.Contains(err.Error(), "listen") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAddressesAreOrderedByUse(t *testing.T) {
	in := []string{
		"/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/127.0.0.1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip4/8.8.8.8/udp/1/quic-v1",
		"/ip4/8.8.8.8/tcp/1", "/ip4/192.168.0.2/udp/1/quic-v1", "/ip4/192.168.0.2/tcp/1",
	}
	var addrs []ma.Multiaddr
	for _, s := range in {
		addrs = append(addrs, ma.StringCast(s))
	}
	got := sortAddrs(addrs)
	for i, a := range got {
		if want := in[len(in)-1-i]; a.String() != want {
			t.Errorf("place %d is %s, want %s", i, a, want)
		}
	}
}

func TestTCPIsDialedFirst(t *testing.T) {
	quic, tcp := ma.StringCast("/ip4/192.168.0.2/udp/1/quic-v1"), ma.StringCast("/ip4/192.168.0.2/tcp/1")
	got := rankDials([]ma.Multiaddr{quic, tcp})
	if !got[0].Addr.Equal(tcp) || got[0].Delay != 0 || got[1].Delay != quicDelay {
		t.Errorf("ranked %v", got)
	}
	if got := rankDials([]ma.Multiaddr{quic}); got[0].Delay != 0 {
		t.Errorf("QUIC alone waits %v", got[0].Delay)
	}
}
