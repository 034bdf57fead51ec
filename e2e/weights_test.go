//go:build unix

package e2e_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
)

// metric reads one figure of a daemon.
func (d *daemon) metric(t *testing.T, name string) int64 {
	t.Helper()
	return int64(d.figure(t, name))
}

// figure is metric with its fraction.
func (d *daemon) figure(t *testing.T, name string) float64 {
	t.Helper()
	b, err := d.WriteMetrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("%s has no metric %s", d.name, name)
	return 0
}

const (
	received = `weft_weights_received_bytes_total{from="peers"}`
	sent     = "weft_weights_sent_bytes_total"
)

// arrives waits until a daemon has received that many bytes of weights.
func (d *daemon) arrives(t *testing.T, bytes int64) int64 {
	t.Helper()
	var got int64
	eventually(t, 40*time.Second, func() error {
		if got = d.metric(t, received); got < bytes {
			return fmt.Errorf("%s has received %d bytes of weights, not %d", d.name, got, bytes)
		}
		return nil
	})
	return got
}

// solo is the reply of one node that has the file.
func solo(t *testing.T, path string, n int) bytesOf {
	t.Helper()
	d := up(t, "solo", home(t))
	mustRun(t, d.home, "add", path, "--name", "m", "--ctx", "512")
	r, err := d.ask(t, "m", n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return bytesIn(r)
}

// inFlight bounds what has crossed and is not safe yet: the chunks that are
// asked for at once.
const inFlight = 16 << 20

// TestAFetchGoesOnAfterKill9OfEitherSide kills the node that fetches and later
// one of its two sources: what has arrived does not cross again, and the other
// source ends the transfer.
func TestAFetchGoesOnAfterKill9OfEitherSide(t *testing.T) {
	path := deep(t, 150)
	want := solo(t, path, 6)
	slow := []string{"--weights-rate", "8MB"}
	all := mesh(t, spec{name: "a", memory: "0", args: slow}, spec{name: "b", memory: "0", args: slow}, spec{name: "c", memory: "2GB"})
	a, b, c := all[0], all[1], all[2]
	for _, d := range all[:2] {
		mustRun(t, d.home, "add", path, "--name", "m", "--ctx", "512")
	}
	c.stop(t) // in good order, so that it knows the others when it is killed
	c.ended = true
	c = up(t, "c", c.home, "--memory", "2GB")
	c.sees(t, 3)
	c.seesModel(t, "m")
	total := fileSize(t, path)
	if total < 3*inFlight {
		t.Fatalf("a model of %d bytes is too small for this test", total)
	}

	ended := make(chan error, 1)
	go func() {
		_, err := c.ask(t, "m", 6, nil)
		ended <- err
	}()
	first := c.arrives(t, total/2)
	c.kill()
	if err := <-ended; err == nil {
		t.Fatal("the reply ended well though its node was killed")
	}

	again := up(t, "c", c.home, "--memory", "2GB")
	again.sees(t, 3)
	again.seesModel(t, "m")
	type answer struct {
		reply api.Reply
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		r, err := again.ask(t, "m", 6, nil)
		answers <- answer{r, err}
	}()
	again.arrives(t, total/8)
	share := a.metric(t, sent)
	a.kill()
	got := <-answers
	if got.err != nil {
		t.Fatalf("after the death of one of two sources: %v", got.err)
	}
	if diff := cmp.Diff(want, bytesIn(got.reply)); diff != "" {
		t.Errorf("(-solo +fetched):\n%s", diff)
	}
	second := again.metric(t, received)
	t.Logf("of %d bytes %d came before kill -9, %d after it; the source that died had sent %d, the other sent %d", total, first, second, share, b.metric(t, sent))
	if second > total-first+inFlight {
		t.Errorf("%d of %d bytes crossed again after kill -9, %d had arrived", second, total, first)
	}
	if share == 0 || b.metric(t, sent) == 0 {
		t.Error("only one of two sources was used")
	}
	if left, _ := os.ReadDir(again.home + "/models/partial"); len(left) > 0 {
		t.Errorf("%d partial files are left", len(left))
	}
	idle(t, again, b)
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// TestAModelAddedOnOneNodeIsUsableFromAllAtOnce adds a file on a node that computes
// nothing and asks for it everywhere, without waiting for any news.
func TestAModelAddedOnOneNodeIsUsableFromAllAtOnce(t *testing.T) {
	path := deep(t, 8)
	want := solo(t, path, 6)
	all := mesh(t, spec{name: "a", memory: "0"}, spec{name: "b", memory: "1GB"}, spec{name: "c", memory: "0"})
	a, b, c := all[0], all[1], all[2]
	mustRun(t, a.home, "add", path, "--name", "m", "--ctx", "512")
	for _, d := range []*daemon{b, c, a} {
		got, err := d.ask(t, "m", 6, nil)
		if err != nil {
			t.Fatalf("asked on %s: %v", d.name, err)
		}
		if diff := cmp.Diff(want, bytesIn(got)); diff != "" {
			t.Errorf("asked on %s (-solo +there):\n%s", d.name, diff)
		}
	}
	late := up(t, "late", home(t), "--memory", "0", "--join", strings.TrimSpace(mustRun(t, a.home, "invite")))
	got, err := late.ask(t, "m", 6, nil)
	if err != nil {
		t.Fatalf("asked on a node that has just joined: %v", err)
	}
	if diff := cmp.Diff(want, bytesIn(got)); diff != "" {
		t.Errorf("asked on a node that has just joined (-solo +there):\n%s", diff)
	}
	// What was fetched crosses once: b has it all.
	if n, size := b.metric(t, received), fileSize(t, path); n > size {
		t.Errorf("%d bytes of a file of %d crossed", n, size)
	}

	// A model of which only a node that has left had weights.
	mustRun(t, a.home, "add", "../shard/testdata/tiny/qwen3-Q4_K_M.gguf", "--name", "gone")
	for _, d := range []*daemon{b, c} {
		d.seesModel(t, "gone")
	}
	mustRun(t, c.home, "plan", "gone") // c has its header
	a.kill()
	for _, d := range []*daemon{b, c, late} {
		d.sees(t, 3)
	}
	_, errs, err := run(t, c.home, "run", "-m", "gone", "--raw", "hello")
	if err == nil || !strings.Contains(errs, "fetch the weights of gone") || !strings.Contains(errs, "start one that has the model") {
		t.Errorf("the only holder has left: %v: %s", err, errs)
	}
	_, errs, err = run(t, late.home, "run", "-m", "gone", "--raw", "hello")
	if err == nil || !strings.Contains(errs, "gone") {
		t.Errorf("the only holder has left: %v: %s", err, errs)
	}
	// The other model goes on.
	if got, err = c.ask(t, "m", 6, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, bytesIn(got)); diff != "" {
		t.Errorf("after its file's node has left (-solo +there):\n%s", diff)
	}
}
