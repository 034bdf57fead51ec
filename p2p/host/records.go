package host

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// TLS cuts what it is given into records of at most 16 KiB, of 1.4 kB on a young
// connection, and hands the kernel each with a call of its own. A hidden state
// with its headers is a little longer than one record: the receiver would wake
// twice for it. So records of one Write are gathered and handed over together, but
// for those of bulk, which the receiver can open while the next are being made.

// loneRecord is the most bytes that TLS never cuts: the payload of the shortest
// records that it makes, those of a young connection over IPv6.
const loneRecord = 1100

// gatherMost is the longest Write that is gathered: a hidden state of 8,192
// elements with its headers, and not the muxer's longest message, 64 KiB.
const gatherMost = 36 << 10

// gatherRoom fits its records.
const gatherRoom = 40 << 10

// tlsTransport is libp2p's TLS; handshake, encryption and what is on the wire are
// the same.
type tlsTransport struct{ *libp2ptls.Transport }

func newTLS(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*tlsTransport, error) {
	t, err := libp2ptls.New(id, key, muxers)
	return &tlsTransport{t}, err
}

func (t *tlsTransport) SecureInbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	g := &gatherer{Conn: insecure}
	return g.under(t.Transport.SecureInbound(ctx, g, p))
}

func (t *tlsTransport) SecureOutbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	g := &gatherer{Conn: insecure}
	return g.under(t.Transport.SecureOutbound(ctx, g, p))
}

// gatherer is the connection under TLS.
type gatherer struct {
	net.Conn

	mu      sync.Mutex // guards all below
	holding bool
	held    *[]byte // what TLS has written while holding; nil when that is nothing
	err     error   // of the first hand-over that failed: the stream of bytes has a gap
}

var gatherPool = sync.Pool{New: func() any { b := make([]byte, 0, gatherRoom); return &b }}

func (g *gatherer) under(c sec.SecureConn, err error) (sec.SecureConn, error) {
	if err != nil {
		return nil, err
	}
	return &gatheredConn{SecureConn: c, below: g}, nil
}

// Write is TLS's.
func (g *gatherer) Write(b []byte) (int, error) {
	g.mu.Lock()
	if g.err != nil {
		defer g.mu.Unlock()
		return 0, g.err
	}
	if !g.holding {
		g.mu.Unlock()
		return g.Conn.Write(b) // TLS never writes twice at once
	}
	defer g.mu.Unlock()
	if g.held == nil {
		g.held = gatherPool.Get().(*[]byte)
	}
	*g.held = append(*g.held, b...)
	return len(b), nil
}

func (g *gatherer) hold() {
	g.mu.Lock()
	g.holding = true
	g.mu.Unlock()
}

// release hands over what was held.
func (g *gatherer) release() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holding = false
	if g.held == nil {
		return g.err
	}
	if g.err == nil {
		_, g.err = g.Conn.Write(*g.held)
	}
	*g.held = (*g.held)[:0]
	gatherPool.Put(g.held)
	g.held = nil
	return g.err
}

// gatheredConn is the connection over TLS.
type gatheredConn struct {
	sec.SecureConn
	below *gatherer

	mu      sync.Mutex // held by a Write that gathers
	writing atomic.Bool
}

// Write returns once the kernel has all of b.
func (c *gatheredConn) Write(b []byte) (int, error) {
	if len(b) <= loneRecord || len(b) > gatherMost {
		return c.SecureConn.Write(b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing.Store(true)
	defer c.writing.Store(false)
	c.below.hold()
	n, err := c.SecureConn.Write(b)
	if gone := c.below.release(); gone != nil {
		return 0, gone
	}
	return n, err
}

// Close does not wait for a Write that the other side does not take, nor does
// TLS; it does not know of those here.
func (c *gatheredConn) Close() error {
	if c.writing.Load() {
		_ = c.below.Conn.Close()
	}
	return c.SecureConn.Close()
}
