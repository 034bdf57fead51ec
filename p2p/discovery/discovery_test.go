package discovery

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type node struct {
	*host.Host
	mesh *admission.Mesh
	dir  string
}

func start(t *testing.T, dir, listen string) *node {
	t.Helper()
	key, err := host.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	mesh, err := admission.Open(admission.Config{Dir: dir, Identity: key})
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(t.Context(), host.Config{Key: key, Authority: mesh, Listen: listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return &node{h, mesh, dir}
}

// pair returns a founder and a member that have not met.
func pair(t *testing.T, listen string) (a, b *node) {
	t.Helper()
	a, b = start(t, t.TempDir(), listen), start(t, t.TempDir(), listen)
	if err := a.mesh.Found(""); err != nil {
		t.Fatal(err)
	}
	c, err := a.mesh.Issue(b.ID(), admission.Compute)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.mesh.Adopt(a.mesh.ID(), "", c); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func run(t *testing.T, n *node, change func(*Config)) *Discovery {
	t.Helper()
	cfg := Config{Host: n.Host, Dir: n.dir, Mesh: n.mesh.ID(), NoMDNS: true, Round: 20 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	d, err := Run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("never: %s", what)
		}
	}
}

func connected(a *node, b *node) func() bool {
	return func() bool { _, ok := a.Member(b.ID()); return ok }
}

func TestAStaticAddressIsConnectedAgainAfterALoss(t *testing.T) {
	a, b := pair(t, "127.0.0.1:0")
	run(t, b, func(c *Config) { c.Static = a.Addrs() })
	eventually(t, "first connection", connected(b, a))
	if err := a.ClosePeer(b.ID()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "loss", func() bool { return !connected(a, b)() })
	eventually(t, "second connection", connected(a, b))
}

func TestAMemberMetBeforeIsFoundThroughTheCache(t *testing.T) {
	a, b := pair(t, "127.0.0.1:0")
	d := run(t, b, func(c *Config) { c.Static = a.Addrs() })
	eventually(t, "connection", connected(b, a))
	eventually(t, "sighting", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.sightings) == 1 })
	if err := errors.Join(d.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	again := start(t, b.dir, "127.0.0.1:0")
	d = run(t, again, nil)
	eventually(t, "connection from the cache", connected(again, a))
	if err := d.Forget(); err != nil {
		t.Fatal(err)
	}
	if got, err := loadCache(b.dir, time.Now()); err != nil || len(got) != 0 {
		t.Errorf("after forgetting: %v, %v", got, err)
	}
}

func TestAStrangerAmongTheCandidatesIsNamed(t *testing.T) {
	a, _ := pair(t, "127.0.0.1:0")
	other, _ := pair(t, "127.0.0.1:0")
	d := run(t, a, nil)
	d.Add(peer.AddrInfo{ID: other.ID(), Addrs: other.DialAddrs()})
	eventually(t, "refusal", func() bool { return d.Failures()[other.ID()] != nil })
	if err := d.Failures()[other.ID()]; !errors.Is(err, host.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestCandidatesAreBounded(t *testing.T) {
	a, _ := pair(t, "127.0.0.1:0")
	d := &Discovery{cfg: Config{}, host: a.Host, candidates: make(map[peer.ID]*candidate)}
	for i := range maxCandidates + 10 {
		id := peer.ID([]byte{0, 2, byte(i >> 8), byte(i)})
		(*finder)(d).HandlePeerFound(peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/10.0.0.1/tcp/1")}})
	}
	if len(d.candidates) != maxCandidates {
		t.Errorf("%d candidates", len(d.candidates))
	}
	clear(d.candidates)
	for i := range 3 * maxPeerAddrs {
		p := peer.ID([]byte{0, 1, 1})
		a := ma.StringCast("/ip4/10.0.0.1/tcp/" + string(rune('1'+i%9)) + string(rune('0'+i/9)))
		(*finder)(d).HandlePeerFound(peer.AddrInfo{ID: p, Addrs: []ma.Multiaddr{a, ma.StringCast("/ip4/127.0.0.1/tcp/9"), ma.StringCast("/dns4/x/tcp/9")}})
	}
	for _, c := range d.candidates {
		if len(c.info.Addrs) != maxPeerAddrs {
			t.Errorf("%d addresses", len(c.info.Addrs))
		}
		for _, a := range c.info.Addrs {
			if !isDirect(a) || a.String() == "/ip4/127.0.0.1/tcp/9" {
				t.Errorf("kept %s", a)
			}
		}
	}
}

func TestADamagedCacheDoesNotStopTheNode(t *testing.T) {
	a, _ := pair(t, "127.0.0.1:0")
	if err := os.WriteFile(filepath.Join(a.dir, cacheFile), []byte("{oops"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, a, nil)
}

func TestRunChecksItsConfig(t *testing.T) {
	a, b := pair(t, "127.0.0.1:0")
	for name, cfg := range map[string]Config{
		"no host":    {Mesh: a.mesh.ID()},
		"no mesh":    {Host: a.Host},
		"no peer id": {Host: a.Host, Mesh: a.mesh.ID(), Static: b.DialAddrs()},
	} {
		if d, err := Run(cfg); err == nil {
			_ = d.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTheCacheKeepsTheYoungest(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var all []sighting
	for i := range maxCached + 50 {
		id := peer.ID([]byte{0, 2, byte(i >> 8), byte(i)})
		all = append(all, sighting{peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/10.0.0.1/tcp/1")}}, now.Add(time.Duration(-i) * time.Minute)})
	}
	b, err := encodeCache(all)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeCache(b, now)
	if err != nil {
		t.Fatal(err)
	}
	want := all[:maxCached]
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(sighting{}), cmp.Comparer(func(a, b ma.Multiaddr) bool { return a.Equal(b) })); diff != "" {
		t.Error(diff)
	}
	if got, _ := decodeCache(b, now.Add(cacheLife)); len(got) != 0 {
		t.Errorf("%d old sightings are kept", len(got))
	}
}

func FuzzDecodeCache(f *testing.F) {
	f.Add([]byte(`[{"peer":"12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp","addrs":["/ip4/10.0.0.1/tcp/1"],"seen":"2030-01-01T00:00:00Z"}]`))
	f.Add([]byte(`[{"peer":"x"}]`))
	f.Add([]byte(`[]`))
	now := time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeCache(b, now)
		if err != nil {
			return
		}
		again, err := encodeCache(got)
		if err != nil {
			return // a year beyond JSON's
		}
		if back, err := decodeCache(again, now); err != nil || len(back) != len(got) {
			t.Fatalf("%d became %d: %v", len(got), len(back), err)
		}
	})
}

// multicast says whether a packet to an mDNS-like group comes back on a
// network interface of this machine.
func multicast() bool {
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 200), Port: 15353}
	ifs, err := net.Interfaces()
	if err != nil {
		return false
	}
	for _, i := range ifs {
		const want = net.FlagUp | net.FlagMulticast
		if i.Flags&want != want || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		in, err := net.ListenMulticastUDP("udp4", &i, group)
		if err != nil {
			continue
		}
		defer in.Close()
		out, err := net.DialUDP("udp4", nil, group)
		if err != nil {
			continue
		}
		defer out.Close()
		_, _ = out.Write([]byte("weft"))
		_ = in.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if n, _, err := in.ReadFrom(make([]byte, 16)); err == nil && n == 4 {
			return true
		}
	}
	return false
}

func TestMembersOnOneNetworkFindEachOther(t *testing.T) {
	if !multicast() {
		t.Skip("not run: no network interface of this machine returns multicast")
	}
	a, b := pair(t, "0.0.0.0:0")
	for _, n := range []*node{a, b} {
		run(t, n, func(c *Config) { c.NoMDNS = false })
	}
	eventually(t, "connection", connected(a, b))
}

func TestALoopbackNodeIsNotAnnounced(t *testing.T) {
	a, b := pair(t, "127.0.0.1:0")
	if view, ok := a.Announcer(); ok {
		t.Errorf("announced as %v", view)
	}
	run(t, b, func(c *Config) { c.NoMDNS = false })
}

func TestServiceNamesFitTheStandardAndDiffer(t *testing.T) {
	a, b := pair(t, "127.0.0.1:0")
	other, _ := pair(t, "127.0.0.1:0")
	name := ServiceName(a.mesh.ID())
	if name != ServiceName(b.mesh.ID()) || name == ServiceName(other.mesh.ID()) || len(name) != len("_weft-0123456789._udp") {
		t.Errorf("service %q", name)
	}
}
