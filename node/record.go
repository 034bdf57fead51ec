package node

import (
	"cmp"
	"slices"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/gossip"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

// Times of the capacity record.
const (
	recordEvery = 5 * time.Second
	// A record is renewed every minute at the longest: one that is older than
	// two and a half, or behind the announced one for long, is marked.
	recordStale  = 150 * time.Second
	recordBehind = 10 * time.Second
)

// publish keeps this node's capacity record up to date until the node stops.
func (n *Node) publish() {
	t := time.NewTicker(recordEvery)
	defer t.Stop()
	for {
		n.changed()
		select {
		case <-t.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// changed publishes the record now; gossip bounds how often it goes out.
func (n *Node) changed() {
	if n.mesh == nil || n.worker == nil {
		return
	}
	if err := n.mesh.gossip.SetRecord(n.record()); err != nil {
		n.log.Warn("capacity record is not published", "error", err)
	}
}

// record says what this node is, has, holds and does.
func (n *Node) record() gossip.Record {
	f := n.told.settle(n.probe.Facts(n.ctx))
	w := n.worker.Stats()
	tokens, positions := n.speeds()
	r := gossip.Record{
		Name: n.name(), Software: "weft " + n.cfg.Version, Wire: WireVersion, Contract: kernels.ContractVersion,
		OS: f.OS, Arch: f.Arch, DiskFree: uint64(f.DiskFree), DiskTotal: uint64(f.DiskTotal), Stamp: n.now(),
		CPU:    gossip.CPU{Model: f.CPU, Cores: f.Cores, Threads: f.Threads, Tier: n.device.Name()},
		Memory: gossip.Memory{Total: uint64(f.MemTotal), Offered: uint64(n.offer), Free: uint64(n.free(f.MemFree))},
		Load:   gossip.Load{ActiveSessions: int(n.sessions.Load()), QueuedSessions: n.replies.queued(), TokensPerSecond: coarse(tokens), PositionsPerSecond: coarse(positions), Busy: f.Busy},
	}
	if n.offer > 0 {
		r.Speeds = []gossip.KernelSpeed{{Threads: n.facts.Cores, Kind: "Q4_0", DecodeBytesPerSecond: n.speed.DecodeBps, PrefillOpsPerSecond: 2 * n.speed.PrefillOps, FarBytesPerSecond: n.speed.FarBps, Layer: n.speed.Layer}}
	}
	r.GPUs = n.recordGPUs(f.GPUs, w.Plans)
	for _, p := range w.Plans {
		r.Load.WeightBytes += p.Needs.Weights
		r.Load.KVBytes += p.Needs.KV
	}
	r.Plans = n.generations()
	r.Models = n.heldModels()
	return r
}

// free is what stages may still take: the offer less what plans in use have,
// within what the machine has. Idle plans give way, so they do not count.
func (n *Node) free(machineFree int64) int64 {
	return max(0, min(n.offered()-n.inUse(), max(machineFree, 0)))
}

// inUse is the memory of plans that are in use.
func (n *Node) inUse() int64 {
	used := int64(0)
	for _, p := range n.worker.Stats().Plans {
		if p.Sessions > 0 || p.Chains > 0 || p.State != weftv1.PlanReply_READY {
			used += int64(p.Needs.Machine())
		}
	}
	return used
}

// heldModels lists the models of which this node has tensors, or knows where they
// can be downloaded from.
func (n *Node) heldModels() []gossip.HeldModel {
	entries, err := n.store.List()
	if err != nil {
		n.log.Warn("models cannot be listed", "error", err)
		return nil
	}
	var out []gossip.HeldModel
	for _, e := range entries {
		h, err := n.store.Held(e)
		if err != nil || h.Bytes == 0 && e.Origin == nil {
			continue
		}
		m := gossip.HeldModel{Manifest: e.Model, Name: e.Name, Profile: e.Profile.String(), LayerCount: h.Layers, Complete: h.Complete, Bytes: h.Bytes}
		for _, r := range h.Ranges {
			m.Layers = append(m.Layers, gossip.LayerRange{First: r.First, End: r.End})
		}
		out = append(out, m)
	}
	return out
}

// snapshot is what the planner gets to know: every live node with its record.
func (n *Node) snapshot(m *opened) scheduler.Snapshot {
	s := scheduler.Snapshot{Head: n.plans.self, Links: map[[2]string]scheduler.Link{}}
	own := scheduler.Node{
		ID: n.plans.self, Name: n.name(), MemFree: n.free(n.probe.Facts(n.ctx).MemFree),
		DecodeBps: n.speed.DecodeBps, FarBps: n.speed.FarBps, Layer: n.speed.Layer, PrefillOps: n.speed.PrefillOps,
	}
	own.Devices, _ = n.ownDevices(n.worker.Stats().Plans, nil)
	if n.mesh != nil {
		if self, err := n.mesh.admission.Self(); err == nil && self.Role < admission.Compute {
			own.Excluded = "it joined as a client"
		}
	}
	s.Nodes = append(s.Nodes, own)
	for _, mem := range n.members() {
		s.Nodes = append(s.Nodes, n.planNode(mem))
		link := scheduler.Link{RTT: mem.RTT, Bandwidth: float64(mem.BytesPerSecond)}
		if link.RTT > 0 {
			s.Links[pair(n.plans.self, mem.ID.String())] = link
		}
		if mem.Record == nil {
			continue
		}
		for _, l := range mem.Record.Links {
			k := pair(l.Peer.String(), mem.ID.String())
			if _, ok := s.Links[k]; !ok && l.RTT > 0 {
				s.Links[k] = scheduler.Link{RTT: l.RTT, Bandwidth: float64(l.BytesPerSecond)}
			}
		}
	}
	s.Acceptance = n.acceptance()
	n.plans.tempo.correct(&s, slotOf(m.entry.Model, m.entry.Profile), time.Now())
	return s
}

// planNode is another node as the scheduler sees it.
func (n *Node) planNode(mem gossip.Member) scheduler.Node {
	out := scheduler.Node{ID: mem.ID.String(), Name: n.nodeName(mem.ID.String())}
	r := mem.Record
	if r == nil {
		out.Excluded = "it has not told yet what it can do"
		return out
	}
	if hm, ok := n.mesh.host.Member(mem.ID); ok && hm.Role < admission.Compute {
		out.Excluded = "it joined as a client"
	}
	if r.Wire != WireVersion || r.Contract != kernels.ContractVersion {
		out.Excluded = versionGap(r)
	}
	if n.suspects.has(out.ID, mem.Since) {
		out.Excluded = "it was lost a moment ago"
	}
	out.MemFree = int64(r.Memory.Free)
	for _, sp := range r.Speeds {
		out.DecodeBps, out.PrefillOps = sp.DecodeBytesPerSecond, sp.PrefillOpsPerSecond/2
		out.FarBps, out.Layer = sp.FarBytesPerSecond, sp.Layer
	}
	out.Devices = devicesOf(r)
	return out
}

func pair(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

// known lists the plans of a model that live nodes speak of, ready ones first,
// copies behind others, higher generations before lower ones.
func (n *Node) known(m *opened) []knownPlan {
	var out []knownPlan
	for _, p := range n.worker.Stats().Plans {
		if string(p.Plan.Id.Model) == string(m.entry.Model[:]) && p.State == weftv1.PlanReply_READY {
			k := knownPlan{generation: p.Plan.Id.Generation, holder: n.plans.self, ready: true, copy: p.Plan.Copy, sessions: p.Sessions}
			for _, st := range p.Plan.Stages {
				k.stages = append(k.stages, st.Peer)
			}
			out = append(out, k)
		}
	}
	for _, mem := range n.members() {
		if mem.Record == nil || n.suspects.has(mem.ID.String(), mem.Since) {
			continue
		}
		for _, g := range mem.Record.Plans {
			if ours(g, m.entry.Model, m.entry.Profile) && len(g.Stages) > 0 && g.State != "failed" && g.State != "reserved" {
				k := knownPlan{generation: g.Generation, holder: mem.ID.String(), ready: g.State == stateReady, copy: g.Copy, sessions: g.Sessions}
				for _, id := range g.Stages {
					k.stages = append(k.stages, id.String())
				}
				out = append(out, k)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b knownPlan) int {
		switch {
		case a.ready != b.ready && a.ready:
			return -1
		case a.ready != b.ready:
			return 1
		case a.copy != b.copy && b.copy:
			return -1
		case a.copy != b.copy:
			return 1
		}
		return cmp.Compare(b.generation, a.generation)
	})
	return out
}
