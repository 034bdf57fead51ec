//go:build linux

package netlab_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-mesh/weft/scripts/netlab"
)

// crash tells the test's own program, run again, to make a lab and to be killed.
const crash = "NETLAB_TEST_CRASH"

func TestMain(m *testing.M) {
	if os.Getenv(crash) != "" {
		makeAndWait()
		return
	}
	os.Exit(m.Run())
}

func newLab(t testing.TB, subnets ...int) (*netlab.Lab, []*netlab.Host) {
	t.Helper()
	if err := netlab.Available(); err != nil {
		t.Skip("not run:", err)
	}
	lab, err := netlab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	var hosts []*netlab.Host
	for i, s := range subnets {
		h, err := lab.Host(fmt.Sprint("h", i), s)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	return lab, hosts
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// echo answers every datagram on a port of the host.
func echo(t *testing.T, h *netlab.Host) *net.UDPAddr {
	t.Helper()
	return answerUDP(t, h, func(b []byte, _ netip.AddrPort) []byte { return b })
}

// answerUDP answers every datagram on a port of the host.
func answerUDP(t *testing.T, h *netlab.Host, answer func(b []byte, from netip.AddrPort) []byte) *net.UDPAddr {
	t.Helper()
	c := listenUDP(t, h)
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(answer(b[:n], from), from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr)
}

func listenUDP(t *testing.T, h *netlab.Host) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	must(t, h.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IP(h.Addr().AsSlice())})
		return err
	}))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dialUDP(t *testing.T, h *netlab.Host, to *net.UDPAddr) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	must(t, h.Do(func() (err error) { c, err = net.DialUDP("udp4", nil, to); return err }))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ping returns the round trip of a datagram, or an error after a while.
func ping(c *net.UDPConn, limit time.Duration) (time.Duration, error) {
	begin := time.Now()
	_ = c.SetReadDeadline(begin.Add(limit))
	want := fmt.Appendf(nil, "%d", begin.UnixNano())
	if _, err := c.Write(want); err != nil {
		return 0, err
	}
	b := make([]byte, 64)
	for {
		n, err := c.Read(b)
		if err != nil {
			return 0, err
		}
		if bytes.Equal(b[:n], want) {
			return time.Since(begin), nil
		}
	}
}

// takes pings until a round trip is at most a little longer than it must be:
// what the machine's load adds to the others is not the path's. None may be
// shorter.
func takes(t *testing.T, c *net.UDPConn, want time.Duration) {
	t.Helper()
	const slack = 4 * time.Millisecond
	var least time.Duration
	for begin := time.Now(); least == 0 || least > want+slack; {
		d, err := ping(c, 5*time.Second)
		must(t, err)
		if d < want {
			t.Fatalf("a round trip takes %v, at least %v were due", d, want)
		}
		if least == 0 || d < least {
			least = d
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("a round trip takes %v or more, not %v", least, want)
		}
	}
	t.Logf("a round trip of %v takes %v", want, least)
}

func TestADelayIsKeptAndCanBeChanged(t *testing.T) {
	lab, h := newLab(t, 0, 0)
	c := dialUDP(t, h[0], echo(t, h[1]))
	for _, d := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond, time.Millisecond} {
		must(t, lab.Join(h[0], h[1], netlab.Path{Delay: d}))
		takes(t, c, 2*d)
	}
	must(t, lab.Set(h[0], h[1], netlab.Path{Delay: 30 * time.Millisecond}))
	takes(t, c, 31*time.Millisecond)
}

func TestJitterVariesWithoutReordering(t *testing.T) {
	lab, h := newLab(t, 0, 0)
	c := dialUDP(t, h[0], echo(t, h[1]))
	must(t, lab.Set(h[0], h[1], netlab.Path{Delay: 2 * time.Millisecond, Jitter: 10 * time.Millisecond}))
	for i := range 200 {
		_, err := c.Write([]byte{byte(i)})
		must(t, err)
	}
	b := make([]byte, 16)
	for i := range 200 {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(b); err != nil || b[0] != byte(i) {
			t.Fatalf("packet %d: %d, %v", i, b[0], err)
		}
	}
	least, most := time.Hour, time.Duration(0)
	for range 40 {
		d, err := ping(c, 5*time.Second)
		must(t, err)
		least, most = min(least, d), max(most, d)
	}
	if least < 2*time.Millisecond || most-least < 3*time.Millisecond {
		t.Errorf("round trips take %v to %v", least, most)
	}
}

