package node

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/gossip"
)

// Status implements api.Node.
func (n *Node) Status(ctx context.Context) (api.Status, error) {
	w := n.worker.Stats()
	s := api.Status{
		Version: n.cfg.Version, Contract: kernels.ContractVersion, Wire: WireVersion, Name: n.name(), Home: n.cfg.Home,
		HTTP: n.front.addr(), Uptime: n.now().Sub(n.begin), PID: os.Getpid(), Device: n.device.Name(),
		MemOffered: n.offer, MemUsed: int64(w.ReservedBytes), RSS: machine.Resident(), Sessions: int(n.sessions.Load()),
		GPUs: gpusOf(machine.Facts(ctx, n.cfg.Home).GPUs),
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
	}
	for _, p := range w.Plans {
		s.Stages = append(s.Stages, loadedStage(p))
	}
	for _, a := range n.plans.list() {
		st := api.PlanState{Model: a.model.entry.Name, State: a.State()}
		a.mu.Lock()
		st.Generation = a.spec.GetId().GetGeneration()
		a.mu.Unlock()
		s.Plans = append(s.Plans, st)
	}
	slices.SortFunc(s.Plans, func(a, b api.PlanState) int { return strings.Compare(a.Model, b.Model) })
	return s, nil
}

func gpusOf(list []machine.GPU) []api.GPU {
	var out []api.GPU
	for _, g := range list {
		out = append(out, api.GPU{Name: g.Name, Vendor: g.Vendor, VRAMTotal: g.VRAMTotal, VRAMFree: g.VRAMFree, Reason: machine.NotUsed})
	}
	return out
}

func loadedStage(p worker.PlanStats) api.LoadedStage {
	st := p.Plan.Stages[p.Stage]
	out := api.LoadedStage{
		Model: p.Plan.Name, First: int(st.First), Last: int(st.Last), State: stateWord(p.State), Bytes: int64(p.Needs.Weights),
		KVBlocks: p.KV.Blocks, KVUsed: p.KV.Used + p.KV.Cached, Sessions: p.Sessions, Generated: int64(p.Rows),
	}
	if len(p.StepTimes) > 0 && p.StepTimes[0].Rows == 1 {
		out.StepUsec = p.StepTimes[0].Time.Microseconds()
	}
	return out
}

// Peers implements api.Node: this node first, then the others by name.
func (n *Node) Peers(ctx context.Context) ([]api.Peer, error) {
	if n.mesh == nil {
		return nil, nil
	}
	own := n.mesh.gossip.Self()
	self := peerOf(&own, n.now())
	self.Self, self.State, self.PeerID = true, "alive", n.plans.self
	self.Age, self.Stale = 0, false
	out := []api.Peer{self}
	for _, mem := range n.members() {
		p := api.Peer{Name: n.nodeName(mem.ID.String()), State: "alive"}
		if mem.Record != nil {
			p = peerOf(mem.Record, n.now())
			p.State = "alive"
			if mem.Record.Wire != WireVersion || mem.Record.Contract != kernels.ContractVersion {
				p.State = "incompatible: " + versionGap(mem.Record)
			}
		}
		p.PeerID, p.RTT, p.Bandwidth = mem.ID.String(), mem.RTT, float64(mem.BytesPerSecond)
		if hm, ok := n.mesh.host.Member(mem.ID); ok {
			p.Role = hm.Role.String()
		}
		for _, a := range mem.Addrs {
			p.Addrs = append(p.Addrs, a.String())
		}
		out = append(out, p)
	}
	slices.SortStableFunc(out[1:], func(a, b api.Peer) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func peerOf(r *gossip.Record, now time.Time) api.Peer {
	p := api.Peer{
		Name: r.Name, Role: r.Role, Version: r.Software, OS: r.OS + "/" + r.Arch, CPU: r.CPU.Model, Cores: r.CPU.Cores, Device: r.CPU.Tier,
		MemTotal: int64(r.Memory.Total), MemOffered: int64(r.Memory.Offered), MemFree: int64(r.Memory.Free),
		Sessions: r.Load.ActiveSessions, Age: max(0, now.Sub(r.Stamp)),
	}
	p.Stale = p.Age > recordStale
	for _, s := range r.Speeds {
		p.DecodeBps, p.PrefillOps = s.DecodeBytesPerSecond, s.PrefillOpsPerSecond
	}
	for _, g := range r.GPUs {
		p.GPUs = append(p.GPUs, api.GPU{Name: g.Name, Vendor: g.Vendor, VRAMTotal: int64(g.VRAMTotal), VRAMFree: int64(g.VRAMFree), Used: g.Usable, Reason: g.Reason})
	}
	for _, m := range r.Models {
		p.Models = append(p.Models, m.Name)
	}
	return p
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
