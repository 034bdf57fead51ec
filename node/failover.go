package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/session"
)

// failoverTime bounds how long a reply that lost its plan waits for another: a
// spare may have to fetch its layers first.
const failoverTime = 5 * time.Minute

// failover moves a reply whose plan has ended to another plan and gives its
// path. The plan is given back first, so that its survivors are free for the
// next; replies that ran over the same plan meet in the making of one.
func (g *generation) failover(ctx context.Context, cause error) (*session.Path, error) {
	n, old := g.n, g.a
	var lost *session.LostError
	if errors.As(cause, &lost) {
		n.log.Info("reply lost a stage", "model", g.m.entry.Name, "node", lost.Peer, "reason", lost.Reason)
		g.tell(fmt.Sprintf("node %s was lost (%s): planning %s again, the reply goes on", n.stageName(old, lost.Peer), inWords(lost.Reason), g.m.entry.Name))
		n.plans.drop(old)
	} else {
		g.tell("the plan of " + g.m.entry.Name + " was given up: planning again, the reply goes on")
		n.plans.forget(old)
	}
	wctx, cancel := context.WithTimeout(ctx, failoverTime)
	defer cancel()
	a, err := n.plans.pick(wctx, g.m, g.expected, func(p api.Progress) { _ = g.emit(api.Event{Progress: &p}) })
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && lost == nil:
		return nil, err
	case err != nil:
		return nil, &api.Error{Kind: api.KindStageLost, Node: lost.Peer, Message: fmt.Sprintf(
			"node %s, which computed a part of %s, was lost during the reply (%s), and no other plan can go on with it: %v",
			n.stageName(old, lost.Peer), g.m.entry.Name, inWords(lost.Reason), err)}
	}
	old.leave()
	n.failovers.Add(1)
	g.a, g.moved = a, true
	g.spec.Over(a.measuredCosts())
	return a.path, nil
}

func (g *generation) tell(text string) {
	_ = g.emit(api.Event{Progress: &api.Progress{Phase: "failover", Text: text}})
}

// inWords shortens why a stage was lost: what broke below the stream is for the
// log.
func inWords(reason string) string {
	for _, s := range []string{"reset", "EOF", "connection closed", "broken pipe"} {
		if strings.Contains(reason, s) {
			return "its connection broke"
		}
	}
	return reason
}

// stageName is a node's name for people, as the plan knows it: the node may be
// unknown to the mesh by now.
func (n *Node) stageName(a *active, id string) string {
	for _, st := range n.stages(a) {
		if st.Node == id {
			return st.Name
		}
	}
	return n.nodeName(id)
}
