package host_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is one member or stranger with a home of its own.
type node struct {
	*host.Host
	mesh *admission.Mesh
}

func start(t *testing.T, change ...func(*host.Config)) *node {
	t.Helper()
	dir := t.TempDir()
	key, err := host.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	mesh, err := admission.Open(admission.Config{Dir: dir, Identity: key})
	if err != nil {
		t.Fatal(err)
	}
	cfg := host.Config{Key: key, Authority: mesh, Listen: "127.0.0.1:0", Wire: 1, Contract: 1, Software: "test"}
	for _, c := range change {
		c(&cfg)
	}
	h, err := host.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return &node{h, mesh}
}

func founder(t *testing.T, change ...func(*host.Config)) *node {
	t.Helper()
	n := start(t, change...)
	if err := n.mesh.Found("test"); err != nil {
		t.Fatal(err)
	}
	return n
}

// enlist makes n a member without a joining protocol.
func (n *node) enlist(t *testing.T, by *node, role admission.Role) {
	t.Helper()
	c, err := by.mesh.Issue(n.ID(), role)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.mesh.Adopt(by.mesh.ID(), "test", c); err != nil {
		t.Fatal(err)
	}
}

func (n *node) info() peer.AddrInfo { return peer.AddrInfo{ID: n.ID(), Addrs: n.DialAddrs()} }

