package discovery

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
)

// outside starts a DHT of strangers and returns their addresses.
func outside(t *testing.T, n int) []peer.AddrInfo {
	t.Helper()
	var all []peer.AddrInfo
	for range n {
		h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
		if err != nil {
			t.Fatal(err)
		}
		kad, err := dht.New(h, dht.Mode(dht.ModeServer), dht.BootstrapPeers(all...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = kad.Close()
			_ = h.Close()
		})
		for _, other := range all {
			if err := h.Connect(t.Context(), other); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	}
	return all
}

func TestMembersOfDifferentNetworksMeetThroughADHT(t *testing.T) {
	a, b := pair(t, "127.0.0.1:0")
	secret, _ := a.mesh.Secret()
	if err := b.mesh.LearnSecret(secret[:]); err != nil {
		t.Fatal(err)
	}
	public := outside(t, 4)
	for _, n := range []*node{a, b} {
		key, err := host.LoadIdentity(n.dir)
		if err != nil {
			t.Fatal(err)
		}
		run(t, n, func(c *Config) {
			c.Secrets, c.Outside = n.mesh, &Outside{Bootstrap: public[:2], Key: key, Every: 500 * time.Millisecond}
		})
	}
	eventually(t, "connection", connected(a, b))
}

func TestTheSecretGoesFromMemberToMember(t *testing.T) {
	a, b := pair(t, "127.0.0.1:0")
	run(t, a, func(c *Config) { c.Secrets = a.mesh })
	run(t, b, func(c *Config) { c.Secrets, c.Static = b.mesh, a.Addrs() })
	want, _ := a.mesh.Secret()
	eventually(t, "secret", func() bool { got, ok := b.mesh.Secret(); return ok && got == want })
	stranger, _ := pair(t, "127.0.0.1:0")
	if err := stranger.Dial(t.Context(), peer.AddrInfo{ID: a.ID(), Addrs: a.DialAddrs()}); err != nil {
		t.Fatal(err)
	}
	s, err := stranger.OpenStranger(t.Context(), a.ID(), secretProtocol)
	if err != nil {
		return // refused at once
	}
	if n, err := s.Read(make([]byte, 64)); n > 0 || err == nil {
		t.Errorf("a stranger is told %d bytes of the secret", n)
	}
}

func TestADHTTakesASecretAndAnAnswer(t *testing.T) {
	a, b := pair(t, "127.0.0.1:0")
	key, err := host.LoadIdentity(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	nobody := []peer.AddrInfo{{ID: a.ID(), Addrs: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/9")}}}
	d := run(t, b, func(c *Config) { c.Secrets, c.Outside = b.mesh, &Outside{Bootstrap: nobody, Key: key} })
	if err := d.visit(); err == nil || !strings.Contains(err.Error(), "secret") {
		t.Errorf("without the secret: %v", err)
	}
	secret, _ := a.mesh.Secret()
	if err := b.mesh.LearnSecret(secret[:]); err != nil {
		t.Fatal(err)
	}
	if err := d.visit(); err == nil || !strings.Contains(err.Error(), "no node of the DHT answers") {
		t.Errorf("with nobody there: %v", err)
	}
	if _, err := Run(Config{Host: b.Host, Mesh: b.mesh.ID(), Outside: &Outside{Key: key}}); err == nil {
		t.Error("a DHT without bootstrap nodes is accepted")
	}
}

func TestMeetingPointsChangeAndTellNothing(t *testing.T) {
	one, two := admission.Secret{1}, admission.Secret{2}
	noon := time.Unix(1_900_000_000/21600*21600, 0).Add(3 * time.Hour)
	points := func(s admission.Secret, at time.Time) string {
		t.Helper()
		all, err := rendezvous(s, at)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, c := range all {
			text += c.String() + " "
		}
		return strings.TrimSpace(text)
	}
	if points(one, noon) != points(one, noon.Add(time.Hour)) || strings.Contains(points(one, noon), " ") {
		t.Error("the meeting point does not stay")
	}
	if points(one, noon) == points(two, noon) || points(one, noon) == points(one, noon.Add(6*time.Hour)) {
		t.Error("two meshes, or two times, have one meeting point")
	}
	// An hour before and after a change a clock that is off finds the others.
	for _, off := range []time.Duration{-59 * time.Minute, 59 * time.Minute} {
		border := noon.Add(3 * time.Hour)
		ours, theirs := strings.Fields(points(one, border.Add(-off/2))), points(one, border.Add(off/2))
		met := false
		for _, p := range ours {
			met = met || strings.Contains(theirs, p)
		}
		if !met {
			t.Errorf("clocks that are %v apart do not meet", off)
		}
	}
}

func TestAddressesThatPeopleWrite(t *testing.T) {
	const id = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
	for text, want := range map[string]string{
		id + "@192.0.2.7:4710":           "/ip4/192.0.2.7/tcp/4710 /ip4/192.0.2.7/udp/4710/quic-v1",
		id + "@[2001:db8::1]:4710":       "/ip6/2001:db8::1/tcp/4710 /ip6/2001:db8::1/udp/4710/quic-v1",
		" " + id + "@home.example:4710":  "/dns/home.example/tcp/4710 /dns/home.example/udp/4710/quic-v1",
		"/ip4/192.0.2.7/tcp/1/p2p/" + id: "/ip4/192.0.2.7/tcp/1",
	} {
		got, err := ParsePeer(text)
		if err != nil || got.ID.String() != id {
			t.Errorf("%s: %v, %v", text, got, err)
			continue
		}
		var addrs []string
		for _, a := range got.Addrs {
			addrs = append(addrs, a.String())
		}
		if strings.Join(addrs, " ") != want {
			t.Errorf("%s is %v", text, addrs)
		}
	}
	for _, bad := range []string{"", "192.0.2.7:4710", id, id + "@192.0.2.7", id + "@:4710", "x@192.0.2.7:4710", id + "@192.0.2.7:x", "/ip4/192.0.2.7/tcp/1", "/p2p/" + id, "/nonsense"} {
		if got, err := ParsePeer(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
	if nodes, err := ParseBootstrap([]string{PublicDHT, id + "@192.0.2.7:4001"}); err != nil || len(nodes) < 2 {
		t.Errorf("bootstrap nodes %v, %v", nodes, err)
	}
	if _, err := ParseBootstrap([]string{"nobody"}); err == nil {
		t.Error("nobody is a bootstrap node")
	}
}

func TestStaticAddressesAreKeptUntilTheMeshIsLeft(t *testing.T) {
	a, _ := pair(t, "127.0.0.1:0")
	if got, err := LoadStatic(a.dir); err != nil || got != nil {
		t.Errorf("at first %v, %v", got, err)
	}
	want := []string{"192.0.2.7:4710", "home.example:4710"}
	if err := KeepStatic(a.dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadStatic(a.dir); err != nil || !cmp.Equal(got, want) {
		t.Errorf("kept %v, %v", got, err)
	}
	if err := KeepStatic(a.dir, make([]string, maxStatic+1)); err == nil {
		t.Error("too many are kept")
	}
	if err := KeepStatic(a.dir, []string{strings.Repeat("x", maxStaticText+1)}); err == nil {
		t.Error("one that is too long is kept")
	}
	if err := run(t, a, nil).Forget(); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadStatic(a.dir); err != nil || len(got) != 0 {
		t.Errorf("after leaving %v, %v", got, err)
	}
}

func FuzzDecodeStatic(f *testing.F) {
	f.Add([]byte(`["12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp@192.0.2.7:4710"]`))
	f.Add([]byte(`["/ip4/192.0.2.7/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"]`))
	f.Add([]byte(`[1]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		texts, err := decodeStatic(b)
		if err != nil {
			return
		}
		if len(texts) > maxStatic {
			t.Fatalf("%d addresses", len(texts))
		}
		for _, text := range texts {
			if info, err := ParsePeer(text); err == nil && (info.ID == "" || len(info.Addrs) == 0) {
				t.Fatalf("%q is %v", text, info)
			}
		}
	})
}
