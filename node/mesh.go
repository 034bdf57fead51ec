package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/checkup"
	"github.com/weft-mesh/weft/p2p/discovery"
	"github.com/weft-mesh/weft/p2p/gossip"
	"github.com/weft-mesh/weft/p2p/host"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// Protocols between nodes. The ids carry the wire and the contract version, so
// that nodes that would not give the same bits do not speak to each other.
var (
	decodeProtocol  = protocolID("run/decode")
	prefillProtocol = protocolID("run/prefill")
	planProtocol    = protocolID("plan")
	weightsProtocol = protocolID("weights")
)

func protocolID(name string) protocol.ID {
	return protocol.ID(fmt.Sprintf("/weft/%s/%d.c%d", name, WireVersion, kernels.ContractVersion))
}

// DefaultPort is where a node listens for other nodes if it is not told.
const DefaultPort = "4710"

// mesh is this node's part in a mesh: everything of p2p.
type mesh struct {
	n         *Node
	admission *admission.Mesh
	invites   *admission.Invitations
	roster    *admission.Roster
	host      *host.Host
	gossip    *gossip.Gossip
	finder    *discovery.Discovery
	service   *admission.Service
	weights   *worker.WeightsClient
	traffic   traffic
	checkups  *checkup.Server
	outside   *discovery.Outside // nil unless the user wants a DHT
	left      bool
}

