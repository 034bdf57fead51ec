package host_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
)

// hole passes connections on to a peer until it is shut: then it takes what
// comes and passes nothing, as a router does that has forgotten a conversation.
type hole struct {
	net.Listener
	shut atomic.Bool
	wg   sync.WaitGroup
}

func digHole(t *testing.T, to ma.Multiaddr) *hole {
	t.Helper()
	target, err := manet.ToNetAddr(to)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{Listener: l}
	h.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp4", target.String())
			if err != nil {
				_ = in.Close()
				continue
			}
			t.Cleanup(func() { _, _ = in.Close(), out.Close() })
			h.wg.Go(func() { h.pass(in, out) })
			h.wg.Go(func() { h.pass(out, in) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return h
}

func (h *hole) pass(from io.Reader, to io.WriteCloser) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if err != nil {
			if !h.shut.Load() {
				_ = to.Close()
			}
			return
		}
		if !h.shut.Load() {
			_, _ = to.Write(b[:n])
		}
	}
}

// TestAConnectionThatDoesNotAnswerGoesWhenThePeerComesAnew leaves one connection
// of a peer hanging and has the peer come by another.
func TestAConnectionThatDoesNotAnswerGoesWhenThePeerComesAnew(t *testing.T) {
	a := founder(t, func(c *host.Config) { c.NoQUIC = true })
	var key crypto.PrivKey
	b := start(t, func(c *host.Config) { key, c.NoQUIC = c.Key, true })
	b.enlist(t, a, admission.Compute)
	way := digHole(t, a.DialAddrs()[0])
	at, err := manet.FromNetAddr(way.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Connect(ctx5(t), peer.AddrInfo{ID: a.ID(), Addrs: []ma.Multiaddr{at}}); err != nil {
		t.Fatal(err)
	}
	wait(t, "a member", func() bool { _, ok := a.Member(b.ID()); return ok })
	if !a.Answers(b.ID()) {
		t.Fatal("a connection that is in order does not answer")
	}
	way.shut.Store(true)
	// The peer itself would take its old connection for good.
	again, err := libp2p.New(libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.Ping(false), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Connect(ctx5(t), a.info()); err != nil {
		t.Fatal(err)
	}
	wait(t, "the end of the connection that hangs", func() bool { return a.Connections() == 1 })
	if _, ok := a.Member(b.ID()); !ok {
		t.Error("the member went with it")
	}
}
