package e2e_test

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/scripts/netlab"
)

// joins lets a new machine in by a code that is typed at a member, whose address
// the machine was told.
func (n *labNode) joins(t *testing.T, at *labNode) {
	t.Helper()
	args := append([]string{"--listen", ":4710", "--peer", at.host.Addr().String() + ":4710"}, n.args...)
	n.daemon = launchBy(t, n.host.Start, n.name, n.home, args...)
	if out := mustRun(t, at.home, "approve", n.code(t, "")); !strings.HasPrefix(out, n.name+" has joined ") {
		t.Errorf("approve says %q", out)
	}
	if err := n.await(t); err != nil {
		t.Fatal(err)
	}
}

// homes are two members at home, each behind a router that translates addresses,
// and one that everybody reaches.
type homes struct {
	lab       *netlab.Lab
	a, b, via *labNode
	router    *netlab.Router // of a
	near, far time.Duration  // one way between the homes, and to the third
}

// newHomes has the two join by code, and a model of which each holds half.
func newHomes(t *testing.T, symmetric bool) *homes {
	t.Helper()
	lab := newLab(t)
	h := &homes{lab: lab, near: 2 * time.Millisecond, far: 20 * time.Millisecond}
	h.a, h.b = labHost(t, lab, "a", 1, "--memory", "14MB"), labHost(t, lab, "b", 2, "--memory", "14MB")
	h.via = labHost(t, lab, "via", 0, "--memory", "0")
	for _, n := range []*labNode{h.b, h.a} {
		r, err := lab.Router(0, symmetric, n.host)
		if err != nil {
			t.Fatal(err)
		}
		h.router = r
	}
	if err := errors.Join(lab.SetAll(netlab.Path{Delay: h.far}), lab.Join(h.a.host, h.b.host, netlab.Path{Delay: h.near})); err != nil {
		t.Fatal(err)
	}
	h.via.up(t)
	h.a.joins(t, h.via)
	h.b.joins(t, h.via)
	sight(t, 20*time.Second, h.all()...)
	mustRun(t, h.a.home, "add", deep(t, 24), "--name", "m", "--ctx", "512")
	h.b.seesModel(t, "m")
	return h
}

func (h *homes) all() []*labNode { return []*labNode{h.via, h.a, h.b} }

// answers asks a node until it answers, over both homes.
func (h *homes) answers(t *testing.T, n *labNode) (got api.Reply) {
	t.Helper()
	eventually(t, 60*time.Second, func() (err error) {
		got, err = n.ask(t, "m", 20, nil)
		return err
	})
	if len(got.Plan.Stages) != 2 {
		t.Errorf("plan %+v", got.Plan)
	}
	return got
}

// goesOn changes something about a's router, and wants the same replies from
// outside and from behind the other router.
func (h *homes) goesOn(t *testing.T, want api.Reply, change func() error) {
	t.Helper()
	if err := change(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for _, n := range []*labNode{h.via, h.b} {
		if diff := cmp.Diff(bytesIn(want), bytesIn(h.answers(t, n))); diff != "" {
			t.Errorf("%s (-before +after):\n%s", n.name, diff)
		}
	}
	took := time.Since(begin)
	sight(t, 20*time.Second, h.all()...)
	t.Logf("answered again %v after it; members were thought gone %d times so far", took.Round(time.Millisecond), left(h.all()...))
}

// TestLabMembersBehindRouters has the two compute together, first through the
// third and then directly, and go on when a router forgets its conversations or
// gets another address.
func TestLabMembersBehindRouters(t *testing.T) {
	h := newHomes(t, false)
	begin := time.Now()
	want := h.answers(t, h.b)
	// Routers are punched by packets that have to cross on their way: where other
	// programs have the cores, that is left to the strict form.
	err := within(time.Minute, func() error { return roundTrip(t, h.a, "b", 2*h.near, h.far) })
	switch {
	case err != nil && os.Getenv("WEFT_TEST_LONG") == "" && load(t) > float64(runtime.NumCPU()):
		t.Skip("not run: the routers were not punched within a minute on a busy machine:", err)
	case err != nil:
		t.Fatal(err)
	}
	t.Logf("direct through both routers %v after they have joined", time.Since(begin).Round(time.Millisecond))
	t.Run("a router that forgets", func(t *testing.T) {
		h.goesOn(t, want, func() error { h.router.Forget(); return nil })
	})
	t.Run("a router with another address", func(t *testing.T) {
		h.goesOn(t, want, func() error { _, err := h.router.Readdress(0); return err })
	})
}

// TestLabMembersBehindRoutersThatNobodyPunches has routers that pick a port for
// each destination.
func TestLabMembersBehindRoutersThatNobodyPunches(t *testing.T) {
	h := newHomes(t, true)
	want := h.answers(t, h.b)
	eventually(t, 20*time.Second, func() error { return roundTrip(t, h.a, "b", 4*h.far, time.Second) })
	h.goesOn(t, want, func() error { h.router.Forget(); return nil })
	if err := roundTrip(t, h.a, "b", 4*h.far, 2*time.Second); err != nil {
		t.Error(err)
	}
}

// left counts how often any node has said that another has gone.
func left(nodes ...*labNode) int {
	n := 0
	for _, d := range nodes {
		n += strings.Count(d.log.String(), `msg="member left"`)
	}
	return n
}
