package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/scripts/netlab"
)

// TestLabWeightsLeaveTheLinkToReplies has a stage that gives another node a large
// model over the link on which its hidden states go. It prints the share of an
// idle link that weights take, and the time per token without and with a
// transfer; it holds the weights to their share.
func TestLabWeightsLeaveTheLinkToReplies(t *testing.T) {
	long(t)
	weightsBesideReplies(t, 100e6, deep(t, 120))
}

func TestLabWeightsOfTheRealModelOverAGigabit(t *testing.T) {
	long(t)
	weightsBesideReplies(t, 1e9, real(t))
}

// TestLabWeightsFillAGigabitCable fetches the real model over a link that the
// kernel limits, so that the processor's time is the nodes' own.
func TestLabWeightsFillAGigabitCable(t *testing.T) {
	long(t)
	path := real(t)
	lab := newLab(t)
	a, c := labHost(t, lab, "a", 0, "--memory", "0"), labHost(t, lab, "c", 0, "--memory", "2GB")
	const link = 1e9
	if err := lab.Cable(a.host, c.host, link); err != nil {
		if errors.Is(err, netlab.ErrNoCable) {
			t.Skip("not run:", err)
		}
		t.Fatal(err)
	}
	labMesh(t, a, c)
	mustRun(t, a.home, "add", path, "--name", "large", "--ctx", "512")
	c.seesModel(t, "large")
	total := fileSize(t, path)
	for range 5 {
		bare := bareTCP(t, a.host, c.host, total)
		cpu := cpuOf(t, a, c)
		rate := c.fetches(t, "large", total)
		spent := cpuOf(t, a, c)
		t.Logf("bare TCP %.1f MB/s (%.0f%% of the link), weights %.1f (%.0f%%); from asking until the first token the sender took %.2f s of CPU time, the receiver %.2f, for %.0f MB, at a load of %.1f",
			bare/1e6, 100*bare*8/link, rate/1e6, 100*rate*8/link, spent[0]-cpu[0], spent[1]-cpu[1], float64(total)/1e6, load(t))
		mustRun(t, c.home, "rm", "large")
	}
}

func long(t *testing.T) {
	t.Helper()
	if os.Getenv("WEFT_TEST_LONG") == "" {
		t.Skip("not run: it takes half a minute; set WEFT_TEST_LONG")
	}
}

