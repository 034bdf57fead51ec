package wire_test

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"

	"github.com/weft-mesh/weft/p2p/wire"
)

const testProtocol = "/weft/test/1"

func newHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.Ping(false),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// hosts are the two ends of a stream between two libp2p hosts on loopback.
func hosts(t *testing.T) (wire.Stream, wire.Stream) {
	t.Helper()
	a, b := newHost(t), newHost(t)
	far := make(chan network.Stream, 1)
	b.SetStreamHandler(testProtocol, func(s network.Stream) {
		// The first byte tells that the stream is there.
		_, _ = s.Read(make([]byte, 1))
		far <- s
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := a.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		t.Fatal(err)
	}
	near, err := a.NewStream(ctx, b.ID(), testProtocol)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	return near, <-far
}

func TestTheDeathOfAConnectionIsKnownAtOnce(t *testing.T) {
	a, b := newHost(t), newHost(t)
	far := make(chan wire.Link, 1)
	b.SetStreamHandler(testProtocol, func(s network.Stream) {
		far <- wire.NewLink(s, a.ID().String(), wire.Config{})
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := a.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		t.Fatal(err)
	}
	s, err := a.NewStream(ctx, b.ID(), testProtocol)
	if err != nil {
		t.Fatal(err)
	}
	near := wire.NewLink(s, b.ID().String(), wire.Config{})
	if err := near.Send(run(0), nil); err != nil {
		t.Fatal(err)
	}
	l := <-far
	if _, _, err := l.Recv(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for _, c := range a.Network().ConnsToPeer(b.ID()) {
		_ = c.Close()
	}
	if _, _, err := l.Recv(); err == nil {
		t.Error("a frame from a dead connection")
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("known after %s", took)
	}
	<-l.Done()
	near.Close(nil)
	<-near.Done()
}
