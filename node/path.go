package node

import (
	"context"

	"github.com/weft-mesh/weft/node/session"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// OpenPath implements pathOpener: both chains of a plan, or none.
func (n *Node) OpenPath(ctx context.Context, spec *weftv1.PlanSpec) (*session.Path, error) {
	p := session.NewPath()
	decode, err := n.router.OpenChain(ctx, spec, weftv1.Class_CLASS_DECODE, p)
	if err != nil {
		return nil, err
	}
	prefill, err := n.router.OpenChain(ctx, spec, weftv1.Class_CLASS_PREFILL, p)
	if err != nil {
		decode.Close()
		return nil, err
	}
	p.Attach(decode, prefill)
	return p, nil
}
