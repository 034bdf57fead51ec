package node

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
	"github.com/weft-mesh/weft/shard/store"
)

// BackupRoot implements api.Trust.
func (n *Node) BackupRoot(_ context.Context, r api.BackupRequest) (api.Backup, error) {
	if n.mesh == nil {
		return api.Backup{}, errNoMesh()
	}
	return backupRoot(n.mesh.admission, r)
}

// RestoreRoot implements api.Trust.
func (n *Node) RestoreRoot(_ context.Context, r api.RestoreRequest) (api.Restored, error) {
	if n.mesh == nil {
		return api.Restored{}, errNoMesh()
	}
	out, err := restoreRoot(n.mesh.admission, r)
	if err == nil {
		n.mesh.host.Refresh() // shows the admitter that this node is now
		n.changed()
	}
	return out, err
}

func backupRoot(m *admission.Mesh, r api.BackupRequest) (api.Backup, error) {
	file, err := m.Backup(r.Passphrase)
	if err != nil {
		return api.Backup{}, api.Errorf(api.KindForbidden, "%w", err)
	}
	return api.Backup{File: file, Mesh: m.Name() + " (" + m.ID().Short() + ")"}, nil
}

func restoreRoot(m *admission.Mesh, r api.RestoreRequest) (api.Restored, error) {
	b, err := admission.OpenBackup(r.File, r.Passphrase)
	if err != nil {
		return api.Restored{}, api.Errorf(api.KindInvalid, "%w", err)
	}
	if err := m.Restore(b); err != nil {
		return api.Restored{}, api.Errorf(api.KindConflict, "%w", err)
	}
	return api.Restored{Mesh: m.Name() + " (" + m.ID().Short() + ")"}, nil
}

// RootKeys is api.RootKeys for a home where no daemon runs.
type RootKeys struct{}

// BackupRoot implements api.RootKeys.
func (RootKeys) BackupRoot(_ context.Context, home string, r api.BackupRequest) (out api.Backup, err error) {
	err = withMembership(home, func(m *admission.Mesh) error {
		out, err = backupRoot(m, r)
		return err
	})
	return out, err
}

// RestoreRoot implements api.RootKeys.
func (RootKeys) RestoreRoot(_ context.Context, home string, r api.RestoreRequest) (out api.Restored, err error) {
	err = withMembership(home, func(m *admission.Mesh) error {
		out, err = restoreRoot(m, r)
		return err
	})
	return out, err
}

// withMembership opens a home's membership while no daemon may.
func withMembership(home string, f func(*admission.Mesh) error) error {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return fmt.Errorf("open the home: %w; choose another directory with WEFT_HOME", err)
	}
	lock, err := store.Lock(home)
	if err != nil {
		return err
	}
	key, err := host.LoadIdentity(home)
	if err == nil {
		var m *admission.Mesh
		if m, err = admission.Open(admission.Config{Dir: home, Identity: key}); err == nil {
			err = f(m)
		}
	}
	return errors.Join(err, lock.Unlock())
}

// Invitations implements api.Trust.
func (n *Node) Invitations(context.Context) ([]api.Invitation, error) {
	if n.mesh == nil {
		return nil, errNoMesh()
	}
	var out []api.Invitation
	for _, v := range n.mesh.invites.List() {
		out = append(out, n.invitationOf(v))
	}
	return out, nil
}

// WithdrawInvitation implements api.Trust.
func (n *Node) WithdrawInvitation(_ context.Context, r api.WithdrawRequest) (api.Invitation, error) {
	if n.mesh == nil {
		return api.Invitation{}, errNoMesh()
	}
	v, err := n.mesh.invites.Withdraw(r.ID)
	if err != nil {
		return api.Invitation{}, api.Errorf(api.KindNotFound, "%w; `weft invite --list` shows those of this node", err)
	}
	return n.invitationOf(v), nil
}

func (n *Node) invitationOf(v admission.Invitation) api.Invitation {
	out := api.Invitation{ID: v.ID, Role: v.Role, Uses: v.MaxUses, Used: len(v.UsedBy), UsedBy: v.UsedBy, Expires: v.Expires, State: "open"}
	switch {
	case n.now().After(v.Expires):
		out.State = "expired"
	case out.Used >= out.Uses:
		out.State = "used up"
	}
	return out
}
