package host_test

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
)

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

func TestAnExpiredOrRevokedMemberIsDisconnected(t *testing.T) {
	auth := &changing{}
	a := founder(t, func(c *host.Config) { auth.Authority = c.Authority; c.Authority = auth })
	b := start(t)
	b.enlist(t, a, admission.Compute)
	if err := b.Connect(ctx5(t), a.info()); err != nil {
		t.Fatal(err)
	}
	a.Recheck()
	if _, ok := a.Member(b.ID()); !ok {
		t.Fatal("a good member was disconnected")
	}
	auth.refuse.Store(true)
	a.Recheck()
	wait(t, "disconnection", func() bool { _, ok := a.Member(b.ID()); return !ok })
	if err := b.Connect(ctx5(t), a.info()); !errors.Is(err, host.ErrRefused) {
		t.Errorf("connect again: %v", err)
	}
}

// changing is an authority that turns against everybody.
type changing struct {
	host.Authority
	refuse atomic.Bool
}

func (c *changing) Verify(id peer.ID, credential []byte) (admission.Member, error) {
	if c.refuse.Load() {
		return admission.Member{}, errors.New("revoked")
	}
	return c.Authority.Verify(id, credential)
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 15*time.Second {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestASilentStrangerIsDisconnected(t *testing.T) {
	a := founder(t, func(c *host.Config) { c.StrangerTime = 50 * time.Millisecond })
	s := start(t) // belongs to no mesh, so it says no hello
	if err := s.Dial(ctx5(t), a.info()); err != nil {
		t.Fatal(err)
	}
	wait(t, "disconnection", func() bool { return s.Connections() == 0 })
}

func TestStrangersAreBounded(t *testing.T) {
	a := founder(t, func(c *host.Config) { c.MaxStrangers = 2 })
	for range 2 {
		if err := start(t).Dial(ctx5(t), a.info()); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "both are in", func() bool { return a.Connections() == 2 })
	third := start(t)
	if err := third.Dial(ctx5(t), a.info()); err == nil {
		wait(t, "the third is turned away", func() bool { return third.Connections() == 0 })
	}
	if n := a.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestANodeWithoutAMeshAcceptsNobody(t *testing.T) {
	a, b := start(t), founder(t)
	if err := b.Connect(ctx5(t), a.info()); err == nil {
		t.Error("connected")
	}
}

func TestAHostileHelloHarmsNothing(t *testing.T) {
	a := founder(t)
	for name, bytes := range map[string][]byte{
		"huge length": {0xff, 0xff, 0xff, 0xff, 0x7f}, "garbage": {4, 0xff, 0xff, 0xff, 0xff}, "nothing": nil, "empty": {0},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			if err := s.Dial(ctx5(t), a.info()); err != nil {
				t.Fatal(err)
			}
			st, err := s.OpenStranger(ctx5(t), a.ID(), "/weft/hello/1")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = st.Write(bytes)
			_ = st.CloseWrite()
			_, _ = io.ReadAll(st)
			if _, ok := a.Member(s.ID()); ok {
				t.Error("became a member")
			}
		})
	}
}