func ctx5(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func echo(s network.Stream) {
	defer s.Close()
	_, _ = io.Copy(s, s)
}

func TestMembersTalkInBothDirectionsAfterOneHello(t *testing.T) {
	a := founder(t)
	b := start(t)
	b.enlist(t, a, admission.Compute)
	a.Handle("/test/echo/1", echo)
	b.Handle("/test/echo/1", echo)
	if err := b.Connect(ctx5(t), a.info()); err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]*node{{a, b}, {b, a}} {
		s, err := pair[0].OpenStream(ctx5(t), pair[1].ID(), "/test/echo/1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		_ = s.CloseWrite()
		got, err := io.ReadAll(s)
		if err != nil || string(got) != "hello" {
			t.Fatalf("echo %q, %v", got, err)
		}
	}
	m, ok := a.Member(b.ID())
	if !ok || m.Role != admission.Compute || m.Wire != 1 || m.Software != "test" {
		t.Fatalf("member %+v %v", m, ok)
	}
}

func TestEventsTellWhoComesAndGoes(t *testing.T) {
	a := founder(t)
	b := start(t)
	b.enlist(t, a, admission.Client)
	events, stop := a.Watch()
	defer stop()
	if err := b.Connect(ctx5(t), a.info()); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != host.Connected || e.Member.ID != b.ID() || e.Member.Role != admission.Client {
		t.Errorf("first %+v", e)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != host.Disconnected || e.Member.ID != b.ID() {
		t.Errorf("second %+v", e)
	}
	if len(a.Members()) != 0 || len(a.Admitters()) != 0 {
		t.Errorf("members %v", a.Members())
	}
}

func TestSimultaneousDialsEndInMembership(t *testing.T) {
	a := founder(t)
	b := start(t)
	b.enlist(t, a, admission.Compute)
	errs := make(chan error, 2)
	go func() { errs <- a.Connect(ctx5(t), b.info()) }()
	go func() { errs <- b.Connect(ctx5(t), a.info()) }()
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestQUICReachesWhereTCPDoesNot(t *testing.T) {
	a := founder(t, func(c *host.Config) { c.NoTCP = true })
	b := start(t)
	b.enlist(t, a, admission.Compute)
	a.Handle("/test/echo/1", echo)
	if err := b.Connect(ctx5(t), a.info()); err != nil {
		t.Fatal(err)
	}
	s, err := b.OpenStream(ctx5(t), a.ID(), "/test/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	if addr := s.Conn().RemoteMultiaddr().String(); !strings.Contains(addr, "quic") {
		t.Errorf("over %s", addr)
	}
}

func TestAStreamPrefersTCP(t *testing.T) {
	a := founder(t)
	b := start(t)
	b.enlist(t, a, admission.Compute)
	a.Handle("/test/echo/1", echo)
	var quic peer.AddrInfo
	quic.ID = a.ID()
	for _, addr := range a.DialAddrs() {
		if strings.Contains(addr.String(), "quic") {
			quic.Addrs = append(quic.Addrs, addr)
		}
	}
	if err := b.Connect(ctx5(t), quic); err != nil {
		t.Fatal(err)
	}
	b.enlist(t, a, admission.Compute)
	if err := a.Connect(ctx5(t), b.info()); err != nil { // already connected: reuses it
		t.Fatal(err)
	}
	s, err := b.OpenStream(ctx5(t), a.ID(), "/test/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Reset()
	other := start(t)
	other.enlist(t, a, admission.Compute)
	if s, err = other.openWith(t, a); err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	if addr := s.Conn().RemoteMultiaddr().String(); !strings.Contains(addr, "/tcp/") {
		t.Errorf("over %s", addr)
	}
}

func (n *node) openWith(t *testing.T, to *node) (network.Stream, error) {
	n.SetAddrs(to.ID(), to.DialAddrs(), time.Minute)
	return n.OpenStream(ctx5(t), to.ID(), "/test/echo/1")
}

func TestErrorsOfStreamsNameProtocolAndPeer(t *testing.T) {
	a := founder(t)
	b := start(t)
	b.enlist(t, a, admission.Compute)
	if _, err := b.OpenStream(ctx5(t), a.ID(), "/test/none/1"); err == nil || !strings.Contains(err.Error(), "/test/none/1") {
		t.Errorf("no address: %v", err)
	}
	if _, err := b.OpenStranger(ctx5(t), a.ID(), "/test/none/1"); !errors.Is(err, network.ErrNoConn) {
		t.Errorf("no connection: %v", err)
	}
	if err := b.Connect(ctx5(t), a.info()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.OpenStream(ctx5(t), a.ID(), "/test/none/1"); err == nil || !strings.Contains(err.Error(), a.ID().String()) {
		t.Errorf("unknown protocol: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.OpenStream(ctx, a.ID(), "/test/none/1"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := b.Connect(ctx5(t), b.info()); err == nil {
		t.Error("connected to itself")
	}
}

func TestTwoHostsCannotShareAPort(t *testing.T) {
	a := start(t)
	port, err := a.DialAddrs()[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	key, err := host.LoadIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = host.New(t.Context(), host.Config{Key: key, Authority: a.mesh, Listen: "127.0.0.1:" + port})
	if !errors.Is(err, host.ErrPortInUse) || !strings.Contains(err.Error(), port) {
		t.Errorf("got %v", err)
	}
}

func TestAHostNeedsItsConfig(t *testing.T) {
	key, err := host.LoadIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	mesh, err := admission.Open(admission.Config{Dir: t.TempDir(), Identity: key})
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, cfg := range map[string]host.Config{
		"key": {Authority: mesh}, "authority": {Key: key}, "transport": {Key: key, Authority: mesh, NoQUIC: true, NoTCP: true},
		"listen": {Key: key, Authority: mesh}, "context": {Key: key, Authority: mesh, Listen: "127.0.0.1:0"},
	} {
		if h, err := host.New(cancelled, cfg); err == nil {
			_ = h.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFullAddressesNameThePeer(t *testing.T) {
	a := founder(t)
	for _, addr := range a.Addrs() {
		info, err := peer.AddrInfoFromP2pAddr(addr)
		if err != nil || info.ID != a.ID() || len(info.Addrs) != 1 {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if len(a.Addrs()) != 2 {
		t.Errorf("addresses %v", a.Addrs())
	}
	if self, err := a.Self(); err != nil || self.Role != admission.Admitter {
		t.Errorf("self %+v, %v", self, err)
	}
	if _, err := start(t).Self(); !errors.Is(err, admission.ErrNoMesh) {
		t.Errorf("self of a stranger: %v", err)
	}
}

func TestARefreshShowsTheNewCertificate(t *testing.T) {
	a := founder(t)
	b := start(t)
	b.enlist(t, a, admission.Client)
	if err := b.Connect(ctx5(t), a.info()); err != nil {
		t.Fatal(err)
	}
	b.enlist(t, a, admission.Admitter)
	b.Refresh()
	wait(t, "the new role is known", func() bool { m, _ := a.Member(b.ID()); return m.Role == admission.Admitter })
	if ids := a.Admitters(); len(ids) != 1 || ids[0] != b.ID() {
		t.Errorf("admitters %v", ids)
	}
	if len(b.KnownAddrs(a.ID())) == 0 {
		t.Error("no address is known")
	}
}

func TestTheAnnouncedViewHasNoLoopback(t *testing.T) {
	a := start(t, func(c *host.Config) { c.Listen = "0.0.0.0:0" })
	view, ok := a.Announcer()
	addrs, err := view.Network().InterfaceListenAddresses()
	if err != nil || view.ID() != a.ID() || ok != (len(addrs) > 0) {
		t.Errorf("view %v %v %v", addrs, ok, err)
	}
	for _, addr := range addrs {
		if strings.Contains(addr.String(), "127.0.0.1") {
			t.Errorf("announces %s", addr)
		}
	}
}

func TestAClosedHostServesAndReportsNothing(t *testing.T) {
	a := founder(t)
	events, _ := a.Watch()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-events; ok {
		t.Error("an event after the end")
	}
	if err := a.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if err := a.Connect(ctx5(t), start(t).info()); err == nil {
		t.Error("a closed host connected")
	}
}
