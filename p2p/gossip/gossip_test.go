package gossip_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"go.uber.org/goleak"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/gossip"
	"github.com/weft-mesh/weft/p2p/host"
)

// TestMain looks for leaks with patience: memberlist's last probes end by
// themselves, after a few probe intervals on a busy machine.
func TestMain(m *testing.M) {
	code := m.Run()
	err := goleak.Find()
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); {
		err = goleak.Find()
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// quick makes detection and healing take tenths of seconds.
var quick = gossip.Timing{
	Probe: 100 * time.Millisecond, ProbeTimeout: 50 * time.Millisecond, Gossip: 20 * time.Millisecond,
	PushPull: time.Second, Rejoin: 200 * time.Millisecond, Record: 50 * time.Millisecond, Links: 200 * time.Millisecond, Renew: 500 * time.Millisecond,
}

// node is one member in a home of its own.
type node struct {
	*gossip.Gossip
	host  *host.Host
	mesh  *admission.Mesh
	admit *admission.Service
	dir   string
	dead  bool
}

func logger(name string) *slog.Logger {
	if os.Getenv("WEFT_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
}

// bare starts a host and admission without a membership.
func bare(t *testing.T, name, listen string) *node {
	t.Helper()
	return at(t, t.TempDir(), name, listen)
}

// at is bare in a home that may have been another's before.
func at(t *testing.T, dir, name, listen string) *node {
	t.Helper()
	key, err := host.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	mesh, err := admission.Open(admission.Config{Dir: dir, Identity: key})
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(t.Context(), host.Config{Key: key, Authority: mesh, Listen: listen, Wire: 1, Contract: 1, Logger: logger(name)})
	if err != nil {
		t.Fatal(err)
	}
	invites, err := admission.OpenInvitations(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{host: h, mesh: mesh, admit: admission.Serve(h, mesh, invites, logger(name)), dir: dir}
	t.Cleanup(n.kill)
	return n
}

// kill ends a node without a word.
func (n *node) kill() {
	if n.dead {
		return
	}
	n.dead = true
	_ = n.admit.Close()
	_ = n.host.Close()
	if n.Gossip != nil {
		_ = n.Gossip.Halt()
	}
}

func (n *node) gossip(t *testing.T, name string, change ...func(*gossip.Config)) {
	t.Helper()
	cfg := gossip.Config{Host: n.host, Timing: quick, Logger: logger(name)}
	for _, c := range change {
		c(&cfg)
	}
	g, err := gossip.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Gossip = g
	if err := g.SetRecord(gossip.Record{Name: name, Memory: gossip.Memory{Total: 1 << 30}}); err != nil {
		t.Fatal(err)
	}
}

// founder starts the first node of a mesh.
func founder(t *testing.T, change ...func(*gossip.Config)) *node {
	t.Helper()
	n := bare(t, "founder", "127.0.0.1:0")
	if err := n.mesh.Found("test"); err != nil {
		t.Fatal(err)
	}
	n.gossip(t, "founder", change...)
	return n
}

// join starts a node and brings it in by an invitation.
func join(t *testing.T, by *node, name string, change ...func(*gossip.Config)) *node {
	t.Helper()
	n := bare(t, name, "127.0.0.1:0")
	token, err := by.admit.Invite(admission.Compute, 1, time.Hour, by.host.DialAddrs())
	if err != nil {
		t.Fatal(err)
	}
	if err := admission.Join(t.Context(), n.host, n.mesh, token, name, admission.Versions{Wire: 1, Contract: 1}); err != nil {
		t.Fatal(err)
	}
	n.gossip(t, name, change...)
	return n
}

func (n *node) info() peer.AddrInfo { return peer.AddrInfo{ID: n.host.ID(), Addrs: n.host.DialAddrs()} }

// eventually waits for a condition of the mesh.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > 30*time.Second {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%s after %v", what, time.Since(start).Round(time.Millisecond))
}

// complete says that every node has the records of all others.
func complete(nodes ...*node) func() bool {
	return func() bool {
		for _, n := range nodes {
			members := n.Members()
			if len(members) != len(nodes)-1 {
				return false
			}
			for _, m := range members {
				if m.Record == nil || m.Record.Name == "" {
					return false
				}
			}
		}
		return true
	}
}

func TestAnInvitedNodeSeesAllOthersAndTheirRecords(t *testing.T) {
	a := founder(t)
	b := join(t, a, "b")
	c := join(t, a, "c")
	eventually(t, "three nodes know each other", complete(a, b, c))
	m, ok := b.Member(c.host.ID())
	if !ok || m.Record.Name != "c" || m.Record.Memory.Total != 1<<30 || m.Record.Role != "compute" || m.Record.Peer != c.host.ID() {
		t.Fatalf("member %+v record %+v", m, m.Record)
	}
	eventually(t, "links are measured and told", func() bool {
		m, _ := a.Member(b.host.ID())
		return m.RTT > 0 && m.BytesPerSecond > 0 && len(m.Record.Links) == 2 && m.Record.Links[0].BytesPerSecond > 0
	})
	if rtt, err := a.Ping(t.Context(), b.host.ID()); err != nil || rtt <= 0 || rtt > time.Second {
		t.Errorf("ping %v, %v", rtt, err)
	}
}

func TestADeadNodeIsNoticed(t *testing.T) {
	a := founder(t)
	b := join(t, a, "b")
	c := join(t, a, "c")
	eventually(t, "three nodes know each other", complete(a, b, c))
	b.kill()
	eventually(t, "the death is known", func() bool { return len(a.Members()) == 1 && len(c.Members()) == 1 })
	if got := a.LastName(b.host.ID()); got != "b" {
		t.Errorf("the dead node is called %q", got)
	}
}

func TestANodeThatLeavesIsGoneAtOnce(t *testing.T) {
	a := founder(t)
	b := join(t, a, "b")
	eventually(t, "both know each other", complete(a, b))
	events, stop := a.Watch()
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case e := <-events:
			if e.Kind == gossip.Leave && e.Member.ID == b.host.ID() {
				return
			}
		case <-ctx.Done():
			t.Fatal("no event")
		}
	}
}

