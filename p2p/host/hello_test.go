package host

import (
	"bufio"
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protodelim"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// fakeConn has an address and an age.
type fakeConn struct {
	network.Conn
	addr   ma.Multiaddr
	opened time.Time
}

func (c *fakeConn) RemoteMultiaddr() ma.Multiaddr { return c.addr }
func (c *fakeConn) Stat() network.ConnStats {
	return network.ConnStats{Stats: network.Stats{Opened: c.opened}}
}

func TestTheBestConnectionIsTheYoungestOverTCP(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	tcp, quic := ma.StringCast("/ip4/10.0.0.1/tcp/1"), ma.StringCast("/ip4/10.0.0.1/udp/1/quic-v1")
	oldTCP, youngTCP := &fakeConn{addr: tcp, opened: now}, &fakeConn{addr: tcp, opened: now.Add(time.Second)}
	oldQUIC, youngQUIC := &fakeConn{addr: quic, opened: now}, &fakeConn{addr: quic, opened: now.Add(time.Hour)}
	for _, c := range []struct {
		conns []network.Conn
		want  network.Conn
	}{
		{[]network.Conn{youngQUIC, oldTCP}, oldTCP},
		{[]network.Conn{oldTCP, youngQUIC}, oldTCP},
		{[]network.Conn{oldTCP, youngTCP, youngQUIC}, youngTCP},
		{[]network.Conn{youngTCP, oldTCP}, youngTCP},
		{[]network.Conn{oldQUIC, youngQUIC}, youngQUIC},
	} {
		if got := best(c.conns); got != c.want {
			t.Errorf("of %v: %v", c.conns, got)
		}
	}
}

func TestFailuresAreRememberedWithinBounds(t *testing.T) {
	h := &Host{failures: make(map[peer.ID]failure)}
	start := time.Now()
	want := errors.New("no")
	var last peer.ID
	for i := range maxFailures + 5 {
		last = peer.ID([]byte{byte(i), byte(i >> 8)})
		h.noteFailure(last, want)
	}
	if len(h.failures) > maxFailures || h.gone(last, start) != want {
		t.Errorf("%d failures, last %v", len(h.failures), h.gone(last, start))
	}
	if err := h.gone(last, time.Now().Add(time.Minute)); !errors.Is(err, errGone) {
		t.Errorf("an old failure counts: %v", err)
	}
	if err := h.gone("nobody", start); !errors.Is(err, errGone) {
		t.Errorf("nobody: %v", err)
	}
}

func FuzzReadHello(f *testing.F) {
	var b bytes.Buffer
	if _, err := protodelim.MarshalTo(&b, &weftv1.Hello{Mesh: make([]byte, 32), Credential: make([]byte, 194), Software: "x"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m weftv1.Hello
		if err := readHello(bufio.NewReader(bytes.NewReader(b)), &m); err == nil && len(m.GetCredential()) > maxHelloMessage {
			t.Fatalf("a credential of %d bytes", len(m.GetCredential()))
		}
	})
}
