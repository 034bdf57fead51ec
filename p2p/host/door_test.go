package host_test

import (
	"net"
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/admission"
)

// TestADoorIsFoundWhereAPeerTakesConnections looks from both ends of a connection:
// from that which dialed, and from that which knows only what the other says.
func TestADoorIsFoundWhereAPeerTakesConnections(t *testing.T) {
	a := founder(t)
	b := start(t)
	b.enlist(t, a, admission.Compute)
	if err := b.Connect(ctx5(t), a.info()); err != nil {
		t.Fatal(err)
	}
	from, ok := b.Door(ctx5(t), a.ID(), nil)
	if !ok || from.Port() == 0 || b.Shut(ctx5(t), from) {
		t.Fatalf("where it was dialed: %v %v", from, ok)
	}
	if at, ok := a.Door(ctx5(t), b.ID(), nil); ok {
		t.Errorf("%v of a peer that says nothing", at)
	}
	// A port that refuses, and an address that the peer does not come from, as
	// those of a machine's inner networks are.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(closed)
	if err != nil {
		t.Fatal(err)
	}
	lies := []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/" + port), ma.StringCast("/ip4/192.0.2.7/tcp/4710")}
	if at, ok := a.Door(ctx5(t), b.ID(), lies); ok {
		t.Errorf("%v of a peer that is not there", at)
	}
	door, ok := a.Door(ctx5(t), b.ID(), append(lies, b.DialAddrs()...))
	if !ok || a.Shut(ctx5(t), door) {
		t.Fatalf("where it says that it listens: %v %v", door, ok)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if !a.Shut(ctx5(t), door) {
		t.Error("the port of a peer that has ended takes connections")
	}
	if _, ok := a.Door(ctx5(t), b.ID(), b.DialAddrs()); ok {
		t.Error("a peer that has ended has a door")
	}
}
