package admission_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
)

func (n *node) connect(t *testing.T, to *node) error {
	t.Helper()
	return n.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.DialAddrs()})
}

// TestARevokedMemberIsCutOffEverywhere revokes at one node and looks at a
// stream between two others.
func TestARevokedMemberIsCutOffEverywhere(t *testing.T) {
	c := atNow()
	a := found(t, c)
	b, out := enlisted(t, c, a, admission.Compute), enlisted(t, c, a, admission.Compute)
	b.Handle("/test/hold/1", func(s network.Stream) { _, _ = io.Copy(s, s) })
	if err := out.connect(t, b); err != nil {
		t.Fatal(err)
	}
	s, err := out.OpenStream(t.Context(), b.ID(), "/test/hold/1")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := a.service.Revoke(out.ID(), 0, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("the stream goes on")
	}
	waitGone(t, a, out.ID())
	waitGone(t, b, out.ID())
	t.Logf("cut off everywhere after %v", time.Since(begin).Round(time.Millisecond))
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	for { // at first it may still see the connection that ends
		err := out.connect(t, b)
		if errors.Is(err, host.ErrRefused) {
			break
		}
		if time.Since(begin) > 5*time.Second {
			t.Fatalf("it comes back: %v", err)
		}
		if _, ok := b.Member(out.ID()); ok {
			t.Fatal("it is a member again")
		}
	}
	if _, err := out.mesh.Self(); !errors.Is(err, admission.ErrRevoked) {
		t.Errorf("it does not know why: %v", err)
	}
	// The other two go on.
	if err := b.connect(t, a); err != nil {
		t.Error(err)
	}
	if _, ok := a.Member(b.ID()); !ok {
		t.Error("a member that was not revoked is gone")
	}
}

// TestRevocationsAreHeardBeforeAnythingElse has one node learn of a revocation
// by a contact in either direction: when the contact stands, it knows.
func TestRevocationsAreHeardBeforeAnythingElse(t *testing.T) {
	for _, dials := range []string{"who knows", "who does not"} {
		t.Run(dials, func(t *testing.T) {
			c := atNow()
			a := found(t, c)
			b, out := start(t, c), start(t, c)
			for _, n := range []*node{b, out} { // members that a has never met
				credential, err := a.mesh.Issue(n.ID(), admission.Compute)
				if err != nil {
					t.Fatal(err)
				}
				if err := n.mesh.Adopt(a.mesh.ID(), "home", credential); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := a.service.Revoke(out.ID(), 0, time.Time{}); err != nil {
				t.Fatal(err)
			}
			if _, err := b.mesh.Verify(out.ID(), out.mesh.Credential()); err != nil {
				t.Fatalf("before: %v", err)
			}
			from, to := a, b
			if dials == "who does not" {
				from, to = b, a
			}
			if err := from.connect(t, to); err != nil {
				t.Fatal(err)
			}
			if _, err := b.mesh.Verify(out.ID(), out.mesh.Credential()); !errors.Is(err, admission.ErrRevoked) {
				t.Errorf("after: %v", err)
			}
			if err := out.connect(t, b); err == nil {
				t.Error("the revoked one is served")
			}
		})
	}
}

func TestWhoIsRevokedGetsNoNewCertificate(t *testing.T) {
	c := atNow()
	a := found(t, c)
	b := enlisted(t, c, a, admission.Compute)
	c.pass(8 * 24 * time.Hour)
	if _, err := a.mesh.Revoke(b.ID(), admission.Compute, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := b.service.Renew(t.Context()); err == nil {
		t.Error("renewed")
	}
	d := ask(t, c, "d", nil, a)
	w := d.code(t, 1)
	if _, err := a.mesh.Revoke(d.ID(), 0, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.service.Approve(t.Context(), w.Code, admission.Compute); !errors.Is(err, admission.ErrRevoked) {
		t.Errorf("let in by a code: %v", err)
	}
}

func TestTheRosterRemembersWhoWasMet(t *testing.T) {
	c := atNow()
	a := found(t, c)
	b, away := enlisted(t, c, a, admission.Compute), enlisted(t, c, a, admission.Client)
	dir := t.TempDir()
	r, err := admission.OpenRoster(dir)
	if err != nil {
		t.Fatal(err)
	}
	met := []admission.Known{
		{Peer: a.ID(), Name: "a", Credential: a.mesh.Credential(), Seen: c.now()},
		{Peer: b.ID(), Name: "b", Credential: a.Credential(b.ID()), Seen: c.now()},
		{Peer: away.ID(), Name: "away\x1b[31m", Credential: a.Credential(away.ID()), Seen: c.now()},
	}
	if err := r.Note(met); err != nil {
		t.Fatal(err)
	}
	if err := r.Note([]admission.Known{{Peer: b.ID(), Credential: a.Credential(b.ID()), Seen: c.now()}}); err != nil { // its name is not known yet
		t.Fatal(err)
	}
	if r, err = admission.OpenRoster(dir); err != nil { // a restart
		t.Fatal(err)
	}
	if _, err := a.mesh.Revoke(away.ID(), 0, time.Time{}); err != nil {
		t.Fatal(err)
	}
	stranger := start(t, c)
	if _, err := a.mesh.Revoke(stranger.ID(), 0, time.Time{}); err != nil {
		t.Fatal(err)
	}
	got := map[peer.ID]admission.Standing{}
	for _, s := range a.mesh.Standings(r.List()) {
		got[s.Peer] = s
	}
	if s := got[a.ID()]; s.Role != admission.Admitter || s.Issuer != "" || s.Why != nil {
		t.Errorf("the founder: %+v", s)
	}
	if s := got[b.ID()]; s.Role != admission.Compute || s.Issuer != a.ID() || s.Why != nil || s.Name != "b" {
		t.Errorf("a member: %+v", s)
	}
	if s := got[away.ID()]; !errors.Is(s.Why, admission.ErrRevoked) || s.RevokedAt.IsZero() || s.Name != "away[31m" {
		t.Errorf("a revoked member: %+v", s)
	}
	if s := got[stranger.ID()]; !errors.Is(s.Why, admission.ErrRevoked) || s.RevokedAt.IsZero() {
		t.Errorf("somebody who was never met: %+v", s)
	}
	if err := r.Clear(); err != nil || len(r.List()) != 0 {
		t.Errorf("cleared: %v", err)
	}
}
