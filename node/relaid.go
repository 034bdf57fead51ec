package node

import (
	"bytes"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/gossip"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// How layers come back to cards: a stage that was loaded while a card was lost, or had
// less memory, says in its node's record that it would lie better now, and the head makes
// its plan anew at a pause. A plan without a head is given back by the stage's own node.

// relaid says whether more layers of a plan would lie on cards if it were loaded now, on
// whichever of its nodes.
func (n *Node) relaid(a *active) bool {
	a.mu.Lock()
	spec := a.spec
	a.mu.Unlock()
	for _, p := range n.worker.Stats().Plans {
		if samePlan(p.Plan.Id, spec.GetId()) && n.laysBetter(&p) {
			return true
		}
	}
	for i := range spec.GetStages() {
		if g := n.toldOf(spec, i); g != nil && g.Relaid {
			return true
		}
	}
	return false
}

func samePlan(a, b *weftv1.PlanID) bool {
	return a.GetGeneration() == b.GetGeneration() && bytes.Equal(a.GetModel(), b.GetModel())
}

// toldOf is what the node of a plan's stage tells of it; nil where it tells nothing.
func (n *Node) toldOf(spec *weftv1.PlanSpec, stage int) *gossip.Generation {
	id := spec.GetId()
	profile, err := profileOf(id.GetProfile())
	if err != nil || n.mesh == nil {
		return nil
	}
	for _, mem := range n.members() {
		if mem.Record == nil || mem.ID.String() != spec.Stages[stage].Peer {
			continue
		}
		for i := range mem.Record.Plans {
			if g := &mem.Record.Plans[i]; g.Generation == id.Generation && ours(*g, manifest.Hash(id.Model), profile) && g.State == stateReady {
				return g
			}
		}
	}
	return nil
}

// laysBetter says whether a stage of this node would have more layers on cards if it
// were loaded now.
func (n *Node) laysBetter(p *worker.PlanStats) bool {
	if p.State != weftv1.PlanReply_READY || len(n.cards.get().Used()) == 0 {
		return false
	}
	profile, err := profileOf(p.Plan.Id.Profile)
	if err != nil {
		return false
	}
	o, err := n.lib.shape(store.Entry{Name: p.Plan.Name, Model: manifest.Hash(p.Plan.Id.Model), Profile: profile})
	if err != nil {
		return false // its header is not here any more
	}
	st := p.Plan.Stages[p.Stage]
	now := n.load.placed(o, stageRange(st), worker.StageSpec{KVPositions: int(st.KvPositions)}, nil)
	return onCards(now) > onCards(p.Needs)
}

// giveBackOld gives back stages that no head is connected to and that would lie better if
// they were loaded now: the next reply finds them gone and has them loaded again.
func (n *Node) giveBackOld() {
	for _, p := range n.worker.Stats().Plans {
		if p.Chains == 0 && p.Sessions == 0 && n.laysBetter(&p) {
			n.worker.Release(p.Plan.Id, "a device that it was made without can be used now")
			n.changed()
		}
	}
}

// placedOf says where a stage's layers lie, for the record.
func (n *Node) placedOf(p *worker.PlanStats) []gossip.Placed {
	var out []gossip.Placed
	for i, at := range n.partsOf(p.Needs.Places) {
		g := gossip.Placed{Layers: gossip.LayerRange{First: at.First, End: at.Last + 1}}
		if p.Needs.Places[i].Device != worker.Processor {
			g.Device = at.Device
		}
		out = append(out, g)
	}
	return out
}

// partsTold is the same as another node told it.
func partsTold(list []gossip.Placed) []api.StagePart {
	var out []api.StagePart
	for _, at := range list {
		one := api.StagePart{Device: at.Device, First: at.Layers.First, Last: at.Layers.End - 1}
		if at.Device == "" {
			one.Device = processorName
		}
		out = append(out, one)
	}
	return out
}