func TestALossIsAsOftenAsItSays(t *testing.T) {
	lab, h := newLab(t, 0, 0)
	c := dialUDP(t, h[0], echo(t, h[1]))
	must(t, lab.Set(h[0], h[1], netlab.Path{Loss: 0.2}))
	const n = 5000
	s := netlab.Stats{}
	eventually(t, func() bool {
		for range 100 { // the device holds a few hundred and drops the rest
			_, _ = c.Write([]byte("x"))
		}
		s = lab.Stats(h[0], h[1])
		return s.Lost+s.Packets >= n
	})
	if share := float64(s.Lost) / float64(s.Lost+s.Packets); share < 0.17 || share > 0.23 {
		t.Errorf("%.3f of the packets are lost, want 0.2", share)
	}
	must(t, lab.Set(h[0], h[1], netlab.Path{Loss: 1}))
	if _, err := ping(c, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a packet came through a path that loses all: %v", err)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("never")
		}
	}
}

// bulk sends that many bytes over TCP and returns how fast they came.
func bulk(t testing.TB, from, to *netlab.Host, size int64) float64 {
	t.Helper()
	var l net.Listener
	must(t, to.Do(func() (err error) { l, err = net.Listen("tcp4", to.Addr().String()+":0"); return err }))
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.CopyN(io.Discard, c, size)
		_, _ = c.Write([]byte{1})
	}()
	var c net.Conn
	must(t, from.Do(func() (err error) { c, err = net.Dial("tcp4", l.Addr().String()); return err }))
	defer c.Close()
	begin := time.Now()
	chunk := make([]byte, 64<<10)
	for left := size; left > 0; {
		n, err := c.Write(chunk[:min(int64(len(chunk)), left)])
		must(t, err)
		left -= int64(n)
	}
	if _, err := c.Read(chunk[:1]); err != nil {
		t.Fatal(err)
	}
	return float64(size*8) / time.Since(begin).Seconds()
}

func TestARateIsReachedAndNotExceeded(t *testing.T) {
	lab, h := newLab(t, 0, 0)
	for _, c := range []struct {
		name string
		path netlab.Path
		up   float64
		size int64
		rate float64
	}{
		{"path", netlab.Path{Rate: 50e6, Delay: 2 * time.Millisecond}, 0, 8 << 20, 50e6},
		{"access", netlab.Path{}, 20e6, 3 << 20, 20e6},
	} {
		must(t, lab.Join(h[0], h[1], c.path))
		must(t, h[0].SetAccess(c.up, 0))
		got := bulk(t, h[0], h[1], c.size)
		t.Logf("%s of %.0f Mbit/s: %.1f Mbit/s", c.name, c.rate/1e6, got/1e6)
		// Below for the headers of packets, and for a machine under load.
		if got > 1.02*c.rate || got < 0.3*c.rate {
			t.Errorf("%s of %.0f Mbit/s carries %.1f", c.name, c.rate/1e6, got/1e6)
		}
	}
}

// BenchmarkBulk says what the switch itself can carry.
func BenchmarkBulk(b *testing.B) {
	for _, p := range []netlab.Path{{}, {Rate: 1e9}, {Rate: 1e9, Delay: 5 * time.Millisecond}} {
		b.Run(fmt.Sprintf("rate=%.0fM/delay=%v", p.Rate/1e6, p.Delay), func(b *testing.B) {
			lab, h := newLab(b, 0, 0)
			must(b, lab.Join(h[0], h[1], p))
			for b.Loop() {
				b.ReportMetric(bulk(b, h[0], h[1], 128<<20)/1e6, "Mbit/s")
			}
		})
	}
}

func TestACutLosesAllAndCanBeMended(t *testing.T) {
	lab, h := newLab(t, 0, 0, 0)
	must(t, lab.SetAll(netlab.Path{Delay: time.Millisecond}))
	c, other := dialUDP(t, h[0], echo(t, h[1])), dialUDP(t, h[0], echo(t, h[2]))
	lab.Cut(h[1], true)
	if _, err := ping(c, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("through the cut: %v", err)
	}
	takes(t, other, 2*time.Millisecond)
	lab.Cut(h[1], false)
	takes(t, c, 2*time.Millisecond)
}

