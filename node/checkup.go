package node

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/p2p/checkup"
	"github.com/weft-mesh/weft/p2p/gossip"
)

// Bounds of a checkup.
const (
	checkupPeers  = 16 // asked; the rest are named by nothing
	checkupTime   = 12 * time.Second
	multicastTime = 2500 * time.Millisecond
)

// Checkup implements api.Node.
func (n *Node) Checkup(ctx context.Context) (api.Checkup, error) {
	out := api.Checkup{Limits: api.ProcessLimits(machine.ProcessLimits()), Peers: []api.PeerCheckup{}}
	if n.mesh == nil {
		out.Multicast.Error = "this node is in no mesh"
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkupTime)
	defer cancel()
	out.TCPPorts, out.Loopback = tcpPorts(n.mesh.host.DialAddrs())
	members := n.members()
	members = members[:min(len(members), checkupPeers)]
	out.Peers = make([]api.PeerCheckup, len(members))
	var wg sync.WaitGroup
	wg.Go(func() { out.Multicast = n.mesh.lookAround(ctx) })
	for i, mem := range members {
		wg.Go(func() { out.Peers[i] = n.askPeer(ctx, mem, out.TCPPorts) })
	}
	wg.Wait()
	slices.SortStableFunc(out.Peers, func(a, b api.PeerCheckup) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.PeerID, b.PeerID))
	})
	return out, nil
}

// tcpPorts are the ports of addresses that others would dial, and whether all
// are of this machine alone.
func tcpPorts(addrs []ma.Multiaddr) (ports []int, loopback bool) {
	loopback = true
	for _, a := range addrs {
		text, err := a.ValueForProtocol(ma.P_TCP)
		if err != nil {
			continue
		}
		loopback = loopback && manet.IsIPLoopback(a)
		if p, err := strconv.Atoi(text); err == nil && !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports, loopback
}

func (m *mesh) lookAround(ctx context.Context) api.Multicast {
	ctx, cancel := context.WithTimeout(ctx, multicastTime)
	defer cancel()
	s, err := m.finder.Look(ctx)
	out := api.Multicast{Self: s.Self, Others: s.Others}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

func (n *Node) askPeer(ctx context.Context, mem gossip.Member, ports []int) api.PeerCheckup {
	out := api.PeerCheckup{Name: n.nodeName(mem.ID.String()), PeerID: mem.ID.String()}
	r, err := checkup.Ask(ctx, n.mesh.host, mem.ID, ports)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	out.RTT, out.ClockAhead, out.NotDialed = r.RTT, r.Ahead, r.NotDialed
	for _, d := range r.Dialed {
		out.Dialed = append(out.Dialed, api.Dialed(d))
	}
	for to, e := range map[*string]error{&out.SmallError: r.Small, &out.LargeError: r.Large} {
		if e != nil {
			*to = e.Error()
		}
	}
	return out
}