func TestAKilledNodeThatReturnsIsSeenAgain(t *testing.T) {
	a := founder(t)
	b := join(t, a, "b")
	c := join(t, a, "c")
	eventually(t, "three nodes know each other", complete(a, b, c))
	b.silence(t)
	eventually(t, "the death is known", func() bool { return len(a.Members()) == 1 && len(c.Members()) == 1 })
	b.gossip(t, "b2")
	eventually(t, "the return is known", func() bool {
		if !complete(a, b, c)() {
			return false
		}
		m, _ := a.Member(b.host.ID())
		return m.Record.Name == "b2"
	})
}

// silence stops gossip as a hung process would, with its connections open.
func (n *node) silence(t *testing.T) {
	t.Helper()
	if err := n.Halt(); err != nil {
		t.Fatal(err)
	}
}

func TestALostConnectionIsMadeAgain(t *testing.T) {
	a := founder(t)
	b := join(t, a, "b")
	eventually(t, "both know each other", complete(a, b))
	for range 3 {
		if err := a.host.ClosePeer(b.host.ID()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "connected again", func() bool {
			_, ab := a.host.Member(b.host.ID())
			_, ba := b.host.Member(a.host.ID())
			return ab && ba && complete(a, b)()
		})
	}
}

func TestNewRecordsReachEverybody(t *testing.T) {
	a := founder(t)
	b := join(t, a, "b")
	c := join(t, a, "c")
	eventually(t, "three nodes know each other", complete(a, b, c))
	events, stop := c.Watch()
	defer stop()
	for i := range 5 {
		if err := b.SetRecord(gossip.Record{Name: "b", Load: gossip.Load{ActiveSessions: i + 1}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	eventually(t, "the last load is known", func() bool {
		for _, n := range []*node{a, c} {
			if m, _ := n.Member(b.host.ID()); m.Record == nil || m.Record.Load.ActiveSessions != 5 {
				return false
			}
		}
		return true
	})
	for {
		select {
		case e := <-events:
			if e.Kind == gossip.Update && e.Member.ID == b.host.ID() && e.Member.Record.Load.ActiveSessions == 5 {
				return
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no event told the last load")
		}
	}
}

// TestMissingPeersDoNotHoldUpTheNews has as many attempts at lost machines under
// way as there may be.
func TestMissingPeersDoNotHoldUpTheNews(t *testing.T) {
	a := founder(t)
	b := join(t, a, "b")
	eventually(t, "both know each other", complete(a, b))
	defer a.Stall()()
	if err := b.SetRecord(gossip.Record{Name: "b", Load: gossip.Load{ActiveSessions: 3}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the news is known", func() bool {
		m, _ := a.Member(b.host.ID())
		return m.Record != nil && m.Record.Load.ActiveSessions == 3
	})
}

func TestWhoeverAsksGetsTheRecordOfThisMoment(t *testing.T) {
	a := founder(t, func(c *gossip.Config) { c.Timing.Record = time.Hour })
	eventually(t, "the first record is out", func() bool { return !a.Self().Stamp.IsZero() })
	b := join(t, a, "b")
	eventually(t, "both know each other", complete(a, b))
	if err := a.SetRecord(gossip.Record{Name: "founder", Load: gossip.Load{ActiveSessions: 7}}); err != nil {
		t.Fatal(err)
	}
	if m, _ := b.Member(a.host.ID()); m.Record.Load.ActiveSessions != 0 {
		t.Fatalf("the news is there unasked, an hour early: %+v", m.Record)
	}
	b.Refresh(t.Context())
	if m, _ := b.Member(a.host.ID()); m.Record.Load.ActiveSessions != 7 {
		t.Errorf("record after asking: %+v", m.Record)
	}
}

func TestANodeThatRestsRenewsItsRecord(t *testing.T) {
	a := founder(t)
	b := join(t, a, "b")
	eventually(t, "both know each other", complete(a, b))
	m, _ := a.Member(b.host.ID())
	if m.Received.IsZero() || time.Since(m.Received) > time.Minute {
		t.Errorf("the record came at %v", m.Received)
	}
	stamps := map[time.Time]time.Time{} // more than the changes that a link's measurement makes
	eventually(t, "the record is renewed without a change", func() bool {
		m, _ = a.Member(b.host.ID())
		stamps[m.Record.Stamp] = m.Received
		return len(stamps) > 5
	})
	a.Observe(b.host.ID(), 1e12)
	eventually(t, "what traffic showed is told", func() bool {
		for _, l := range a.Self().Links {
			if l.Peer == b.host.ID() && l.BytesPerSecond >= 4e11 {
				return true
			}
		}
		return false
	})
}

func TestARecordThatIsTooLargeIsRefusedAndTheOldOneStays(t *testing.T) {
	a := founder(t)
	big := gossip.Record{Models: make([]gossip.HeldModel, 10_000)}
	if err := a.SetRecord(big); err == nil {
		t.Error("accepted")
	}
	if self := a.Self(); self.Name != "founder" || self.Role != "admitter" || self.Peer != a.host.ID() {
		t.Errorf("self %+v", self)
	}
}

func TestHearsayListsNobody(t *testing.T) {
	a := founder(t)
	b := join(t, a, "b")
	eventually(t, "both know each other", complete(a, b))
	a.CheckClaims(t)
}

func TestTwoMeshesOnOneMachineDoNotMix(t *testing.T) {
	a, x := founder(t), founder(t)
	b, y := join(t, a, "b"), join(t, x, "y")
	eventually(t, "each mesh is complete", func() bool { return complete(a, b)() && complete(x, y)() })
	if err := a.Reach(t.Context(), x.info()); err == nil {
		t.Error("a node of another mesh was reached")
	}
	if err := y.Reach(t.Context(), b.info()); err == nil {
		t.Error("a node of another mesh was reached")
	}
	time.Sleep(300 * time.Millisecond)
	if !complete(a, b)() || !complete(x, y)() {
		t.Error("the meshes have changed")
	}
}

// TestStrangersAreRefusedOnEveryProtocol holds every protocol of gossip and
// admission against a node of another mesh.
func TestStrangersAreRefusedOnEveryProtocol(t *testing.T) {
	a := founder(t)
	for _, id := range []protocol.ID{
		"/weft/member/packet/1", "/weft/member/stream/1", "/weft/record/1", "/weft/ping/1", "/weft/probe/1", "/weft/renew/1",
	} {
		s := bare(t, "stranger", "127.0.0.1:0")
		if err := s.host.Dial(t.Context(), a.info()); err != nil {
			t.Fatal(err)
		}
		st, err := s.host.OpenStranger(t.Context(), a.host.ID(), id)
		if err != nil {
			continue // reset while the protocol was agreed on
		}
		_, _ = st.Write(make([]byte, 16))
		_ = st.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := st.Read(make([]byte, 16))
		if n != 0 || err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: read %d bytes, %v", id, n, err)
		}
		_ = st.Reset()
	}
}

func TestGossipNeedsAMembership(t *testing.T) {
	n := bare(t, "blank", "127.0.0.1:0")
	if _, err := gossip.New(gossip.Config{Host: n.host}); !errors.Is(err, admission.ErrNoMesh) {
		t.Errorf("got %v", err)
	}
	if _, err := gossip.New(gossip.Config{}); err == nil {
		t.Error("started without a host")
	}
}

func TestPingsOfOneMemberAreLimited(t *testing.T) {
	a := founder(t)
	b := join(t, a, "b")
	eventually(t, "both know each other", complete(a, b))
	for range 60 {
		if _, err := b.Ping(t.Context(), a.host.ID()); err != nil {
			return
		}
	}
	t.Error("60 pings in a row were answered")
}

func TestTenNodesKnowEachOther(t *testing.T) {
	if testing.Short() {
		t.Skip("not run: short")
	}
	// The timing that runs in earnest; 90 bandwidth probes would measure the
	// machine, not the mesh.
	real := func(c *gossip.Config) { c.Timing, c.NoBandwidth = gossip.Timing{}, true }
	nodes := []*node{founder(t, real)}
	for i := range 9 {
		nodes = append(nodes, join(t, nodes[0], string(rune('b'+i)), real))
	}
	eventually(t, "ten nodes know each other", complete(nodes...))
	nodes[9].kill()
	eventually(t, "a death is known to nine", func() bool {
		for _, n := range nodes[:9] {
			if len(n.Members()) != 8 {
				return false
			}
		}
		return true
	})
}
