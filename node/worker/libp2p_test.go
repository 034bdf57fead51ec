package worker_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"

	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const runProtocol = "/weft/test-run/1"

func newHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.Ping(false),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// realMesh is a mesh whose nodes are libp2p hosts on loopback. Their names are
// their peer ids, sorted as asked for.
func realMesh(t *testing.T, w *weights, n int) (*mesh, []string, []host.Host) {
	t.Helper()
	var names []string
	hosts := map[string]host.Host{}
	var list []host.Host
	for range n {
		h := newHost(t)
		names, list = append(names, h.ID().String()), append(list, h)
		hosts[h.ID().String()] = h
	}
	m := newMesh(t, meshOptions{weights: w, router: func(name string, c *worker.RouterConfig) {
		h := hosts[name]
		c.OpenStream = func(ctx context.Context, to string, _ weftv1.Class) (wire.Stream, error) {
			other := hosts[to]
			if err := h.Connect(ctx, peer.AddrInfo{ID: other.ID(), Addrs: other.Addrs()}); err != nil {
				return nil, err
			}
			return h.NewStream(ctx, other.ID(), runProtocol)
		}
		c.DropPeer = func(to string) { _ = h.Network().ClosePeer(hosts[to].ID()) }
	}}, names...)
	for name, h := range hosts {
		h.SetStreamHandler(runProtocol, func(s network.Stream) {
			m.wg.Go(func() { m.nodes[name].router.Serve(s, s.Conn().RemotePeer().String()) })
		})
	}
	return m, names, list
}

func TestRepliesOverRealHostsAreTheSame(t *testing.T) {
	w := repeated(5)
	m, names, _ := realMesh(t, w, 4)
	prompt := promptOf(90, 4)
	tokens, hash := direct(t, w, prompt, 12)
	for i, c := range []struct {
		stages []string
		at     []int
		head   string
	}{
		{names[:1], nil, names[3]},
		{names[:2], []int{2}, names[0]},
		{names[:3], []int{1, 4}, names[3]},
	} {
		p := planOf(w, c.head, uint64(i+1), c.stages, c.at...)
		m.load(p)
		h := openHead(t, m.nodes[c.head], p)
		got, gotHash := h.reply(prompt, 12, 30, nil)
		if !slices.Equal(got, tokens) || !slices.Equal(gotHash, hash) {
			t.Errorf("%d stages: %v, want %v", len(c.stages), got, tokens)
		}
		if down, up := h.decode.Stats(); down.FramesSent == 0 || up.FramesReceived == 0 {
			t.Errorf("stats %+v %+v", down, up)
		}
		h.close()
		m.idle()
		for _, s := range c.stages {
			if r := m.ask(c.head, s, release(p)); r.State != rReleased {
				t.Fatal(r)
			}
		}
	}
}

func TestARealHostThatDiesIsNamedWithinASecond(t *testing.T) {
	w := repeated(3)
	m, names, hosts := realMesh(t, w, 4)
	p := planOf(w, names[3], 1, names[:3], 1, 2)
	m.load(p)
	h := openHead(t, m.nodes[names[3]], p)
	f, payload := openFrame(newSession(), promptOf(4, 1), 64)
	h.send(h.decode, f, payload)
	want[*weftv1.OpenReply](t, h.in)
	h.decode.Busy(1)
	start := time.Now()
	_ = hosts[1].Close()
	if l := want[*weftv1.Lost](t, h.in); l.Peer != names[1] || l.Stage != 1 {
		t.Errorf("lost %v, want stage 1", l)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("known after %s", took)
	}
	for _, c := range []*worker.Chain{h.decode, h.prefill} {
		c.Close()
		<-c.Done()
	}
	m.idle()
}
