package node_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

func TestBadInvitationsAreRefusedWithTheirReason(t *testing.T) {
	a := start(t, api.Config{Name: "a", Memory: -1})
	join := func(name, token string) error {
		r, err := tryStart(t, api.Config{Name: name, Memory: -1, Join: token})
		if err == nil {
			t.Errorf("%s was admitted", name)
			_ = r.Close()
		}
		return err
	}
	once := invite(t, a, api.InviteRequest{Uses: 1})
	start(t, api.Config{Name: "b", Memory: -1, Join: once})
	short := invite(t, a, api.InviteRequest{Uses: 1, Expires: time.Second})
	fresh := invite(t, a, api.InviteRequest{Uses: 1})
	// Another last letter is another checksum; the secret stays as it was.
	flipped := []byte(fresh)
	at := len(flipped) - 30
	flipped[at] = map[bool]byte{true: 'b', false: 'a'}[flipped[at] == 'a']
	time.Sleep(1100 * time.Millisecond)
	for name, c := range map[string]struct{ token, want string }{
		"used":     {once, "used up"},
		"expired":  {short, "expired"},
		"tampered": {string(flipped), "damaged"},
		"cut":      {fresh[:len(fresh)/2], "damaged"},
		"nonsense": {"let me in", "not an invitation"},
	} {
		err := join(name, c.token)
		if err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q does not say %q", name, err, c.want)
		}
	}
	// The good one still works.
	start(t, api.Config{Name: "c", Memory: -1, Join: fresh})
}

func TestANodeOfOneMeshDoesNotJoinAnother(t *testing.T) {
	home := t.TempDir()
	r, err := tryStart(t, api.Config{Name: "a", Memory: -1, Home: home})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	b := start(t, api.Config{Name: "b", Memory: -1})
	token := invite(t, b, api.InviteRequest{Uses: 1})
	_, err = tryStart(t, api.Config{Name: "a", Memory: -1, Home: home, Join: token})
	if kindOf(err) != api.KindConflict || !strings.Contains(err.Error(), "weft leave") {
		t.Errorf("%v", err)
	}
}

func TestAStrangerIsRefusedOnEveryProtocol(t *testing.T) {
	nodes := together(t, api.Config{Name: "a", Memory: 1 << 30}, api.Config{Name: "b", Memory: -1})
	m := add(t, nodes[0], api.AddRequest{Path: tinyModels + "llama-Q4_0.gguf", Context: 128})
	s, err := nodes[0].Node().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.Decode(s.PeerID)
	if err != nil {
		t.Fatal(err)
	}
	var addrs []ma.Multiaddr
	for _, text := range s.Addrs {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, a)
	}
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	connect := func() {
		if err := h.Connect(t.Context(), peer.AddrInfo{ID: id, Addrs: addrs}); err != nil {
			t.Fatal(err)
		}
	}
	connect()
	// All that the node serves, whatever it tells strangers of.
	protocols := node.Protocols(nodes[0])
	// Those that answer strangers by their nature, within limits of their own.
	open := []string{"/weft/hello/1", "/weft/join/1", "/weft/knock/1"}
	libp2ps := []string{"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0", "/libp2p/circuit/relay/0.2.0/hop", "/libp2p/circuit/relay/0.2.0/stop", "/libp2p/dcutr"}
	served := 0
	for _, p := range protocols {
		if slices.Contains(open, string(p)) || slices.Contains(libp2ps, string(p)) {
			continue
		}
		served++
		connect()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		st, err := h.NewStream(ctx, id, p)
		if err == nil {
			_ = st.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = st.Write([]byte("\x04\x0a\x02hi"))
			b := make([]byte, 64)
			n, err := st.Read(b)
			if n != 0 || err == nil {
				t.Errorf("%s answers a stranger with %q", p, b[:n])
			}
			_ = st.Reset()
		}
		cancel()
	}
	if served < 8 {
		t.Errorf("only %d protocols were tried: %v", served, protocols)
	}
	for _, p := range open {
		connect()
		st, err := h.NewStream(t.Context(), id, protocol.ID(p))
		if err != nil {
			continue
		}
		_ = st.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = st.Write(slices.Repeat([]byte{0xff}, 4096))
		b := make([]byte, 4096)
		for {
			if _, err := st.Read(b); err != nil {
				break
			}
		}
	}
	if ps, _ := nodes[0].Node().Peers(t.Context()); len(ps) != 2 {
		t.Errorf("the stranger is among the peers: %+v", ps)
	}
	if h.Network().Connectedness(id) == network.NotConnected {
		connect() // a stranger may come back, and is a stranger still
	}
	seeModel(t, nodes[1], m.Name)
	if _, err := generate(t, nodes[1], greedy(m.Name, sequence(1, 20), 4)); err != nil {
		t.Errorf("after the stranger: %v", err)
	}
}

