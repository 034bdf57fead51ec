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
