package host_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
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

func TestAStrangerIsResetBeforeAnythingIsRead(t *testing.T) {
	a := founder(t)
	var ran bool
	a.Handle("/test/echo/1", func(s network.Stream) { ran = true; echo(s) })
	for name, s := range map[string]*node{"without a mesh": start(t), "of another mesh": founder(t)} {
		t.Run(name, func(t *testing.T) {
			if err := s.Dial(ctx5(t), a.info()); err != nil {
				t.Fatal(err)
			}
			if err := s.Connect(ctx5(t), a.info()); !errors.Is(err, host.ErrRefused) && !errors.Is(err, host.ErrStranger) {
				t.Errorf("connect: %v", err)
			}
			if err := s.Dial(ctx5(t), a.info()); err != nil {
				t.Fatal(err)
			}
			st, err := s.OpenStranger(ctx5(t), a.ID(), "/test/echo/1")
			if err == nil {
				_, _ = st.Write([]byte("x"))
				if _, err := st.Read(make([]byte, 1)); err == nil || err == io.EOF {
					t.Errorf("read: %v", err)
				}
			}
			if _, ok := a.Member(s.ID()); ok {
				t.Error("listed as a member")
			}
		})
	}
	if ran {
		t.Error("the handler ran for a stranger")
	}
}
