package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// countedConn counts what is handed to the kernel, and fails on demand.
type countedConn struct {
	net.Conn
	writes atomic.Int32
	fail   atomic.Pointer[error]
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	if err := c.fail.Load(); err != nil {
		return 0, *err
	}
	return c.Conn.Write(b)
}

// securedPair is a connection over loopback, secured at both ends.
func securedPair(t *testing.T) (near, far sec.SecureConn, below *countedConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ends := make([]*tlsTransport, 2)
	ids := make([]peer.ID, 2)
	for i := range ends {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if ends[i], err = newTLS(libp2ptls.ID, key, nil); err != nil {
			t.Fatal(err)
		}
		if ids[i], err = peer.IDFromPrivateKey(key); err != nil {
			t.Fatal(err)
		}
	}
	accepted := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			far, err = ends[1].SecureInbound(context.Background(), c, "")
		}
		accepted <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	below = &countedConn{Conn: c}
	near, err = ends[0].SecureOutbound(t.Context(), below, ids[1])
	if err = errors.Join(err, <-accepted); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	if near.RemotePeer() != ids[1] || far.RemotePeer() != ids[0] {
		t.Fatalf("peers %s and %s", near.RemotePeer(), far.RemotePeer())
	}
	return near, far, below
}

// TestAMessageIsHandedToTheKernelAtOnce writes messages of many lengths, on a
// young connection first, where TLS makes records of a kilobyte.
func TestAMessageIsHandedToTheKernelAtOnce(t *testing.T) {
	near, far, below := securedPair(t)
	for round := range 3 {
		for _, size := range []int{1, loneRecord, loneRecord + 1, 4096, 16<<10 + 76, 32<<10 + 76, gatherMost, gatherMost + 1, 200 << 10} {
			sent, got := make([]byte, size), make([]byte, size)
			_, _ = rand.Read(sent)
			read := make(chan error, 1)
			go func() {
				_, err := io.ReadFull(far, got)
				read <- err
			}()
			before := below.writes.Load()
			if n, err := near.Write(sent); n != size || err != nil {
				t.Fatalf("%d bytes: %d, %v", size, n, err)
			}
			if n := below.writes.Load() - before; size <= gatherMost && n != 1 {
				t.Errorf("round %d: %d bytes took %d calls", round, size, n)
			}
			if err := <-read; err != nil || !bytes.Equal(sent, got) {
				t.Fatalf("%d bytes came wrong: %v", size, err)
			}
		}
	}
}

// TestAGapInTheRecordsEndsTheConnection fails one hand-over: what follows it
// would be garbage to the other side.
func TestAGapInTheRecordsEndsTheConnection(t *testing.T) {
	near, _, below := securedPair(t)
	broken := errors.New("no route")
	below.fail.Store(&broken)
	if _, err := near.Write(make([]byte, 20<<10)); !errors.Is(err, broken) {
		t.Errorf("the write ended with %v", err)
	}
	below.fail.Store(nil)
	for _, size := range []int{10, 20 << 10} {
		if _, err := near.Write(make([]byte, size)); !errors.Is(err, broken) {
			t.Errorf("%d bytes after a gap: %v", size, err)
		}
	}
}

// TestAWriteThatNobodyTakesEndsWithTheConnection fills the buffers of a peer that
// does not read, and closes.
func TestAWriteThatNobodyTakesEndsWithTheConnection(t *testing.T) {
	near, _, below := securedPair(t)
	ended := make(chan error, 1)
	go func() {
		b := make([]byte, gatherMost)
		for {
			if _, err := near.Write(b); err != nil {
				ended <- err
				return
			}
		}
	}()
	for before := int32(-1); before != below.writes.Load(); { // until a write hangs
		before = below.writes.Load()
		time.Sleep(100 * time.Millisecond)
	}
	closed := make(chan struct{})
	go func() {
		_ = near.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(4 * time.Second): // a goodbye that nobody takes is given up after five
		t.Error("closing waits for a peer that does not read")
	}
	<-ended
}
