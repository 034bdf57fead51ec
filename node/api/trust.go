package api

import (
	"context"
	"net/http"
	"time"
)

// Trust is who belongs to the mesh.
type Trust interface {
	// Approve lets in the machine that shows a code.
	Approve(ctx context.Context, r ApproveRequest) (Approval, error)
	// Trusted lists who is in the mesh and who was shut out.
	Trusted(ctx context.Context) ([]Member, error)
	// Revoke shuts a member out.
	Revoke(ctx context.Context, r RevokeRequest) (Member, error)
	// Invitations lists what this node has issued; WithdrawInvitation ends one.
	Invitations(ctx context.Context) ([]Invitation, error)
	WithdrawInvitation(ctx context.Context, r WithdrawRequest) (Invitation, error)
	// BackupRoot encrypts the mesh's root key, RestoreRoot takes it from a
	// backup.
	BackupRoot(ctx context.Context, r BackupRequest) (Backup, error)
	RestoreRoot(ctx context.Context, r RestoreRequest) (Restored, error)
}

// RootKeys does the same for a home where no daemon runs.
type RootKeys interface {
	BackupRoot(ctx context.Context, home string, r BackupRequest) (Backup, error)
	RestoreRoot(ctx context.Context, home string, r RestoreRequest) (Restored, error)
}

// ApproveRequest is a code as a person typed it.
type ApproveRequest struct {
	Code string `json:"code"`
	Role string `json:"role,omitempty"` // default "compute"
}

// Approval says who was let in.
type Approval struct {
	Name   string `json:"name"`
	PeerID string `json:"peer_id"`
	Role   string `json:"role"`
	Mesh   string `json:"mesh"` // name and short id
}

// trustRoutes are below /weft/v1 and served on the local socket only.
func trustRoutes(n Trust) routes {
	return routes{
		"/weft/v1/approve": post(n.Approve),
		"/weft/v1/trust":   get(n.Trusted),
		"/weft/v1/revoke":  post(n.Revoke),

		"/weft/v1/invitations":  get(n.Invitations),
		"/weft/v1/withdraw":     post(n.WithdrawInvitation),
		"/weft/v1/root/backup":  post(n.BackupRoot),
		"/weft/v1/root/restore": post(n.RestoreRoot),
	}
}

// Approve implements Trust.
func (c *Client) Approve(ctx context.Context, r ApproveRequest) (Approval, error) {
	return plain[Approval](ctx, c, http.MethodPost, "approve", r)
}

// Trusted implements Trust.
func (c *Client) Trusted(ctx context.Context) ([]Member, error) {
	return plain[[]Member](ctx, c, http.MethodGet, "trust", nil)
}

// Revoke implements Trust.
func (c *Client) Revoke(ctx context.Context, r RevokeRequest) (Member, error) {
	return plain[Member](ctx, c, http.MethodPost, "revoke", r)
}

// Invitations implements Trust.
func (c *Client) Invitations(ctx context.Context) ([]Invitation, error) {
	return plain[[]Invitation](ctx, c, http.MethodGet, "invitations", nil)
}

// WithdrawInvitation implements Trust.
func (c *Client) WithdrawInvitation(ctx context.Context, r WithdrawRequest) (Invitation, error) {
	return plain[Invitation](ctx, c, http.MethodPost, "withdraw", r)
}

// BackupRoot implements Trust.
func (c *Client) BackupRoot(ctx context.Context, r BackupRequest) (Backup, error) {
	return plain[Backup](ctx, c, http.MethodPost, "root/backup", r)
}

// RestoreRoot implements Trust.
func (c *Client) RestoreRoot(ctx context.Context, r RestoreRequest) (Restored, error) {
	return plain[Restored](ctx, c, http.MethodPost, "root/restore", r)
}

// Invitation is one that this node has issued, without its secret.
type Invitation struct {
	ID      string    `json:"id"`
	Role    string    `json:"role"`
	Uses    int       `json:"uses"`
	Used    int       `json:"used"`
	UsedBy  []string  `json:"used_by,omitempty"` // peer ids
	Expires time.Time `json:"expires"`
	State   string    `json:"state"` // "open", "used up", "expired"
}

// WithdrawRequest names an invitation by its id or the beginning of it.
type WithdrawRequest struct {
	ID string `json:"id"`
}

// BackupRequest asks for a backup of the root key.
type BackupRequest struct {
	Passphrase string `json:"passphrase"`
}

// Backup is an encrypted root key.
type Backup struct {
	File []byte `json:"file"`
	Mesh string `json:"mesh"` // name and short id
}

// RestoreRequest brings a backup.
type RestoreRequest struct {
	File       []byte `json:"file"`
	Passphrase string `json:"passphrase"`
}

// Restored says of which mesh this node holds the root key now.
type Restored struct {
	Mesh string `json:"mesh"`
}

// RevokeRequest names a member by its name or a part of its peer id.
type RevokeRequest struct {
	Peer string `json:"peer"`
	// Since voids also what an admitter signed in this time until now.
	Since time.Duration `json:"since_ns,omitempty"`
}

// Member is somebody whom this node has met in the mesh, or who was revoked.
type Member struct {
	Name         string    `json:"name"`
	PeerID       string    `json:"peer_id"`
	Self         bool      `json:"self"`
	Connected    bool      `json:"connected"`
	Role         string    `json:"role,omitempty"`
	State        string    `json:"state"` // "member", "expired", "revoked", "invalid: why"
	AdmittedBy   string    `json:"admitted_by,omitempty"`
	AdmittedByID string    `json:"admitted_by_id,omitempty"`
	Issued       time.Time `json:"issued,omitzero"`
	Expires      time.Time `json:"expires,omitzero"`
	RevokedAt    time.Time `json:"revoked_at,omitzero"`
	Seen         time.Time `json:"seen,omitzero"`
}
