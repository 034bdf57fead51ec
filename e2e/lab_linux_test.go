package e2e_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/scripts/netlab"
)

// The tests of this file run nodes in a network lab (go doc ./scripts/netlab):
// as root on Linux. With WEFT_TEST_LONG they cut links for minutes.

// rejoin is how often a node tries to reach missing members (gossip.Timing),
// and what a mended link may take beside.
const rejoin = 2*time.Second + time.Second

// labNode is a daemon in a host of its own.
type labNode struct {
	*daemon
	host *netlab.Host
	args []string
}

func newLab(t *testing.T) *netlab.Lab {
	t.Helper()
	if err := netlab.Available(); err != nil {
		t.Skip("not run:", err)
	}
	lab, err := netlab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return lab
}

// up starts the node in its host, for the first time or again, and waits until
// it answers.
func (n *labNode) up(t *testing.T, more ...string) {
	t.Helper()
	d, err := startBy(t, n.host.Start, n.name, n.home, append([]string{"--listen", ":4710"}, append(n.args, more...)...)...)
	if err != nil {
		t.Fatal(err)
	}
	n.daemon = d
}

func (n *labNode) down(t *testing.T) {
	t.Helper()
	n.stop(t)
	n.ended = true
}

// forget takes away what a node knows about where others are.
func (n *labNode) forget(t *testing.T) {
	t.Helper()
	if err := os.Remove(filepath.Join(n.home, "peers.json")); err != nil {
		t.Fatal(err)
	}
}

// labMesh starts nodes that join the first with an invitation.
func labMesh(t *testing.T, nodes ...*labNode) {
	t.Helper()
	token := ""
	for i, n := range nodes {
		if i == 0 {
			n.up(t)
			token = strings.TrimSpace(mustRun(t, n.home, "invite", "--uses", fmt.Sprint(len(nodes))))
			continue
		}
		n.up(t, "--join", token)
	}
	for _, n := range nodes {
		n.sees(t, len(nodes))
	}
}

func labHost(t *testing.T, lab *netlab.Lab, name string, subnet int, args ...string) *labNode {
	t.Helper()
	h, err := lab.Host(name, subnet)
	if err != nil {
		t.Fatal(err)
	}
	return &labNode{daemon: &daemon{name: name, home: home(t)}, host: h, args: args}
}

// sight waits until every node knows exactly those, and returns how long that
// took.
func sight(t *testing.T, limit time.Duration, nodes ...*labNode) time.Duration {
	t.Helper()
	begin := time.Now()
	eventually(t, limit, func() error {
		for _, n := range nodes {
			ps, err := n.Peers(t.Context())
			if err != nil {
				return err
			}
			if len(ps) != len(nodes) {
				return fmt.Errorf("%s sees %d nodes, not %d", n.name, len(ps), len(nodes))
			}
		}
		return nil
	})
	return time.Since(begin)
}

