package node

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/node/worker"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// Status implements api.Node.
func (n *Node) Status(ctx context.Context) (api.Status, error) {
	w := n.worker.Stats()
	f := n.probe.Facts(ctx)
	s := api.Status{
		Version: n.cfg.Version, Contract: kernels.ContractVersion, Wire: WireVersion, Name: n.name(), Home: n.cfg.Home,
		HTTP: n.front.addr(), Uptime: n.now().Sub(n.begin), PID: os.Getpid(), Device: n.device.Name(),
		MemOffered: n.offer, MemUsed: int64(w.ReservedBytes) + n.drafts.bytes(), RSS: machine.Resident(), Sessions: int(n.sessions.Load()),
		GPUs: n.gpus(f.GPUs, w.Plans), DiskFree: f.DiskFree, DiskTotal: f.DiskTotal, Generated: n.generated.Load(), Replies: n.replies.state(n.now()),
	}
	if len(s.GPUs) == 0 {
		s.NoGPU = n.unseen(n.cards.get())
	}
	s.TokensPerS, s.PositionsPerS = n.speeds()
	if u, err := n.store.Usage(); err == nil {
		s.DiskUsed, s.DiskBudget = int64(u.Used), int64(u.Budget)
	}
	if n.mesh != nil {
		s.PeerID = n.plans.self
		s.Mesh = n.mesh.admission.Name() + " (" + n.mesh.admission.ID().Short() + ")"
		if self, err := n.mesh.admission.Self(); err == nil {
			s.Role = self.Role.String()
		}
		for _, a := range n.mesh.host.Addrs() {
			s.Addrs = append(s.Addrs, a.String())
		}
		s.Peers = len(n.members())
		s.Aside = n.aside.list(n.now())
	}
	for _, p := range w.Plans {
		st := loadedStage(p)
		st.Parts = n.partsOf(p.Needs.Places)
		s.Stages = append(s.Stages, st)
	}
	s.Plans = n.planStates(w)
	slices.SortFunc(s.Plans, func(a, b api.PlanState) int {
		return cmp.Or(strings.Compare(a.Model, b.Model), cmp.Compare(a.Generation, b.Generation))
	})
	return s, nil
}

// planStates are the plans that this node heads or serves, and the models that
// it could not plan.
func (n *Node) planStates(w worker.Stats) []api.PlanState {
	var out []api.PlanState
	seen := map[string]bool{}
	for _, a := range n.plans.list() {
		seen[a.slot()] = true
		out = append(out, n.planState(a))
	}
	for _, p := range w.Plans {
		profile, err := profileOf(p.Plan.Id.Profile)
		id := manifest.Hash(p.Plan.Id.Model)
		key := slotOf(id, profile)
		switch {
		case err != nil || seen[key] && !p.Plan.Copy:
		case p.Plan.Copy:
			if !slices.ContainsFunc(out, func(s api.PlanState) bool { return s.Generation == p.Plan.Id.Generation && s.Model == p.Plan.Name }) {
				out = append(out, api.PlanState{Model: p.Plan.Name, Generation: p.Plan.Id.Generation, State: stageState(p), Copy: true, Nodes: namesIn(p.Plan)})
			}
		default:
			seen[key] = true
			out = append(out, api.PlanState{Model: p.Plan.Name, Generation: p.Plan.Id.Generation, State: n.stateOf(id, profile), Nodes: namesIn(p.Plan)})
		}
	}
	for key, m := range n.plans.failedModels() {
		if s := n.plans.failure(key); s != "" && !seen[key] {
			out = append(out, api.PlanState{Model: m.entry.Name, State: s})
		}
	}
	return out
}

func namesIn(p *weftv1.PlanSpec) []string {
	var out []string
	for _, st := range p.Stages {
		out = append(out, st.Name)
	}
	return out
}

func loadedStage(p worker.PlanStats) api.LoadedStage {
	st := p.Plan.Stages[p.Stage]
	out := api.LoadedStage{
		Model: p.Plan.Name, First: int(st.First), Last: int(st.Last), State: stageState(p), Bytes: int64(p.Needs.Weights),
		KVBlocks: p.KV.Blocks, KVUsed: p.KV.Used + p.KV.Cached, Sessions: p.Sessions, Generated: int64(p.Rows),
	}
	if len(p.StepTimes) > 0 && p.StepTimes[0].Rows == 1 {
		out.StepUsec = p.StepTimes[0].Time.Microseconds()
	}
	return out
}

// Leave implements api.Node.
func (n *Node) Leave(ctx context.Context) error {
	if n.mesh == nil {
		return api.Errorf(api.KindInvalid, "this node is in no mesh")
	}
	n.mesh.left = true
	go n.stop(nil) // ends the surface that this call came through
	return nil
}

// Invite implements api.Node.
func (n *Node) Invite(ctx context.Context, r api.InviteRequest) (api.Invite, error) {
	if n.mesh == nil {
		return api.Invite{}, api.Errorf(api.KindInvalid, "this node is in no mesh: start it with `weft up`")
	}
	return n.mesh.invite(r)
}