// weightsBesideReplies has a link of that many bits a second.
func weightsBesideReplies(t *testing.T, link float64, large string) {
	lab := newLab(t)
	small := deep(t, 24)
	a, b, head := labHost(t, lab, "a", 0, "--memory", "14MB"), labHost(t, lab, "b", 0, "--memory", "14MB"), labHost(t, lab, "head", 0, "--memory", "0")
	if err := lab.SetAll(netlab.Path{Delay: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if err := a.host.SetAccess(link, link); err != nil {
		t.Fatal(err)
	}
	labMesh(t, a, b, head)
	mustRun(t, a.home, "add", small, "--name", "m", "--ctx", "512")
	mustRun(t, a.home, "add", large, "--name", "large", "--ctx", "512")
	head.seesModel(t, "m")
	want, err := head.ask(t, "m", 8, nil)
	if err != nil {
		t.Fatal(err)
	}

	// A node with room for the large model comes; it alone can hold it.
	c := labHost(t, lab, "c", 0, "--memory", "2GB")
	c.up(t, "--join", strings.TrimSpace(mustRun(t, a.home, "invite")))
	c.sees(t, 4)
	c.seesModel(t, "large")
	total := fileSize(t, large)
	// What the lab itself carries bounds what weights may reach.
	bare := bareTCP(t, a.host, c.host, total)
	cpu := cpuOf(t, a, c)
	idleRate := c.fetches(t, "large", total)
	spent := cpuOf(t, a, c)
	t.Logf("bare TCP over the same link %.1f MB/s (%.0f%%), weights %.0f%% of that; from asking until the first token the sender took %.2f s of CPU time, the receiver %.2f, the lab's switch %.2f, for %.0f MB",
		bare/1e6, 100*bare*8/link, 100*idleRate/bare, spent[0]-cpu[0], spent[1]-cpu[1], spent[2]-cpu[2], float64(total)/1e6)
	mustRun(t, c.home, "rm", "large")

	alone := head.perToken(t, "m", 150)
	stop, beside := make(chan struct{}), make(chan []time.Duration, 1)
	go func() {
		var all []time.Duration
		for {
			select {
			case <-stop:
				beside <- all
				return
			default:
				all = append(all, head.perToken(t, "m", 150)...)
			}
		}
	}()
	busyRate := c.fetches(t, "large", total)
	close(stop)
	with := <-beside
	t.Logf("link %.1f MB/s; weights on an idle link %.1f MB/s (%.0f%%), while a reply runs %.1f MB/s (%.0f%%)",
		link/8e6, idleRate/1e6, 100*idleRate*8/link, busyRate/1e6, 100*busyRate*8/link)
	t.Logf("time per token: median %v, 95%% below %v; with a transfer median %v, 95%% below %v (%d tokens)",
		quantile(alone, 0.5), quantile(alone, 0.95), quantile(with, 0.5), quantile(with, 0.95), len(with))
	if busyRate*8 > 0.8*link {
		t.Errorf("weights take %.0f%% of a link that replies cross", 100*busyRate*8/link)
	}
	got, err := head.ask(t, "m", 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// bareTCP gives the bytes a second of a plain connection between two hosts.
func bareTCP(t *testing.T, from, to *netlab.Host, size int64) float64 {
	t.Helper()
	var l net.Listener
	if err := to.Do(func() (err error) { l, err = net.Listen("tcp4", to.Addr().String()+":0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		s, err := l.Accept()
		if err == nil {
			_, err = io.CopyN(io.Discard, s, size)
			_ = s.Close()
		}
		done <- err
	}()
	var s net.Conn
	if err := from.Do(func() (err error) { s, err = net.Dial("tcp4", l.Addr().String()); return err }); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begin := time.Now()
	chunk := make([]byte, 64<<10)
	for left := size; left > 0; {
		n, err := s.Write(chunk[:min(int64(len(chunk)), left)])
		if err != nil {
			t.Fatal(err)
		}
		left -= int64(n)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return float64(size) / time.Since(begin).Seconds()
}

// cpuOf gives the CPU seconds that some nodes have had, and this process, in which
// the lab's switch runs.
func cpuOf(t *testing.T, nodes ...*labNode) []float64 {
	t.Helper()
	var out []float64
	for _, d := range nodes {
		out = append(out, d.figure(t, "process_cpu_seconds_total"))
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return append(out, float64(u.Utime.Nano()+u.Stime.Nano())/1e9)
}

// fetches asks for a model that a node must fetch and gives the bytes a second at
// which the middle of it came.
func (d *labNode) fetches(t *testing.T, name string, total int64) float64 {
	t.Helper()
	before := d.metric(t, received)
	done := make(chan error, 1)
	go func() {
		_, err := d.ask(t, name, 2, nil)
		done <- err
	}()
	from := d.arrives(t, before+total/10)
	begin := time.Now()
	to := d.arrives(t, before+total*8/10)
	took := time.Since(begin)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return float64(to-from) / took.Seconds()
}

// perToken is the time between the tokens of a reply.
func (d *labNode) perToken(t *testing.T, model string, n int) []time.Duration {
	t.Helper()
	var out []time.Duration
	var last time.Time
	_, err := d.Generate(t.Context(), api.GenerateRequest{
		Model: model, Tokens: []int32{40, 41, 42}, MaxTokens: n, Temperature: new(float64), IgnoreEOS: true, Speculate: "off",
	}, func(e api.Event) error {
		if len(e.Tokens) > 0 {
			if now := time.Now(); !last.IsZero() {
				out = append(out, now.Sub(last))
			}
			last = time.Now()
		}
		return nil
	})
	if err != nil {
		t.Error(fmt.Errorf("reply of %s: %w", model, err))
	}
	return out
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[int(q*float64(len(d)-1))].Round(10 * time.Microsecond)
}
