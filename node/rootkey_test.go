package node_test

import (
	"testing"
	"time"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

// TestAMemberTakesTheLostFoundersPlace backs the root key up, loses the
// founder, and restores the key on a member that runs and in a fresh home.
func TestAMemberTakesTheLostFoundersPlace(t *testing.T) {
	nodes := together(t, api.Config{Name: "a", Memory: -1}, api.Config{Name: "b", Memory: -1}, api.Config{Name: "c", Memory: -1})
	a, b, c := nodes[0].Node(), nodes[1].Node(), nodes[2].Node()
	const pass = "correct horse battery"
	file, err := a.BackupRoot(t.Context(), api.BackupRequest{Passphrase: pass})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.BackupRoot(t.Context(), api.BackupRequest{Passphrase: pass}); kindOf(err) != api.KindForbidden {
		t.Errorf("a member backs up what it has not: %v", err)
	}
	if _, err := b.RestoreRoot(t.Context(), api.RestoreRequest{File: file.File, Passphrase: "wrong horse battery"}); kindOf(err) != api.KindInvalid {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if err := nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	see(t, 2, nodes[1:]...)
	got, err := b.RestoreRoot(t.Context(), api.RestoreRequest{File: file.File, Passphrase: pass})
	if err != nil || got.Mesh != file.Mesh {
		t.Fatalf("%+v, %v", got, err)
	}
	for deadline := time.Now().Add(10 * time.Second); trusted(t, nodes[2])["b"].Role != "admitter"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the others do not see the new admitter")
		}
	}
	// It makes an admitter, as the founder could.
	token := invite(t, nodes[1], api.InviteRequest{Uses: 1, Role: "admitter"})
	d := start(t, api.Config{Name: "d", Memory: -1, Join: token})
	if s, err := d.Node().Status(t.Context()); err != nil || s.Role != "admitter" {
		t.Errorf("whom it appoints: %+v, %v", s, err)
	}
	// A fresh home, where no daemon runs.
	home := t.TempDir()
	if _, err := (node.RootKeys{}).BackupRoot(t.Context(), home, api.BackupRequest{Passphrase: pass}); kindOf(err) != api.KindForbidden {
		t.Errorf("a home without a mesh: %v", err)
	}
	fresh, err := (node.RootKeys{}).RestoreRoot(t.Context(), home, api.RestoreRequest{File: file.File, Passphrase: pass})
	if err != nil || fresh.Mesh != file.Mesh {
		t.Fatalf("%+v, %v", fresh, err)
	}
	s, err := b.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := start(t, api.Config{Name: "e", Memory: -1, Home: home, Peers: s.Addrs[:1]})
	see(t, 4, nodes[1], nodes[2], d, e)
	if _, err := c.Revoke(t.Context(), api.RevokeRequest{Peer: "b"}); kindOf(err) != api.KindForbidden {
		t.Errorf("a plain member revokes an admitter: %v", err)
	}
}

func TestInvitationsAreListedAndWithdrawn(t *testing.T) {
	a := start(t, api.Config{Name: "a", Memory: -1})
	used := invite(t, a, api.InviteRequest{Uses: 1, Role: "client"})
	start(t, api.Config{Name: "b", Memory: -1, Join: used})
	open := invite(t, a, api.InviteRequest{Uses: 2})
	list, err := a.Node().Invitations(t.Context())
	if err != nil || len(list) != 2 || list[0].State != "used up" || list[0].Role != "client" || list[1].State != "open" || list[1].Uses != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := a.Node().WithdrawInvitation(t.Context(), api.WithdrawRequest{ID: "zz"}); kindOf(err) != api.KindNotFound {
		t.Errorf("one that is not there: %v", err)
	}
	if _, err := a.Node().WithdrawInvitation(t.Context(), api.WithdrawRequest{ID: list[1].ID[:8]}); err != nil {
		t.Fatal(err)
	}
	if _, err := tryStart(t, api.Config{Name: "c", Memory: -1, Join: open}); kindOf(err) != api.KindForbidden {
		t.Errorf("joined by a withdrawn invitation: %v", err)
	}
}
