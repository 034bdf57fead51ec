package api

import (
	"context"
	"net/http"
)

// Trust is who belongs to the mesh.
type Trust interface {
	// Approve lets in the machine that shows a code.
	Approve(ctx context.Context, r ApproveRequest) (Approval, error)
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
	}
}

// Approve implements Trust.
func (c *Client) Approve(ctx context.Context, r ApproveRequest) (Approval, error) {
	return plain[Approval](ctx, c, http.MethodPost, "approve", r)
}
