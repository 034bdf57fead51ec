package gossip_test

import (
	"testing"
	"time"

	"github.com/weft-mesh/weft/p2p/gossip"
	"github.com/weft-mesh/weft/p2p/host"
)

// blind is a gossip whose memberlist notices no death while a test runs.
func blind(c *gossip.Config) { c.Timing.Probe, c.Timing.ProbeTimeout = time.Hour, time.Minute }

// knowsDoors waits until a node has found out where others listen.
func (n *node) knowsDoors(t *testing.T, others ...*node) {
	t.Helper()
	for _, o := range others {
		eventually(t, "a member's port is found", func() bool { return n.DoorOf(o.host.ID()).IsValid() })
	}
}

// TestADeadProcessIsGoneAtOnce kills a member that one node has dialed and that
// has dialed another: both know without memberlist, and one that comes back to
// the same home is there again.
func TestADeadProcessIsGoneAtOnce(t *testing.T) {
	a := founder(t, blind)
	b := join(t, a, "b", blind)
	c := join(t, a, "c", blind)
	eventually(t, "three nodes know each other", complete(a, b, c))
	a.knowsDoors(t, b, c)
	c.knowsDoors(t, a, b)
	b.kill()
	eventually(t, "the death is known", complete(a, c))

	b = at(t, b.dir, "b", "127.0.0.1:0")
	b.gossip(t, "b", blind)
	if err := b.Reach(t.Context(), a.info()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the return is known", complete(a, b, c))
}

// TestABrokenConnectionIsNoDeath ends the connection to a member that listens
// still, and asks its port.
func TestABrokenConnectionIsNoDeath(t *testing.T) {
	a := founder(t, blind)
	b := join(t, a, "b", blind)
	eventually(t, "both know each other", complete(a, b))
	a.knowsDoors(t, b)
	events, stop := a.Watch()
	defer stop()
	met, unwatch := a.host.Watch()
	defer unwatch()
	if err := b.host.ClosePeer(a.host.ID()); err != nil {
		t.Fatal(err)
	}
	for e := range met {
		if e.Kind == host.Disconnected {
			break
		}
	}
	if a.Look(b.host.ID()) {
		t.Error("a member that lives was given up")
	}
	if len(a.Members()) != 1 {
		t.Error("a member that lives is not listed")
	}
	for {
		select {
		case e := <-events:
			if e.Kind == gossip.Leave {
				t.Fatal("a member that lives was said to have left")
			}
		default:
			return
		}
	}
}
