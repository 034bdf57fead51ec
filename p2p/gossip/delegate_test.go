package gossip

import (
	"errors"
	"net"
	"testing"

	"github.com/hashicorp/memberlist"
)

// Claim lets a test pretend that memberlist has heard of a node.
func (g *Gossip) claim(n *memberlist.Node) error { return (*delegate)(g).NotifyAlive(n) }

// CheckClaims is run by the external tests on a live node: what another
// member may say about third parties.
func (g *Gossip) CheckClaims(t *testing.T) {
	ghost := somePeer(t)
	m := someMeta()
	node := func(change func(*memberlist.Node)) *memberlist.Node {
		n := &memberlist.Node{Name: ghost.String(), Addr: address{ghost}.ip(), Port: memberlistPort, Meta: m.encode(maxMeta)}
		if change != nil {
			change(n)
		}
		return n
	}
	if err := g.claim(node(nil)); !errors.Is(err, errNotMet) {
		t.Errorf("a ghost: %v", err)
	}
	if err := g.claim(node(func(n *memberlist.Node) { n.Name = "bob" })); err == nil {
		t.Error("a name that is no peer id")
	}
	if err := g.claim(node(func(n *memberlist.Node) { n.Addr = net.IPv6loopback })); !errors.Is(err, errImposter) {
		t.Errorf("another's address: %v", err)
	}
	if err := g.claim(node(func(n *memberlist.Node) { n.Port = 2 })); !errors.Is(err, errImposter) {
		t.Errorf("another port: %v", err)
	}
	if err := g.claim(node(func(n *memberlist.Node) { n.Meta = []byte{0xff} })); !errors.Is(err, errMeta) {
		t.Errorf("bad metadata: %v", err)
	}
	self := g.host.ID()
	if err := g.claim(node(func(n *memberlist.Node) { n.Name, n.Addr = self.String(), address{self}.ip() })); err != nil {
		t.Errorf("itself: %v", err)
	}
	if len(g.Members()) > 1 {
		t.Errorf("members %v", g.Members())
	}
	for range maxHearsay + 10 {
		id := somePeer(t)
		_ = g.claim(&memberlist.Node{Name: id.String(), Addr: address{id}.ip(), Port: memberlistPort})
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.unmet(); n > maxHearsay {
		t.Errorf("%d entries stand on hearsay", n)
	}
}
