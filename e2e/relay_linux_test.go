package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/scripts/netlab"
)

// TestLabMembersThatAThirdConnects has two nodes on networks that do not reach
// each other, and a third that both reach.
func TestLabMembersThatAThirdConnects(t *testing.T) {
	lab := newLab(t)
	path := deep(t, 24)
	a, b := labHost(t, lab, "a", 1, "--memory", "14MB"), labHost(t, lab, "b", 2, "--memory", "14MB")
	via := labHost(t, lab, "via", 0, "--memory", "0")
	const near, far = 2 * time.Millisecond, 20 * time.Millisecond
	for _, err := range []error{
		lab.SetAll(netlab.Path{Delay: near}),
		lab.Join(b.host, via.host, netlab.Path{Delay: far}),
		lab.Join(a.host, b.host, netlab.Path{Cut: true}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	nodes := []*labNode{via, a, b}
	labMesh(t, nodes...)
	mustRun(t, a.home, "add", path, "--name", "m", "--ctx", "512")
	b.seesModel(t, "m")

	var want api.Reply
	t.Run("compute together", func(t *testing.T) {
		// The way by the third is measured like any other, for the planner.
		eventually(t, 20*time.Second, func() error { return roundTrip(t, a, "b", 2*(near+far), time.Second) })
		eventually(t, 20*time.Second, func() (err error) {
			want, err = a.ask(t, "m", 20, nil)
			return err
		})
		if len(want.Plan.Stages) != 2 {
			t.Errorf("plan %+v", want.Plan)
		}
		if s := lab.Stats(a.host, b.host); s.Packets != 0 {
			t.Errorf("%d packets went directly", s.Packets)
		}
	})
	t.Run("do without it when they can", func(t *testing.T) {
		if err := lab.Join(a.host, b.host, netlab.Path{Delay: near}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		eventually(t, 40*time.Second, func() error { return roundTrip(t, a, "b", 2*near, near+far) })
		t.Logf("direct %v after the networks reach each other", time.Since(begin).Round(time.Millisecond))
		var got api.Reply
		eventually(t, 15*time.Second, func() (err error) {
			got, err = a.ask(t, "m", 20, nil)
			return err
		})
		if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
			t.Errorf("(-through the third +directly):\n%s", diff)
		}
	})
}

// TestLabMembersBehindFirewalls has two nodes that only answers reach. They
// meet through a third and punch a way through both firewalls.
func TestLabMembersBehindFirewalls(t *testing.T) {
	lab := newLab(t)
	a, b := labHost(t, lab, "a", 1, "--memory", "0"), labHost(t, lab, "b", 2, "--memory", "0")
	via := labHost(t, lab, "via", 0, "--memory", "0")
	const near, far = 2 * time.Millisecond, 20 * time.Millisecond
	if err := lab.SetAll(netlab.Path{Delay: far}); err != nil {
		t.Fatal(err)
	}
	if err := lab.Join(a.host, b.host, netlab.Path{Delay: near}); err != nil {
		t.Fatal(err)
	}
	a.host.SetFirewall(true)
	b.host.SetFirewall(true)
	begin := time.Now()
	labMesh(t, via, a, b)
	eventually(t, 40*time.Second, func() error { return roundTrip(t, a, "b", 2*near, far) })
	t.Logf("direct through both firewalls %v after the first started", time.Since(begin).Round(time.Millisecond))
}

// roundTrip says whether a node measures its link to a peer between the two.
func roundTrip(t *testing.T, n *labNode, name string, least, most time.Duration) error {
	ps, err := n.Peers(t.Context())
	if err != nil {
		return err
	}
	for _, p := range ps {
		if p.Name != name {
			continue
		}
		if p.RTT < least || p.RTT > most {
			return fmt.Errorf("%s measures %v to %s, not %v to %v", n.name, p.RTT, name, least, most)
		}
		return nil
	}
	return fmt.Errorf("%s does not see %s", n.name, name)
}