// listen joins a multicast group on a host, as mDNS does.
func listen(t *testing.T, h *netlab.Host, group *net.UDPAddr) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	must(t, h.Do(func() error {
		i, err := net.InterfaceByName("weft0")
		if err != nil {
			return err
		}
		c, err = net.ListenMulticastUDP("udp4", i, group)
		return err
	}))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestMulticastReachesTheSubnetAndOthersAreReachedByAddress(t *testing.T) {
	_, h := newLab(t, 0, 0, 0, 1)
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	near, near2, far := listen(t, h[1], group), listen(t, h[2], group), listen(t, h[3], group)
	_, err := dialUDP(t, h[0], group).Write([]byte("hello"))
	must(t, err)
	b := make([]byte, 16)
	for _, c := range []*net.UDPConn{near, near2} {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, from, err := c.ReadFromUDP(b); err != nil || from.IP.String() != h[0].Addr().String() {
			t.Errorf("from %v: %v", from, err)
		}
	}
	_ = far.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, _, err := far.ReadFromUDP(b); err == nil {
		t.Error("multicast left its subnet")
	}
	takes(t, dialUDP(t, h[0], echo(t, h[3])), 0)
}

func TestPacketsToNobodyAreRemembered(t *testing.T) {
	lab, h := newLab(t, 0, 0)
	_, err := dialUDP(t, h[0], &net.UDPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 4001}).Write([]byte("hello"))
	must(t, err)
	eventually(t, func() bool { s := lab.Strays(); return len(s) == 1 && s[0].String() == "203.0.113.9" })
}

func TestAFirewallLetsAnswersInOnly(t *testing.T) {
	_, h := newLab(t, 0, 0)
	out, in := dialUDP(t, h[0], echo(t, h[1])), dialUDP(t, h[1], echo(t, h[0]))
	takes(t, in, 0)
	h[0].SetFirewall(true)
	if _, err := ping(in, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("through the firewall: %v", err)
	}
	takes(t, out, 0)
}

func TestAHostThatMovesIsReachedAtItsNewAddressOnly(t *testing.T) {
	_, h := newLab(t, 0, 0)
	old := h[1].Addr()
	addr, err := h[1].Readdress(3)
	must(t, err)
	if addr == old || addr.As4()[2] != 3 || h[1].Addr() != addr {
		t.Errorf("moved from %v to %v", old, addr)
	}
	takes(t, dialUDP(t, h[0], echo(t, h[1])), 0)
	takes(t, dialUDP(t, h[1], echo(t, h[0])), 0)
}

func TestProgramsRunInTheirHost(t *testing.T) {
	lab, h := newLab(t, 0)
	cmd := h[0].Command("cat", "/proc/net/dev")
	var out bytes.Buffer
	cmd.Stdout = &out
	must(t, h[0].Start(cmd))
	must(t, cmd.Wait())
	if !strings.Contains(out.String(), "weft0") || strings.Contains(out.String(), "eth0") {
		t.Errorf("its devices are %s", out.String())
	}
	sleep := h[0].Command("sleep", "600")
	must(t, h[0].Start(sleep))
	must(t, lab.Close())
	var exit *exec.ExitError
	if err := sleep.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("after the lab it ended with %v", err)
	}
	if err := h[0].Do(func() error { return nil }); err == nil {
		t.Error("a closed lab runs something")
	}
	if _, err := lab.Host("late", 0); err == nil {
		t.Error("a closed lab takes hosts")
	}
}

func TestWhatMakesNoSenseIsRefused(t *testing.T) {
	lab, h := newLab(t, 0, 0)
	for _, p := range []netlab.Path{{Delay: -1}, {Loss: 2}, {Rate: -1}} {
		if lab.Join(h[0], h[1], p) == nil || lab.SetAll(p) == nil {
			t.Errorf("%+v is accepted", p)
		}
	}
	if _, err := lab.Host("x", 201); err == nil {
		t.Error("subnet 201 is accepted")
	}
}

// makeAndWait makes a lab with a program in it, prints the program's id and
// waits to be killed.
func makeAndWait() {
	lab, err := netlab.New()
	if err != nil {
		panic(err)
	}
	h, err := lab.Host("h", 0)
	if err != nil {
		panic(err)
	}
	cmd := h.Command("sleep", "600")
	if err := h.Start(cmd); err != nil {
		panic(err)
	}
	fmt.Println(cmd.Process.Pid)
	time.Sleep(10 * time.Minute)
}

func TestACrashLeavesNothingBehind(t *testing.T) {
	newLab(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crash+"=1")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var pid int
	_, err = fmt.Fscan(out, &pid)
	must(t, err)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}
