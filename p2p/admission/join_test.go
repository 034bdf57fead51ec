package admission_test

import (
	"bufio"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a settable time for several nodes.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

type node struct {
	*host.Host
	mesh    *admission.Mesh
	service *admission.Service
	key     crypto.PrivKey
}

func start(t *testing.T, c *clock) *node {
	t.Helper()
	dir := t.TempDir()
	key, err := host.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	mesh, err := admission.Open(admission.Config{Dir: dir, Identity: key, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(t.Context(), host.Config{Key: key, Authority: mesh, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	invites, err := admission.OpenInvitations(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{h, mesh, admission.Serve(h, mesh, invites, nil), key}
	t.Cleanup(func() { _ = n.service.Close(); _ = n.Close() })
	return n
}

func found(t *testing.T, c *clock) *node {
	t.Helper()
	n := start(t, c)
	if err := n.mesh.Found("home"); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) invite(t *testing.T, role admission.Role, uses int) *admission.Token {
	t.Helper()
	token, err := n.service.Invite(role, uses, time.Hour, n.DialAddrs())
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := admission.ParseToken(token.String())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func (n *node) join(t *testing.T, token *admission.Token) error {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return admission.Join(ctx, n.Host, n.mesh, token, "test", admission.Versions{Wire: 1, Contract: 1})
}

func atNow() *clock { return &clock{at: time.Now()} }

func TestAnInvitedNodeBecomesAMember(t *testing.T) {
	c := atNow()
	a, b := found(t, c), start(t, c)
	if err := b.join(t, a.invite(t, admission.Compute, 1)); err != nil {
		t.Fatal(err)
	}
	self, err := b.mesh.Self()
	if err != nil || self.Role != admission.Compute || b.mesh.ID() != a.mesh.ID() || b.mesh.Name() != "home" || b.mesh.HoldsRoot() {
		t.Errorf("self %+v %v", self, err)
	}
	if m, ok := a.Member(b.ID()); !ok || m.Role != admission.Compute {
		t.Errorf("the inviter sees %+v %v", m, ok)
	}
	if m, ok := b.Member(a.ID()); !ok || m.Role != admission.Admitter {
		t.Errorf("the invited sees %+v %v", m, ok)
	}
}

func TestEveryBadTokenHasItsOwnError(t *testing.T) {
	c := atNow()
	a := found(t, c)
	used := a.invite(t, admission.Compute, 1)
	if err := start(t, c).join(t, used); err != nil {
		t.Fatal(err)
	}
	wrong := a.invite(t, admission.Compute, 1)
	wrong.Secret[0] ^= 1
	unknown := a.invite(t, admission.Compute, 1)
	unknown.Invitation[0] ^= 1
	expired := a.invite(t, admission.Compute, 1)
	expired.Expires = expired.Expires.Add(-3 * time.Hour)
	otherMesh := a.invite(t, admission.Compute, 1)
	otherMesh.Mesh[0] ^= 1
	otherPeer := a.invite(t, admission.Compute, 1)
	otherPeer.Inviter = found(t, c).ID()
	for name, tc := range map[string]struct {
		token *admission.Token
		want  error
	}{
		"used": {used, admission.ErrInvitationUsed}, "wrong secret": {wrong, admission.ErrInvitationUnknown},
		"unknown": {unknown, admission.ErrInvitationUnknown}, "expired": {expired, admission.ErrInvitationExpired},
		"another mesh": {otherMesh, admission.ErrRogueMesh},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, c)
			if err := b.join(t, tc.token); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if b.mesh.Joined() {
				t.Error("joined")
			}
		})
	}
	if err := start(t, c).join(t, otherPeer); err == nil {
		t.Error("another peer at the address was taken for the inviter")
	}
	if err := a.join(t, a.invite(t, admission.Compute, 1)); err == nil {
		t.Error("a node joined by its own token")
	}
	late := a.invite(t, admission.Compute, 1)
	c.pass(90 * time.Minute) // within the skew of the joiner, past the inviter's
	if err := start(t, c).join(t, late); !errors.Is(err, admission.ErrInvitationExpired) {
		t.Errorf("late: %v", err)
	}
}

func TestAMemberOfAnotherMeshMustLeaveFirst(t *testing.T) {
	c := atNow()
	a, b := found(t, c), found(t, c)
	if err := b.join(t, a.invite(t, admission.Compute, 1)); !errors.Is(err, admission.ErrAlreadyMember) {
		t.Errorf("got %v", err)
	}
}

func TestAnUnreachableInviterIsNamed(t *testing.T) {
	c := atNow()
	a := found(t, c)
	token := a.invite(t, admission.Compute, 1)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	err := start(t, c).join(t, token)
	if err == nil || !strings.Contains(err.Error(), a.ID().String()) {
		t.Errorf("got %v", err)
	}
}

func TestOnlyAdmittersInvite(t *testing.T) {
	c := atNow()
	a, b := found(t, c), start(t, c)
	if _, err := b.service.Invite(admission.Compute, 1, time.Hour, b.DialAddrs()); !errors.Is(err, admission.ErrNoMesh) {
		t.Errorf("a stranger invites: %v", err)
	}
	if err := b.join(t, a.invite(t, admission.Compute, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.service.Invite(admission.Compute, 1, time.Hour, b.DialAddrs()); !errors.Is(err, admission.ErrNotAdmitter) {
		t.Errorf("a plain member invites: %v", err)
	}
	if _, err := a.service.Invite(admission.Role(9), 1, time.Hour, a.DialAddrs()); err == nil {
		t.Error("an unknown role")
	}
	if _, err := a.service.Invite(admission.Compute, 1, time.Hour, nil); err == nil {
		t.Error("a token without addresses")
	}
	if _, err := a.service.Invite(admission.Compute, 1, -time.Hour, a.DialAddrs()); err == nil {
		t.Error("a token that has expired")
	}
}

func TestTheMeshOutlivesItsFounder(t *testing.T) {
	c := atNow()
	a, b, d := found(t, c), start(t, c), start(t, c)
	if err := b.join(t, a.invite(t, admission.Admitter, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.service.Invite(admission.Admitter, 1, time.Hour, b.DialAddrs()); !errors.Is(err, admission.ErrNoRoot) {
		t.Errorf("an admitter without root invites an admitter: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.join(t, b.invite(t, admission.Client, 1)); err != nil {
		t.Fatal(err)
	}
	if self, err := d.mesh.Self(); err != nil || self.Role != admission.Client {
		t.Errorf("%+v, %v", self, err)
	}
}

func TestAMemberRenewsAtAnyAdmitterAndOthersLearnIt(t *testing.T) {
	c := atNow()
	a, b := found(t, c), start(t, c)
	if err := b.join(t, a.invite(t, admission.Compute, 1)); err != nil {
		t.Fatal(err)
	}
	if err := b.service.Renew(t.Context()); err == nil {
		t.Error("a fresh certificate was renewed")
	}
	before, _ := b.mesh.Self()
	c.pass(8 * 24 * time.Hour)
	if err := b.service.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := b.mesh.Self()
	if err != nil || !after.Expires.After(before.Expires.Add(7*24*time.Hour)) || after.Role != admission.Compute {
		t.Fatalf("after %+v, %v", after, err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		if m, ok := a.Member(b.ID()); ok && m.Expires.Equal(after.Expires) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the admitter never saw the new certificate")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := a.service.Renew(t.Context()); err != nil {
		t.Errorf("the founder renews itself: %v", err)
	}
	if err := start(t, c).service.Renew(t.Context()); !errors.Is(err, admission.ErrNoMesh) {
		t.Errorf("a stranger renews: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	c.pass(8 * 24 * time.Hour)
	waitGone(t, b, a.ID())
	if err := b.service.Renew(t.Context()); err == nil {
		t.Error("renewed without an admitter")
	}
}

func waitGone(t *testing.T, n *node, id peer.ID) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, ok := n.Member(id); !ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("still connected")
		}
	}
}

// TestTheSecretIsNotShownToARogueMesh has the inviter's own address answered
// by a node with the inviter's key but a credential of another root.
func TestTheSecretIsNotShownToARogueMesh(t *testing.T) {
	c := atNow()
	a := found(t, c)
	token := a.invite(t, admission.Compute, 1)
	other := found(t, c)
	foreign, err := other.mesh.Issue(a.ID(), admission.Admitter)
	if err != nil {
		t.Fatal(err)
	}
	for name, credential := range map[string][]byte{"of another root": foreign, "malformed": {1, 2, 3}, "none": nil} {
		t.Run(name, func(t *testing.T) {
			got := make(chan int, 1)
			a.RemoveHandler(admission.JoinProtocol)
			a.HandleStranger(admission.JoinProtocol, func(s network.Stream) {
				defer s.Close()
				_ = s.SetDeadline(time.Now().Add(3 * time.Second))
				r := bufio.NewReader(s)
				var start weftv1.JoinStart
				if err := protodelim.UnmarshalFrom(r, &start); err != nil || r.Buffered() > 0 {
					t.Errorf("start %v with %d bytes behind it", err, r.Buffered())
				}
				_, _ = protodelim.MarshalTo(s, &weftv1.JoinOffer{Status: weftv1.JoinStatus_JOIN_STATUS_OK, Credential: credential})
				n, _ := r.Read(make([]byte, 256))
				got <- n
			})
			b := start(t, c)
			if err := b.join(t, token); !errors.Is(err, admission.ErrRogueMesh) {
				t.Errorf("got %v", err)
			}
			if n := <-got; n != 0 {
				t.Errorf("%d bytes were shown to a rogue mesh", n)
			}
		})
	}
}

// TestAHostileJoinerHarmsNothing sends what no joiner would.
func TestAHostileJoinerHarmsNothing(t *testing.T) {
	c := atNow()
	a := found(t, c)
	id := a.mesh.ID()
	for name, send := range map[string]func(s network.Stream){
		"huge length": func(s network.Stream) { _, _ = s.Write([]byte{0xff, 0xff, 0xff, 0xff, 0x7f}) },
		"garbage":     func(s network.Stream) { _, _ = s.Write([]byte{5, 0xff, 0xff, 0xff, 0xff, 0xff}) },
		"hang up":     func(s network.Stream) { _ = s.Reset() },
		"wrong mesh":  func(s network.Stream) { _, _ = protodelim.MarshalTo(s, &weftv1.JoinStart{Mesh: []byte("x")}) },
		"empty proof": func(s network.Stream) {
			_, _ = protodelim.MarshalTo(s, &weftv1.JoinStart{Mesh: id[:]})
			_, _ = protodelim.MarshalTo(s, &weftv1.JoinProof{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, c)
			if err := b.Dial(t.Context(), peer.AddrInfo{ID: a.ID(), Addrs: a.DialAddrs()}); err != nil {
				t.Fatal(err)
			}
			s, err := b.OpenStranger(t.Context(), a.ID(), admission.JoinProtocol)
			if err != nil {
				t.Fatal(err)
			}
			send(s)
			_ = s.CloseWrite()
			_ = s.SetReadDeadline(time.Now().Add(5 * time.Second))
			buf := make([]byte, 4096)
			for {
				if _, err := s.Read(buf); err != nil {
					break
				}
			}
			_ = s.Reset()
		})
	}
	if err := start(t, c).join(t, a.invite(t, admission.Compute, 1)); err != nil {
		t.Errorf("joining afterwards: %v", err)
	}
}

func TestAFloodOfJoiningsIsHeldOff(t *testing.T) {
	c := atNow()
	a, b := found(t, c), start(t, c)
	token := a.invite(t, admission.Compute, 1)
	token.Secret[0] ^= 1
	for range 100 {
		if err := b.join(t, token); errors.Is(err, admission.ErrBusy) {
			return
		}
	}
	t.Error("100 attempts in a row were answered")
}
