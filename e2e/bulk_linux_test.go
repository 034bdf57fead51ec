package e2e_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/scripts/netlab"
)

// TestLabBulkTransferLosesNobody has two nodes fetch weights from a third over
// a thin, slow line that they fill for a while. Nobody may be thought gone
// meanwhile, for all speak over the same connections.
func TestLabBulkTransferLosesNobody(t *testing.T) {
	lab := newLab(t)
	layers, rate := 24, 16e6
	if os.Getenv("WEFT_TEST_LONG") != "" {
		layers = 120
	}
	path := deep(t, layers)
	a, b, c := labHost(t, lab, "a", 0, "--memory", "0"), labHost(t, lab, "b", 0), labHost(t, lab, "c", 0)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	half := sizeText(info.Size())
	b.args, c.args = []string{"--memory", half}, []string{"--memory", half}
	nodes := []*labNode{a, b, c}
	labMesh(t, nodes...)
	mustRun(t, a.home, "add", path, "--name", "m", "--ctx", "512")
	if err := lab.SetAll(netlab.Path{Delay: 20 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if err := a.host.SetAccess(rate, 0); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	got, err := a.ask(t, "m", 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	if len(got.Plan.Stages) != 2 {
		t.Errorf("plan %+v", got.Plan)
	}
	t.Logf("%.1f MB in %v over %.0f Mbit/s", float64(info.Size())/1e6, took.Round(10*time.Millisecond), rate/1e6)
	if least := time.Duration(float64(info.Size()) * 8 / rate * 0.8 * float64(time.Second)); took < least {
		t.Errorf("it took %v, less than the line's %v", took, least)
	}
	for _, n := range nodes {
		if strings.Contains(n.log.String(), `msg="member left"`) {
			t.Errorf("%s thought somebody gone", n.name)
		}
	}
}

func sizeText(n int64) string { return strconv.FormatInt(n/1e6+1, 10) + "MB" }
