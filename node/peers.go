package node

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/p2p/gossip"
)

// Peers implements api.Node: this node first, then the others by name.
func (n *Node) Peers(ctx context.Context) ([]api.Peer, error) {
	if n.mesh == nil {
		return nil, nil
	}
	own := n.mesh.gossip.Self()
	self := n.peerOf(&own)
	self.Self, self.State, self.PeerID = true, "alive", n.plans.self
	self.TokensPerS, self.PositionsPerS = n.speeds()
	for _, a := range n.mesh.host.Addrs() {
		self.Addrs = append(self.Addrs, a.String())
	}
	out := []api.Peer{self}
	for _, mem := range n.members() {
		out = append(out, n.peerAt(mem))
	}
	slices.SortStableFunc(out[1:], func(a, b api.Peer) int { return strings.Compare(a.Name+a.PeerID, b.Name+b.PeerID) })
	return out, nil
}

// peerAt is another node as this one sees it.
func (n *Node) peerAt(mem gossip.Member) api.Peer {
	p := api.Peer{Name: n.nodeName(mem.ID.String())}
	v := versions{}
	if mem.Record != nil {
		p = n.peerOf(mem.Record)
		v = versions{mem.Record.Wire, mem.Record.Contract, mem.Record.Software}
		age(&p, mem.Freshness, time.Now())
	}
	if hm, ok := n.mesh.host.Member(mem.ID); ok {
		p.Role = hm.Role.String()
		if mem.Record == nil { // it said so when it connected
			v = versions{hm.Wire, hm.Contract, hm.Software}
		}
	}
	p.State = "alive"
	p.Wire, p.Contract, p.Version = int(v.wire), int(v.contract), v.software
	if v != (versions{}) {
		own := n.ownVersions()
		if gap := own.gap(p.Name, v); gap != "" {
			p.State = "incompatible: " + gap
		}
		p.Note = own.note(v)
	}
	p.PeerID, p.RTT, p.Bandwidth = mem.ID.String(), mem.RTT, float64(mem.BytesPerSecond)
	if !mem.Measured.IsZero() {
		p.RTTAge = max(0, time.Since(mem.Measured))
	}
	for _, a := range mem.Addrs {
		p.Addrs = append(p.Addrs, a.String())
	}
	return p
}

// age says how old a peer's values are and whether that is too old.
func age(p *api.Peer, f gossip.Freshness, now time.Time) {
	p.Age = max(0, now.Sub(f.Received))
	p.Stale = p.Age > recordStale || !f.Behind.IsZero() && now.Sub(f.Behind) > recordBehind
}

// peerOf is what a record tells.
func (n *Node) peerOf(r *gossip.Record) api.Peer {
	p := api.Peer{
		Name: r.Name, Role: r.Role, Version: r.Software, Wire: int(r.Wire), Contract: int(r.Contract), OS: r.OS + "/" + r.Arch,
		CPU: r.CPU.Model, Cores: r.CPU.Cores, Threads: r.CPU.Threads, Device: r.CPU.Tier, Busy: r.Load.Busy,
		MemTotal: int64(r.Memory.Total), MemOffered: int64(r.Memory.Offered), MemFree: int64(r.Memory.Free),
		DiskFree: int64(r.DiskFree), DiskTotal: int64(r.DiskTotal),
		Sessions: r.Load.ActiveSessions, Queued: r.Load.QueuedSessions, TokensPerS: r.Load.TokensPerSecond, PositionsPerS: r.Load.PositionsPerSecond,
		KVBytes: int64(r.Load.KVBytes), WeightBytes: int64(r.Load.WeightBytes),
	}
	for _, s := range r.Speeds {
		p.DecodeBps, p.PrefillOps = s.DecodeBytesPerSecond, s.PrefillOpsPerSecond
	}
	for _, g := range r.GPUs {
		p.GPUs = append(p.GPUs, api.GPU{
			Name: g.Name, Vendor: g.Vendor, Driver: g.Driver, VRAMTotal: int64(g.VRAMTotal), VRAMFree: int64(g.VRAMFree),
			Shared: g.Shared, Used: g.Usable, Reason: g.Reason, Room: int64(g.StageBytes), Held: int64(g.StageBytes - min(g.StageBytes, g.StageFree)),
			DecodeBps: g.DecodeBytesPerSecond, PrefillOps: g.PrefillOpsPerSecond, Celsius: g.Celsius, Watts: g.Watts,
		})
	}
	for _, m := range r.Models {
		p.Models = append(p.Models, m.Name)
		h := api.HeldModel{Name: m.Name, Complete: m.Complete, Layers: m.LayerCount, Bytes: int64(m.Bytes)}
		for _, l := range m.Layers {
			h.Ranges = append(h.Ranges, [2]int{l.First, l.End - 1})
		}
		p.Held = append(p.Held, h)
	}
	for _, l := range r.Links {
		p.Links = append(p.Links, api.PeerLink{PeerID: l.Peer.String(), Name: n.linkName(l.Peer), RTT: l.RTT, Bandwidth: float64(l.BytesPerSecond)})
	}
	return p
}

// linkName is the name of a link's other end.
func (n *Node) linkName(id peer.ID) string { return n.nodeName(id.String()) }

// Overview implements api.Node.
func (n *Node) Overview(ctx context.Context) (api.Overview, error) {
	var o api.Overview
	var err error
	if o.Status, err = n.Status(ctx); err != nil {
		return o, err
	}
	if o.Peers, err = n.Peers(ctx); err != nil {
		return o, err
	}
	o.Models, err = n.Models(ctx)
	return o, err
}
