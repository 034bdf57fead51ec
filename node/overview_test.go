package node_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

func TestTheOverviewTellsWhatNodesAreAndDo(t *testing.T) {
	path, err := filepath.Abs(tinyModels + "llama-Q4_0.gguf")
	if err != nil {
		t.Fatal(err)
	}
	nodes := together(t, api.Config{Name: "a", Memory: 1 << 28, Version: "v1"}, api.Config{Name: "b", Memory: -1, Version: "v2"})
	m := add(t, nodes[0], api.AddRequest{Path: path})
	seeModel(t, nodes[1], m.Name)
	eventually(t, 15*time.Second, func() error {
		o, err := nodes[1].Node().Overview(t.Context())
		if err != nil {
			return err
		}
		if len(o.Peers) != 2 || o.Peers[1].Name != "a" || len(o.Models) != 1 || o.Status.Name != "b" {
			return fmt.Errorf("%+v", o)
		}
		a := o.Peers[1]
		switch {
		case a.CPU == "" || a.Threads < 1 || a.DiskTotal <= 0 || a.DiskFree <= 0 || a.MemTotal <= 0 || a.DecodeBps <= 0:
			return fmt.Errorf("facts are missing: %+v", a)
		case len(a.Held) != 1 || !a.Held[0].Complete || a.Held[0].Name != m.Name || a.Held[0].Bytes <= 0:
			return fmt.Errorf("held models: %+v", a.Held)
		case a.RTT <= 0 || a.Bandwidth <= 0 || a.RTTAge > time.Minute || len(a.Links) != 1 || a.Links[0].Name != "b":
			return fmt.Errorf("links: %+v", a)
		case a.Stale || a.Age > time.Minute || a.State != "alive" || a.Version != "weft v1" || a.Note == "" || a.Wire != node.WireVersion:
			return fmt.Errorf("state: %+v", a)
		}
		return nil
	})
	_, _, err = slowly(t, t.Context(), nodes[1], greedy(m.Name, sequence(2, 10), 60), func() {
		o, err := nodes[1].Node().Overview(t.Context())
		if err != nil || len(o.Status.Replies) != 1 || o.Status.Replies[0].Model != m.Name || o.Status.Replies[0].Tokens < 1 || o.Status.Generated < 1 {
			t.Errorf("while it replies: %+v, %v", o.Status, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	o, err := nodes[1].Node().Overview(t.Context())
	if err != nil || len(o.Status.Replies) != 0 {
		t.Errorf("after the reply: %+v, %v", o.Status.Replies, err)
	}
}

func TestPeersLookAtANodeFromOutside(t *testing.T) {
	nodes := together(t, api.Config{Name: "a", Memory: -1}, api.Config{Name: "b", Memory: -1})
	c, err := nodes[0].Node().Checkup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !c.Loopback || len(c.TCPPorts) != 1 || c.Limits.Files < 16 || c.Multicast.Error == "" || len(c.Peers) != 1 {
		t.Fatalf("%+v", c)
	}
	p := c.Peers[0]
	if p.Name != "b" || p.Error != "" || p.RTT <= 0 || p.ClockAhead.Abs() > 5*time.Second || p.SmallError != "" || p.LargeError != "" {
		t.Errorf("%+v", p)
	}
	if len(p.Dialed) != 1 || p.Dialed[0].Error != "" {
		t.Errorf("b did not connect back: %+v", p.Dialed)
	}
	solo := start(t, api.Config{Name: "solo", Solo: true})
	if c, err := solo.Node().Checkup(t.Context()); err != nil || c.Multicast.Error == "" || c.Peers == nil {
		t.Errorf("alone: %+v, %v", c, err)
	}
}

func TestADeadNodeIsGoneFromEveryList(t *testing.T) {
	path, err := filepath.Abs(tinyModels + "llama-Q4_0.gguf")
	if err != nil {
		t.Fatal(err)
	}
	nodes := together(t, api.Config{Name: "a", Memory: -1}, api.Config{Name: "b", Memory: -1}, api.Config{Name: "c", Memory: -1})
	m := add(t, nodes[2], api.AddRequest{Path: path})
	seeModel(t, nodes[0], m.Name)
	if err := node.Crash(nodes[2]); err != nil {
		t.Fatal(err)
	}
	// Seconds on a quiet machine; the bound is for a busy one.
	eventually(t, 20*time.Second, func() error {
		for _, r := range nodes[:2] {
			o, err := r.Node().Overview(t.Context())
			if err != nil {
				return err
			}
			if slices.ContainsFunc(o.Peers, func(p api.Peer) bool { return p.Name == "c" }) || o.Status.Peers != 1 {
				return fmt.Errorf("c is still listed by %s", o.Status.Name)
			}
			for _, p := range o.Peers {
				if slices.ContainsFunc(p.Links, func(l api.PeerLink) bool { return l.Name == "c" }) {
					return fmt.Errorf("%s shows a link of %s to c", o.Status.Name, p.Name)
				}
			}
			if len(o.Models) != 0 {
				return fmt.Errorf("%s shows a model that only c had", o.Status.Name)
			}
		}
		return nil
	})
}