// startMesh opens the identity, listens, founds or joins a mesh, and begins to
// gossip. Protocols that need the worker are served by serve.
func (n *Node) startMesh(ctx context.Context, progress func(api.Progress)) (*mesh, error) {
	key, err := host.LoadIdentity(n.cfg.Home)
	if err != nil {
		return nil, err
	}
	m := &mesh{n: n}
	m.traffic = traffic{now: n.now, observe: m.observe}
	if m.admission, err = admission.Open(admission.Config{Dir: n.cfg.Home, Identity: key, Now: n.now}); err != nil {
		return nil, err
	}
	if m.invites, err = admission.OpenInvitations(n.cfg.Home); err != nil {
		return nil, err
	}
	if m.outside, err = n.outside(key); err != nil {
		return nil, err
	}
	if m.roster, err = admission.OpenRoster(n.cfg.Home); err != nil {
		n.log.Warn("members met before are forgotten", "error", err)
	}
	token, err := m.token()
	if err != nil {
		return nil, err
	}
	if err := m.checkWish(); err != nil {
		return nil, err
	}
	if token == nil && !m.admission.Joined() && m.foundsAtOnce() {
		if err := m.found(progress); err != nil {
			return nil, err
		}
	}
	if err := m.listen(ctx, host.Config{
		Key: key, Authority: m.admission, Wire: WireVersion, Contract: kernels.ContractVersion, Software: "weft " + n.cfg.Version, Logger: n.log, Now: n.now,
	}); err != nil {
		return nil, err
	}
	var first peer.AddrInfo // a member that let this node in
	if !m.admission.Joined() {
		if first, err = m.enter(ctx, token, progress); err != nil {
			return nil, errors.Join(err, m.host.Close())
		}
	}
	if err := m.gather(first); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// token reads --join; nil when there is none or this node is already a member.
func (m *mesh) token() (*admission.Token, error) {
	if m.n.cfg.Join == "" {
		return nil, nil
	}
	t, err := admission.ParseToken(m.n.cfg.Join)
	if err != nil {
		return nil, api.Errorf(api.KindInvalid, "%w", err)
	}
	if !m.admission.Joined() {
		return t, nil
	}
	if m.admission.ID() == t.Mesh {
		return nil, nil // used before: start as the member that it made
	}
	return nil, api.Errorf(api.KindConflict, "this node belongs to mesh %s (%s), the token is for %s; run `weft leave` first, or use another WEFT_HOME", m.admission.Name(), m.admission.ID().Short(), t.Mesh.Short())
}

// listen binds the wanted address, or a free port when only the default is taken.
func (m *mesh) listen(ctx context.Context, c host.Config) error {
	c.Listen = ":" + DefaultPort
	if len(m.n.cfg.Listen) > 1 {
		return api.Errorf(api.KindInvalid, "one listen address is enough, %d were given: %s", len(m.n.cfg.Listen), strings.Join(m.n.cfg.Listen, ", "))
	}
	wanted := len(m.n.cfg.Listen) == 1
	if wanted {
		c.Listen = m.n.cfg.Listen[0]
	}
	var err error
	if m.host, err = host.New(ctx, c); err == nil || wanted || !errors.Is(err, host.ErrPortInUse) {
		return err
	}
	c.Listen = ":0"
	m.host, err = host.New(ctx, c)
	return err
}

// gather begins gossip, discovery and admission.
func (m *mesh) gather(first peer.AddrInfo) error {
	var err error
	if m.gossip, err = gossip.New(gossip.Config{Host: m.host, Logger: m.n.log, Now: m.n.now}); err != nil {
		return err
	}
	if err := m.keepPeers(); err != nil {
		return err
	}
	if m.finder, err = discovery.Run(discovery.Config{
		Host: m.host, Dir: m.n.cfg.Home, Mesh: m.admission.ID(), NoMDNS: onlyLoopback(m.n.cfg.Listen),
		Secrets: m.admission, Outside: m.outside, Logger: m.n.log,
	}); err != nil {
		return err
	}
	m.finder.Add(first) // nothing happens without addresses
	m.addStatic()
	m.checkups = checkup.Serve(m.host)
	m.service = admission.Serve(m.host, m.admission, m.invites, m.n.log)
	m.weights = worker.NewWeightsClient(func(ctx context.Context, p string) (wire.Stream, error) { return m.open(ctx, p, weightsProtocol) })
	return nil
}

// onlyLoopback says that nobody outside this machine could reach the address.
func onlyLoopback(listen []string) bool {
	if len(listen) == 0 {
		return false
	}
	h, _, err := net.SplitHostPort(listen[0])
	if err != nil {
		return false
	}
	ip := net.ParseIP(h)
	return h == "localhost" || ip != nil && ip.IsLoopback()
}

// serve opens the protocols that the worker answers.
func (m *mesh) serve() {
	n := m.n
	ws := worker.NewWeightsServer(worker.WeightsConfig{Provider: &n.provider, Pace: n.pace, Log: n.log})
	for id, f := range map[protocol.ID]func(s network.Stream, from string){
		decodeProtocol:  func(s network.Stream, from string) { n.router.Serve(s, from) },
		prefillProtocol: func(s network.Stream, from string) { n.router.Serve(s, from) },
		planProtocol:    func(s network.Stream, from string) { n.worker.ServePlan(s, from) },
		weightsProtocol: func(s network.Stream, from string) { ws.Serve(n.ctx, s, from) },
	} {
		m.host.Handle(id, func(s network.Stream) { f(s, s.Conn().RemotePeer().String()) })
	}
}

// open opens a stream of a protocol to a member.
func (m *mesh) open(ctx context.Context, to string, id protocol.ID) (wire.Stream, error) {
	pid, err := peer.Decode(to)
	if err != nil {
		return nil, fmt.Errorf("open a stream to %q: %w", to, err)
	}
	return m.host.OpenStream(ctx, pid, id)
}

// close says goodbye and ends everything of p2p.
func (m *mesh) close() {
	var errs []error
	if m.weights != nil {
		m.weights.Close()
	}
	if m.finder != nil {
		errs = append(errs, m.finder.Close())
	}
	if m.checkups != nil {
		m.checkups.Close()
	}
	if m.service != nil {
		errs = append(errs, m.service.Close())
	}
	if m.gossip != nil {
		errs = append(errs, m.gossip.Close())
	}
	if m.host != nil {
		errs = append(errs, m.host.Close())
	}
	if m.left {
		if m.finder != nil {
			errs = append(errs, m.finder.Forget())
		}
		errs = append(errs, m.invites.Clear(), m.roster.Clear(), m.admission.Leave())
	}
	if err := errors.Join(errs...); err != nil {
		m.n.log.Warn("mesh did not close cleanly", "error", err)
	}
}

// name is this node's name for people.
func (n *Node) name() string {
	if n.cfg.Name != "" {
		return admission.CleanName(n.cfg.Name)
	}
	h, err := os.Hostname()
	if err != nil || h == "" {
		return "node"
	}
	return admission.CleanName(h)
}

func meshName(node string) string { return node + "-mesh" }

// nodeName is a node's name for people, its peer id when that is not known.
func (n *Node) nodeName(id string) string {
	if n.mesh == nil || n.plans != nil && id == n.plans.self {
		return n.name()
	}
	if pid, err := peer.Decode(id); err == nil {
		if name := n.mesh.gossip.LastName(pid); name != "" {
			return name
		}
	}
	if len(id) > 12 {
		return "…" + id[len(id)-8:]
	}
	return id
}

// observe tells gossip how fast weights came from a member.
func (m *mesh) observe(id string, bytesPerSecond float64) {
	if pid, err := peer.Decode(id); err == nil {
		m.gossip.Observe(pid, bytesPerSecond)
	}
}

// bandwidth is what arrived from a node per second when its link was measured,
// 0 when it was not.
func (n *Node) bandwidth(id string) float64 {
	pid, err := peer.Decode(id)
	if n.mesh == nil || err != nil {
		return 0
	}
	m, _ := n.mesh.gossip.Member(pid)
	return float64(m.BytesPerSecond)
}

// peerAlive says whether a node is a live member.
func (n *Node) peerAlive(id string) bool {
	if n.mesh == nil || id == n.plans.self {
		return true
	}
	if n.lost(id) {
		return false
	}
	pid, err := peer.Decode(id)
	if err != nil {
		return false
	}
	_, ok := n.mesh.gossip.Member(pid)
	return ok
}

// dropPeer closes every connection to a peer that hangs.
func (n *Node) dropPeer(id string) {
	if pid, err := peer.Decode(id); err == nil && n.mesh != nil {
		_ = n.mesh.host.ClosePeer(pid)
	}
}

// openRun opens a run stream for the router.
func (n *Node) openRun(ctx context.Context, to string, class weftv1.Class) (wire.Stream, error) {
	if n.mesh == nil {
		return nil, errors.New("this node runs alone")
	}
	if class == weftv1.Class_CLASS_PREFILL {
		return n.mesh.open(ctx, to, prefillProtocol)
	}
	return n.mesh.open(ctx, to, decodeProtocol)
}

// Ask implements stageAsker.
func (n *Node) Ask(ctx context.Context, to string, req *weftv1.PlanRequest, progress func(*weftv1.PlanReply)) (*weftv1.PlanReply, error) {
	if to == n.plans.self {
		return n.worker.Ask(ctx, req, progress)
	}
	if n.mesh == nil {
		return nil, errors.New("this node runs alone")
	}
	asked := time.Now()
	r, err := n.mesh.ask(ctx, to, req, progress)
	switch {
	case err == nil:
		n.suspects.clear(to, asked)
	case !errors.Is(ctx.Err(), context.Canceled):
		n.suspects.mark(to, time.Now())
	}
	return r, err
}

// ask sends a request of the plan protocol.
func (m *mesh) ask(ctx context.Context, to string, req *weftv1.PlanRequest, progress func(*weftv1.PlanReply)) (*weftv1.PlanReply, error) {
	octx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	s, err := m.open(octx, to, planProtocol)
	if err != nil {
		return nil, err
	}
	return worker.AskPlan(ctx, s, req, progress)
}

// members are the other live nodes, ordered by id.
func (n *Node) members() []gossip.Member {
	if n.mesh == nil {
		return nil
	}
	out := n.mesh.gossip.Members()
	slices.SortFunc(out, func(a, b gossip.Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

// openTime bounds the opening of a stream to a node that is asked something.
const openTime = 3 * time.Second

// farewell bounds how long leaving may take.
const farewell = 5 * time.Second
