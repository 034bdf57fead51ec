package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/scripts/netlab"
)

// TestLabACodeAndMulticastAreAllThatTwoHomesNeed starts two fresh homes on one
// network with 10 ms of delay each way, and types one code.
func TestLabACodeAndMulticastAreAllThatTwoHomesNeed(t *testing.T) {
	lab := newLab(t)
	path := deep(t, 8)
	a, b := labHost(t, lab, "ada", 0, "--memory", "64MB"), labHost(t, lab, "bob", 0, "--memory", "0")
	if err := lab.SetAll(netlab.Path{Delay: 10 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	a.up(t)
	mustRun(t, a.home, "add", path, "--name", "m", "--ctx", "256")
	begin := time.Now()
	b.daemon = launchBy(t, b.host.Start, b.name, b.home, "--listen", ":4710", "--memory", "0")
	if out := mustRun(t, a.home, "approve", b.code(t, "")); !strings.HasPrefix(out, "bob has joined ada-mesh (") {
		t.Errorf("approve says %q", out)
	}
	if err := b.await(t); err != nil {
		t.Fatal(err)
	}
	b.seesModel(t, "m")
	if _, err := b.ask(t, "m", 1, nil); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	t.Logf("found by multicast, joined by a typed code and answered after %v", took.Round(time.Millisecond))
	if took > 10*time.Second {
		t.Errorf("from `weft up` to the first token it took %v", took)
	}
}