func TestAHomeIsForOneNode(t *testing.T) {
	home := t.TempDir()
	start(t, api.Config{Name: "a", Memory: -1, Home: home})
	_, err := tryStart(t, api.Config{Name: "b", Memory: -1, Home: home})
	if err == nil || !strings.Contains(err.Error(), home) || !strings.Contains(err.Error(), "WEFT_HOME") || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("%v", err)
	}
	// A run without a daemon shares the home.
	start(t, api.Config{Name: "solo", Solo: true, Home: home})
}

func TestATakenPortIsNamed(t *testing.T) {
	a := start(t, api.Config{Name: "a", Memory: -1})
	s, err := a.Node().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	port := strings.Split(s.Addrs[0], "/")[4]
	_, err = tryStart(t, api.Config{Name: "b", Memory: -1, Listen: []string{"127.0.0.1:" + port}})
	if err == nil || !strings.Contains(err.Error(), port) || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("%v", err)
	}
	h := start(t, api.Config{Name: "h", Memory: -1, HTTP: "127.0.0.1:0"})
	_, err = tryStart(t, api.Config{Name: "i", Memory: -1, HTTP: h.HTTPAddr()})
	if err == nil || !strings.Contains(err.Error(), h.HTTPAddr()) || !strings.Contains(err.Error(), "--http") {
		t.Errorf("%v", err)
	}
	if _, err := tryStart(t, api.Config{Name: "j", Memory: -1, HTTP: "0.0.0.0:0"}); err == nil || !strings.Contains(err.Error(), "key") {
		t.Errorf("an address that others reach needs no key: %v", err)
	}
}

func TestAClientIsNotPlannedAndLeavingForgets(t *testing.T) {
	a := start(t, api.Config{Name: "a", Memory: -1})
	token := invite(t, a, api.InviteRequest{Uses: 1, Role: "client"})
	home := t.TempDir()
	c, err := tryStart(t, api.Config{Name: "c", Memory: 1 << 30, Home: home, Join: token})
	if err != nil {
		t.Fatal(err)
	}
	see(t, 2, a, c)
	m := add(t, c, api.AddRequest{Path: tinyModels + "llama-Q4_0.gguf", Context: 128})
	seeModel(t, a, m.Name)
	for _, r := range []api.Running{a, c} {
		_, err := generate(t, r, greedy(m.Name, sequence(1, 20), 4))
		if kindOf(err) != api.KindNoCapacity || !strings.Contains(err.Error(), "c is not used: it joined as a client") {
			t.Errorf("%v", err)
		}
	}
	if _, err := c.Node().Invite(t.Context(), api.InviteRequest{}); kindOf(err) != api.KindForbidden {
		t.Errorf("a client invites: %v", err)
	}
	if err := c.Node().Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the node did not stop")
	}
	if err := c.Err(); err != nil {
		t.Error(err)
	}
	see(t, 1, a)
	list, err := os.ReadDir(home)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(list)
	if _, err := os.Stat(filepath.Join(home, api.SocketName)); err == nil {
		t.Error("its socket is left behind")
	}
	// It belongs to no mesh now: it founds its own.
	again := start(t, api.Config{Name: "c", Memory: -1, Home: home})
	s, err := again.Node().Status(t.Context())
	if err != nil || s.Role != "admitter" || !strings.HasPrefix(s.Mesh, "c-mesh") {
		t.Errorf("%+v %v", s, err)
	}
}

func TestManyJoinAtOnce(t *testing.T) {
	a := start(t, api.Config{Name: "a", Memory: -1})
	const n = 4
	token := invite(t, a, api.InviteRequest{Uses: n})
	all := []api.Running{a}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := start(t, api.Config{Name: fmt.Sprint("n", i), Memory: -1, Join: token})
			mu.Lock()
			defer mu.Unlock()
			all = append(all, r)
		})
	}
	wg.Wait()
	see(t, n+1, all...)
}
