package host_test

import (
	"net"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func TestANodeIsFoundByHostAndPort(t *testing.T) {
	a, b := founder(t), start(t)
	port, err := a.DialAddrs()[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	info, err := b.Resolve(ctx5(t), "127.0.0.1:"+port)
	if err != nil || info.ID != a.ID() {
		t.Fatalf("%+v, %v", info, err)
	}
	if err := b.Dial(ctx5(t), info); err != nil {
		t.Error(err)
	}
	full := a.Addrs()[0].String()
	if info, err = b.Resolve(ctx5(t), full); err != nil || info.ID != a.ID() || len(info.Addrs) != 1 {
		t.Errorf("%s: %+v, %v", full, info, err)
	}
	if _, err := a.Resolve(ctx5(t), "127.0.0.1:"+port); err == nil || !strings.Contains(err.Error(), "itself") {
		t.Errorf("itself: %v", err)
	}
}

func TestABadAddressSaysWhatIsWrong(t *testing.T) {
	b := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("SSH-2.0-x\r\n"))
			_ = c.Close()
		}
	}()
	for addr, want := range map[string]string{
		"/ip4/10.0.0.1/tcp/1": "/p2p/PEER", "/nonsense": "/nonsense", "somewhere": "HOST:PORT", l.Addr().String(): "no weft answers",
	} {
		info, err := b.Resolve(ctx5(t), addr)
		if err == nil || !strings.Contains(err.Error(), want) || info.ID != peer.ID("") {
			t.Errorf("%s: %+v %v", addr, info, err)
		}
	}
}