func TestLabNodesOnOneNetwork(t *testing.T) {
	lab := newLab(t)
	path := deep(t, 24)
	a, b, c := labHost(t, lab, "a", 0, "--memory", "14MB"), labHost(t, lab, "b", 0, "--memory", "14MB"), labHost(t, lab, "c", 0, "--memory", "0")
	nodes := []*labNode{a, b, c}
	labMesh(t, nodes...)
	mustRun(t, a.home, "add", path, "--name", "m", "--ctx", "512")
	c.seesModel(t, "m")
	want, err := c.ask(t, "m", 20, nil)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("find each other by multicast alone", func(sub *testing.T) {
		if err := lab.SetAll(netlab.Path{Delay: 10 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			n.down(t)
			n.forget(t)
			// Where the others may remember it is nobody any more.
			if _, err := n.host.Readdress(0); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range nodes {
			n.up(t)
		}
		sub.Logf("all know all %v after the last has started", sight(sub, 10*time.Second, nodes...).Round(time.Millisecond))
	})
	t.Run("answer over 10 ms as without", func(t *testing.T) {
		c.seesModel(t, "m")
		got, err := c.ask(t, "m", 20, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
			t.Errorf("(-without delay +with):\n%s", diff)
		}
		if len(got.Plan.Stages) != 2 {
			t.Errorf("plan %+v", got.Plan)
		}
		t.Logf("%.1f ms a token", 1e3/got.Timings.DecodeTPS)
	})
	cuts := []time.Duration{15 * time.Second}
	if os.Getenv("WEFT_TEST_LONG") != "" {
		cuts = append(cuts, 60*time.Second, 120*time.Second)
	}
	for _, cut := range cuts {
		t.Run(fmt.Sprintf("heal a partition of %v", cut), func(t *testing.T) { healsAPartition(t, lab, cut, b, a, c) })
	}
	if len(cuts) > 1 {
		t.Run("take back a node that slept", func(t *testing.T) {
			b.signal(t, syscall.SIGSTOP)
			begin := time.Now()
			noticed := sight(t, 20*time.Second, a, c)
			time.Sleep(20*time.Second - time.Since(begin))
			b.signal(t, syscall.SIGCONT)
			back := sight(t, 30*time.Second, nodes...)
			t.Logf("asleep for 20s: noticed after %v, back %v after it woke", noticed.Round(time.Millisecond), back.Round(time.Millisecond))
		})
	}
	t.Run("follow a node to its new address", func(t *testing.T) {
		old := b.host.Addr()
		if _, err := b.host.Readdress(0); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		eventually(t, 20*time.Second, func() error { return reachedAt(t, a, "b", b.host.Addr().String()) })
		eventually(t, 20*time.Second, func() error { return reachedAt(t, c, "b", b.host.Addr().String()) })
		sight(t, 10*time.Second, nodes...)
		t.Logf("moved from %v to %v, known everywhere after %v", old, b.host.Addr(), time.Since(begin).Round(time.Millisecond))
		var got api.Reply
		eventually(t, 15*time.Second, func() (err error) { // a node that was lost is left alone for a while
			got, err = c.ask(t, "m", 20, nil)
			return err
		})
		if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	})
	for _, s := range lab.Strays() {
		if !netip.MustParsePrefix("10.77.0.0/16").Contains(s) {
			t.Errorf("a private mesh has sent packets to %v", s)
		}
	}
}

// reachedAt says whether a node knows a peer under that address.
func reachedAt(t *testing.T, n *labNode, name, addr string) error {
	ps, err := n.Peers(t.Context())
	if err != nil {
		return err
	}
	for _, p := range ps {
		if p.Name == name && strings.Contains(strings.Join(p.Addrs, " "), "/"+addr+"/") {
			return nil
		}
	}
	return fmt.Errorf("%s does not know %s at %s", n.name, name, addr)
}

// healsAPartition cuts one node off for a while. Both sides notice, and find
// each other within a rejoin period and a second after the link is back.
func healsAPartition(t *testing.T, lab *netlab.Lab, cut time.Duration, lost *labNode, rest ...*labNode) {
	begin := time.Now()
	lab.Cut(lost.host, true)
	noticed := sight(t, cut, rest...)
	time.Sleep(cut - time.Since(begin))
	lab.Cut(lost.host, false)
	all := append([]*labNode{lost}, rest...)
	healed := sight(t, 30*time.Second, all...)
	t.Logf("cut for %v: noticed after %v, healed %v after it was mended", cut, noticed.Round(time.Millisecond), healed.Round(time.Millisecond))
	limit := rejoin
	if load(t) > float64(2*runtime.NumCPU()) {
		limit *= 4 // other programs have the cores
	}
	if healed > limit {
		t.Errorf("a partition of %v healed after %v, want at most %v", cut, healed, limit)
	}
	for _, n := range all {
		var ps []api.Peer
		ps, err := n.Peers(t.Context())
		if err != nil || len(ps) != len(all) {
			t.Errorf("%s sees %d nodes: %v", n.name, len(ps), err)
		}
	}
}
