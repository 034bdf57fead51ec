//go:build linux

package netlab_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weft-mesh/weft/scripts/netlab"
)

// mirror answers every datagram on a port of the host with where it came from.
func mirror(t *testing.T, h *netlab.Host) *net.UDPAddr {
	t.Helper()
	return answerUDP(t, h, func(_ []byte, from netip.AddrPort) []byte { return []byte(from.String()) })
}

// seen asks a mirror where it sees a socket.
func seen(t *testing.T, c *net.UDPConn, by *net.UDPAddr) netip.AddrPort {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := c.WriteTo([]byte("?"), by)
	must(t, err)
	b := make([]byte, 64)
	n, err := c.Read(b)
	must(t, err)
	at, err := netip.ParseAddrPort(string(b[:n]))
	must(t, err)
	return at
}

func TestARouterHidesWhatIsBehindIt(t *testing.T) {
	for _, symmetric := range []bool{false, true} {
		lab, hosts := newLab(t, 1, 1, 0, 0)
		in, beside, out, other := hosts[0], hosts[1], hosts[2], hosts[3]
		r, err := lab.Router(0, symmetric, in, beside)
		must(t, err)
		c := listenUDP(t, in)
		first := seen(t, c, mirror(t, out))
		if first.Addr() != r.Addr() || r.Addr() == in.Addr() {
			t.Fatalf("%v is seen as %v behind %v", in.Addr(), first, r.Addr())
		}
		if second := seen(t, c, mirror(t, other)); (second == first) == symmetric {
			t.Errorf("one sees %v, another %v; symmetric: %v", first, second, symmetric)
		}
		if again := seen(t, listenUDP(t, beside), mirror(t, out)); again.Addr() != r.Addr() || again == first {
			t.Errorf("another host behind the router is seen as %v", again)
		}
		if at := seen(t, listenUDP(t, beside), mirror(t, in)); at.Addr() != beside.Addr() {
			t.Errorf("behind the router %v is seen as %v", beside.Addr(), at)
		}
		// Nobody who was not asked comes in, by neither address.
		for _, to := range []netip.AddrPort{first, netip.AddrPortFrom(in.Addr(), c.LocalAddr().(*net.UDPAddr).AddrPort().Port())} {
			stranger := listenUDP(t, out)
			_, err := stranger.WriteToUDPAddrPort([]byte("hello"), to)
			must(t, err)
		}
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := c.Read(make([]byte, 8)); err == nil {
			t.Errorf("%d bytes came in unasked", n)
		}
		r.Forget()
		if now := seen(t, c, mirror(t, out)); now.Addr() != r.Addr() || now == first {
			t.Errorf("after the router has forgotten: %v, before %v", now, first)
		}
		was := r.Addr()
		moved, err := r.Readdress(0)
		must(t, err)
		if now := seen(t, c, mirror(t, out)); now.Addr() != moved || moved == was {
			t.Errorf("with the address %v: %v", moved, now)
		}
	}
}

// TestAStreamPassesARouterWhole sends both ways as much as makes large packets,
// whose sums are left to be finished, and small ones.
func TestAStreamPassesARouterWhole(t *testing.T) {
	for _, loss := range []float64{0, 1e-9} { // with loss packets are cut by the kernel, sums and all
		lab, hosts := newLab(t, 1, 0)
		in, out := hosts[0], hosts[1]
		_, err := lab.Router(0, false, in)
		must(t, err)
		must(t, lab.SetAll(netlab.Path{Loss: loss}))
		sent := make([]byte, 3<<20+17)
		_, _ = rand.Read(sent)
		var l net.Listener
		must(t, out.Do(func() (err error) { l, err = net.Listen("tcp4", out.Addr().String()+":0"); return err }))
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
		var c net.Conn
		must(t, in.Do(func() (err error) { c, err = net.Dial("tcp4", l.Addr().String()); return err }))
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		go func() {
			_, _ = c.Write(sent)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		must(t, err)
		if !bytes.Equal(sent, got) {
			t.Errorf("%d bytes came back of %d, or others", len(got), len(sent))
		}
	}
}

func TestACableKeepsItsRate(t *testing.T) {
	lab, hosts := newLab(t, 0, 0)
	if err := lab.Cable(hosts[0], hosts[1], 80e6); err != nil {
		if errors.Is(err, netlab.ErrNoCable) {
			t.Skip("not run:", err)
		}
		t.Fatal(err)
	}
	var l net.Listener
	must(t, hosts[1].Do(func() (err error) { l, err = net.Listen("tcp4", hosts[1].Addr().String()+":0"); return err }))
	defer l.Close()
	var c net.Conn
	must(t, hosts[0].Do(func() (err error) { c, err = net.Dial("tcp4", l.Addr().String()); return err }))
	defer c.Close()
	far, err := l.Accept()
	must(t, err)
	defer far.Close()
	const size = 5 << 20
	begin := time.Now()
	go func() { _, _ = c.Write(make([]byte, size)) }()
	_, err = io.CopyN(io.Discard, far, size)
	must(t, err)
	if took := time.Since(begin); took < time.Duration(size*8/80e6*0.9*float64(time.Second)) {
		t.Errorf("%d bytes passed in %v", size, took)
	}
	// The system itself says a word or two on any interface, such as that it is there.
	if s := lab.Stats(hosts[0], hosts[1]); s.Packets > 50 {
		t.Errorf("%d packets went through the switch", s.Packets)
	}
}
