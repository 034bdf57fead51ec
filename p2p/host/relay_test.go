package host_test

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
)

// through connects two members by a third once that has a place for the
// second.
func through(t *testing.T, a, b, via *node) {
	t.Helper()
	wait(t, "a connection through the third", func() bool {
		return a.ConnectVia(ctx5(t), peer.AddrInfo{ID: b.ID()}, []peer.ID{via.ID()}) == nil
	})
}

// third is a mesh in which two members are connected to a third and not to
// each other.
func third(t *testing.T, change ...func(*host.Config)) (a, b, via *node) {
	t.Helper()
	via = founder(t)
	a, b = start(t, change...), start(t, change...)
	for _, n := range []*node{a, b} {
		n.enlist(t, via, admission.Compute)
		n.Handle("/test/echo/1", echo)
		if err := n.Connect(ctx5(t), via.info()); err != nil {
			t.Fatal(err)
		}
	}
	return a, b, via
}

func talk(s network.Stream, what string) (string, error) {
	if _, err := s.Write([]byte(what)); err != nil {
		return "", err
	}
	b := make([]byte, len(what))
	_, err := io.ReadFull(s, b)
	return string(b), err
}

func TestMembersTalkThroughAThirdAndThenWithoutIt(t *testing.T) {
	a, b, via := third(t)
	through(t, a, b, via)
	if !a.Relayed(b.ID()) {
		t.Fatal("the connection is direct already")
	}
	s, err := a.OpenStream(ctx5(t), b.ID(), "/test/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := talk(s, "hello"); err != nil || got != "hello" {
		t.Fatalf("echo %q, %v", got, err)
	}
	// Nothing is in the way here, so they find a direct one.
	wait(t, "a direct connection", func() bool { return !a.Relayed(b.ID()) && !b.Relayed(a.ID()) })
	if got, err := talk(s, "again"); err != nil || got != "again" {
		t.Errorf("the relayed stream says %q, %v", got, err)
	}
	direct, err := a.OpenStream(ctx5(t), b.ID(), "/test/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	if a.Preferred(s.Conn()) || !a.Preferred(direct.Conn()) {
		t.Error("new streams take the relay")
	}
	if got, err := talk(direct, "direct"); err != nil || got != "direct" {
		t.Errorf("echo %q, %v", got, err)
	}
}

// TestAStreamFindsItsWayThroughAThird opens one to a member that is not connected.
func TestAStreamFindsItsWayThroughAThird(t *testing.T) {
	a, b, via := third(t)
	through(t, a, b, via) // so b has a place
	wait(t, "no connection to it", func() bool { _ = a.ClosePeer(b.ID()); return a.Connections() == 1 })
	a.Forget(b.ID())
	a.SetRelays(func(id peer.ID) []peer.ID {
		if id != b.ID() {
			t.Errorf("asked for ways to %s", id)
		}
		return []peer.ID{via.ID()}
	})
	s, err := a.OpenStream(ctx5(t), b.ID(), "/test/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := talk(s, "hello"); err != nil || got != "hello" {
		t.Fatalf("echo %q, %v", got, err)
	}
}

// TestAPlaceIsAskedForAgainAfterABreak breaks and mends the connection to a relay
// faster than anybody looks.
func TestAPlaceIsAskedForAgainAfterABreak(t *testing.T) {
	a, b, via := third(t)
	through(t, a, b, via)
	// The one that dials would be brought back by the other's attempts.
	_ = b.ClosePeer(a.ID())
	if err := b.ClosePeer(via.ID()); err != nil {
		t.Fatal(err)
	}
	wait(t, "the connection's end at the relay", func() bool { _, ok := via.Member(b.ID()); return !ok })
	time.Sleep(100 * time.Millisecond) // libp2p's relay hears of it in its own time
	if err := b.Connect(ctx5(t), via.info()); err != nil {
		t.Fatal(err)
	}
	wait(t, "no connection to it", func() bool { _ = a.ClosePeer(b.ID()); return a.Connections() == 1 })
	a.Forget(b.ID())
	through(t, a, b, via)
	if !a.Relayed(b.ID()) {
		t.Error("reached without the relay")
	}
}

func TestWithoutARelayTheReasonIsTold(t *testing.T) {
	a, b, via := third(t, func(c *host.Config) { c.NoRelay = true })
	err := a.ConnectVia(ctx5(t), peer.AddrInfo{ID: b.ID()}, []peer.ID{via.ID()})
	if err == nil {
		t.Fatal("b has no place at a relay and is reached through it")
	}
	if err := a.ConnectVia(ctx5(t), peer.AddrInfo{ID: b.ID()}, nil); err == nil {
		t.Error("reached through nobody")
	}
}

func TestStrangersAreNotRelayed(t *testing.T) {
	a, b, via := third(t)
	through(t, a, b, via) // so b has a place
	s, err := libp2p.New(libp2p.NoListenAddrs, libp2p.EnableRelay())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Connect(ctx5(t), via.info()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Reserve(ctx5(t), s, via.info()); err == nil {
		t.Error("a stranger has got a place")
	}
	addr := ma.StringCast("/p2p/" + via.ID().String() + "/p2p-circuit")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := s.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{addr}}); err == nil {
		t.Error("a stranger has got through")
	}
	if slices.ContainsFunc(b.Members(), func(m host.Member) bool { return m.ID == s.ID() }) {
		t.Error("a stranger is a member")
	}
}

func TestAStrangerBringsNobody(t *testing.T) {
	a := founder(t)
	b := start(t)
	b.enlist(t, a, admission.Compute)
	// A stranger serves as a relay; a is tricked into a place there.
	s, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.EnableRelayService(), libp2p.ForceReachabilityPublic())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := a.Dial(ctx5(t), peer.AddrInfo{ID: s.ID(), Addrs: s.Addrs()}); err != nil {
		t.Fatal(err)
	}
	if err := b.ConnectVia(ctx5(t), peer.AddrInfo{ID: a.ID()}, []peer.ID{s.ID()}); err == nil {
		t.Error("reached through a stranger")
	}
}

func TestADeadNodeShowsAtOnce(t *testing.T) {
	a, b := founder(t), start(t)
	b.enlist(t, a, admission.Compute)
	info := b.info() // TCP and QUIC
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := a.Connect(t.Context(), info); err == nil {
		t.Fatal("connected to a node that is closed")
	}
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("it took %v to find nobody there", d)
	}
}
