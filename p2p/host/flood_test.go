//go:build linux

package host_test

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/weft-mesh/weft/p2p/admission"
)

// strangers connect to a node from many addresses of the loopback and say
// nothing, or nonsense. Each keeps some connections open at a time.
type strangers struct {
	to     string
	opened atomic.Int64
	quit   chan struct{}
	wg     sync.WaitGroup
}

const (
	strangerHands = 8  // goroutines
	strangerHolds = 60 // connections of each at once
)

func (s *strangers) attack(total int) {
	s.quit = make(chan struct{})
	for hand := range strangerHands {
		s.wg.Go(func() {
			var open []net.Conn
			defer func() {
				<-s.quit // silent to the end
				for _, c := range open {
					_ = c.Close()
				}
			}()
			for i := range total / strangerHands {
				from := &net.TCPAddr{IP: net.IPv4(127, byte(1+hand), byte(i/200), byte(1+i%200))}
				d := net.Dialer{LocalAddr: from, Timeout: 10 * time.Second}
				c, err := d.Dial("tcp", s.to)
				if err != nil {
					continue // the node's queue of the kernel is full
				}
				s.opened.Add(1)
				if i%2 == 0 {
					_, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
				}
				if open = append(open, c); len(open) > strangerHolds {
					_ = open[0].Close()
					open = open[1:]
				}
			}
		})
	}
}

// TestTenThousandStrangersAreBoundedAndMembersAreServed floods a node with
// connections while members use it and come anew.
func TestTenThousandStrangersAreBoundedAndMembersAreServed(t *testing.T) {
	total := 10_000
	if testing.Short() {
		total = 2_000
	}
	a := founder(t)
	a.Handle("/test/echo/1", echo)
	var members []*node
	for range 2 {
		n := start(t)
		n.enlist(t, a, admission.Compute)
		if err := n.Connect(ctx5(t), a.info()); err != nil {
			t.Fatal(err)
		}
		members = append(members, n)
	}
	stream, err := members[0].OpenStream(ctx5(t), a.ID(), "/test/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()

	tcp, err := manet.ToNetAddr(tcpOf(t, a.DialAddrs()))
	if err != nil {
		t.Fatal(err)
	}
	s := &strangers{to: tcp.String()}
	s.attack(total)
	most, mostConns, served, came := 0, 0, 0, 0
	for int(s.opened.Load()) < total*9/10 {
		most, mostConns = max(most, runtime.NumGoroutine()), max(mostConns, a.Connections())
		_ = stream.SetDeadline(time.Now().Add(10 * time.Second))
		if got, err := talk(stream, "still there?"); err != nil || got != "still there?" {
			t.Fatalf("a member is not served after %d strangers: %q, %v", s.opened.Load(), got, err)
		}
		served++
		if served%20 == 0 {
			_ = members[1].ClosePeer(a.ID())
			if err := members[1].Connect(ctx5(t), a.info()); err != nil {
				t.Fatalf("a member cannot come back after %d strangers: %v", s.opened.Load(), err)
			}
			came++
		}
	}
	close(s.quit)
	s.wg.Wait()
	t.Logf("%d strangers; a member was served %d times, another came back %d times; at most %d connections and %d goroutines more", s.opened.Load(), served, came, mostConns, most-before)
	// Members, strangers that showed themselves, and handshakes.
	if mostConns > 2*len(members)+64 {
		t.Errorf("%d connections", mostConns)
	}
	if most-before > 2500 {
		t.Errorf("%d goroutines more", most-before)
	}
	if came == 0 {
		t.Error("no member came anew")
	}
}

func tcpOf(t *testing.T, addrs []ma.Multiaddr) ma.Multiaddr {
	t.Helper()
	for _, a := range addrs {
		if _, err := a.ValueForProtocol(ma.P_TCP); err == nil {
			return a
		}
	}
	t.Fatal("no TCP address")
	return nil
}

// TestSlowHellosDoNotKeepMembersOut has strangers that begin as many hellos as
// they may and never end one.
func TestSlowHellosDoNotKeepMembersOut(t *testing.T) {
	a := founder(t)
	for range 3 {
		s := start(t)
		if err := s.Dial(ctx5(t), a.info()); err != nil {
			t.Fatal(err)
		}
		for range 40 {
			st, err := s.OpenStranger(ctx5(t), a.ID(), "/weft/hello/1")
			if err != nil {
				break // held off
			}
			_, _ = st.Write([]byte{100, 1})
		}
	}
	b := start(t)
	b.enlist(t, a, admission.Compute)
	begin := time.Now()
	if err := b.Connect(ctx5(t), a.info()); err != nil {
		t.Fatalf("a member is kept out: %v", err)
	}
	t.Logf("a member came in after %v", time.Since(begin))
}

func TestAPeerThatMovesAllTheTimeIsBounded(t *testing.T) {
	a, b := founder(t), start(t)
	for i := range 500 {
		var addrs []ma.Multiaddr
		for j := range 16 {
			addrs = append(addrs, ma.StringCast(fmt.Sprintf("/ip4/10.%d.%d.%d/tcp/1", i/250, i%250, j)))
		}
		a.SetAddrs(b.ID(), addrs, time.Minute)
	}
	if n := len(a.KnownAddrs(b.ID())); n != 16 {
		t.Errorf("%d addresses are kept", n)
	}
	// Its real one still leads there.
	b.enlist(t, a, admission.Compute)
	a.SetAddrs(b.ID(), b.DialAddrs(), time.Minute)
	if err := a.Connect(ctx5(t), peer.AddrInfo{ID: b.ID()}); err != nil {
		t.Error(err)
	}
}
