package worker_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const (
	rReserved = weftv1.PlanReply_RESERVED
	rRefused  = weftv1.PlanReply_REFUSED
	rConflict = weftv1.PlanReply_CONFLICT
	rReady    = weftv1.PlanReply_READY
	rReleased = weftv1.PlanReply_RELEASED
	rFailed   = weftv1.PlanReply_FAILED
	rNone     = weftv1.PlanReply_NONE
)

func expect(t *testing.T, r *weftv1.PlanReply, state weftv1.PlanReply_State, text string) {
	t.Helper()
	if r.State != state || !strings.Contains(r.Error, text) {
		t.Errorf("got %v, want %v with %q", r, state, text)
	}
}

// solo is a one-stage plan on node a, of a model named by n.
func solo(owner string, generation uint64, n byte) *weftv1.PlanSpec {
	p := planOf(tiny(), owner, generation, []string{"a"})
	p.Id.Model[0] = n
	return p
}

func TestAMalformedPlanIsRefused(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "b")
	for name, change := range map[string]func(*weftv1.PlanSpec){
		"no id":                  func(p *weftv1.PlanSpec) { p.Id = nil },
		"short model":            func(p *weftv1.PlanSpec) { p.Id.Model = p.Id.Model[:31] },
		"no profile":             func(p *weftv1.PlanSpec) { p.Id.Profile = nil },
		"no owner":               func(p *weftv1.PlanSpec) { p.Id.Owner = "" },
		"long name":              func(p *weftv1.PlanSpec) { p.Name = strings.Repeat("x", 300) },
		"no layers":              func(p *weftv1.PlanSpec) { p.Layers = 0 },
		"no stages":              func(p *weftv1.PlanSpec) { p.Stages = nil },
		"another contract":       func(p *weftv1.PlanSpec) { p.Id.Profile.Contract = 99 },
		"7-bit activations":      func(p *weftv1.PlanSpec) { p.Id.Profile.ActBits = 7 },
		"unknown KV type":        func(p *weftv1.PlanSpec) { p.Id.Profile.KvType = 2 },
		"no context":             func(p *weftv1.PlanSpec) { p.Id.Profile.Context = 0 },
		"a gap":                  func(p *weftv1.PlanSpec) { p.Stages[1].First++ },
		"layers left":            func(p *weftv1.PlanSpec) { p.Layers++ },
		"too many layers":        func(p *weftv1.PlanSpec) { p.Stages[1].Last++ },
		"a node twice":           func(p *weftv1.PlanSpec) { p.Stages[1].Peer = "a" },
		"a stage without a peer": func(p *weftv1.PlanSpec) { p.Stages[1].Peer = "" },
		"no KV":                  func(p *weftv1.PlanSpec) { p.Stages[0].KvPositions = 0 },
	} {
		p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
		change(p)
		if r := m.ask("head", "a", reserve(p, 0)); r.State != rRefused || !strings.Contains(r.Error, "malformed") {
			t.Errorf("%s: %v", name, r)
		}
	}
	p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
	expect(t, m.ask("head", "a", reserve(p, 1)), rRefused, "not this node")
	expect(t, m.ask("head", "a", reserve(p, 2)), rRefused, "not this node")
	expect(t, m.ask("rogue", "a", reserve(p, 0)), rRefused, "owner is head")
	expect(t, m.ask("head", "a", &weftv1.PlanRequest{}), rRefused, "does not know")
	expect(t, m.ask("head", "a", commit(p)), rNone, "")
	expect(t, m.ask("head", "a", release(p)), rNone, "")
	expect(t, m.ask("head", "a", lookup(p)), rNone, "")
}

func TestMemoryThatIsMissingIsNamed(t *testing.T) {
	m := newMesh(t, meshOptions{config: func(_ string, c *worker.Config) { c.Offered = func() uint64 { return 200 } }}, "a")
	expect(t, m.ask("x", "a", reserve(solo("x", 1, 1), 0)), rReserved, "")
	r := m.ask("x", "a", reserve(solo("x", 1, 2), 0)) // a stage takes 123
	expect(t, r, rRefused, "46 bytes of memory are missing")
	if r.MissingBytes != 46 {
		t.Errorf("missing %d", r.MissingBytes)
	}
	if s := m.nodes["a"].worker.Stats(); s.ReservedBytes != 123 || s.OfferedBytes != 200 || len(s.Plans) != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestAnIdlePlanGivesWayWhenItsMemoryIsNeeded(t *testing.T) {
	m := newMesh(t, meshOptions{config: func(_ string, c *worker.Config) { c.Offered = func() uint64 { return 250 } }}, "a", "x")
	first, second, third := solo("x", 1, 1), solo("x", 1, 2), solo("x", 1, 3)
	m.load(first)
	m.load(second)
	h := openHead(t, m.nodes["x"], first) // in use: it stays
	expect(t, m.ask("x", "a", reserve(third, 0)), rReserved, "")
	expect(t, m.ask("x", "a", lookup(first)), rReady, "")
	expect(t, m.ask("x", "a", lookup(second)), rNone, "")
	h.close()
}

func TestTwoHeadsThatProposeAtOnceAgree(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a")
	x, y := solo("x", 2, 1), solo("y", 2, 1)
	expect(t, m.ask("y", "a", reserve(y, 0)), rReserved, "")
	// x is smaller: it takes the place, and y learns of it.
	expect(t, m.ask("x", "a", reserve(x, 0)), rReserved, "")
	for _, req := range []*weftv1.PlanRequest{commit(y), reserve(y, 0)} {
		r := m.ask("y", "a", req)
		expect(t, r, rConflict, "")
		if !proto.Equal(r.Existing, x) {
			t.Errorf("existing %v", r.Existing)
		}
	}
	// The winner's repetition is no conflict.
	expect(t, m.ask("x", "a", reserve(x, 0)), rReserved, "")
	// A smaller generation wins over a smaller owner.
	low := solo("z", 1, 1)
	expect(t, m.ask("z", "a", reserve(low, 0)), rReserved, "")
	expect(t, m.ask("x", "a", commit(x)), rConflict, "")
	expect(t, m.ask("z", "a", commit(low)), rReady, "")
	// A finished plan stands against all.
	least := solo("a", 0, 1)
	r := m.ask("a", "a", reserve(least, 0))
	expect(t, r, rConflict, "")
	if !proto.Equal(r.Existing, low) {
		t.Errorf("existing %v", r.Existing)
	}
	if r := m.ask("q", "a", lookup(least)); r.State != rReady || !proto.Equal(r.Existing, low) {
		t.Errorf("lookup %v", r)
	}
	expect(t, m.ask("z", "a", reserve(low, 0)), rReady, "")
}

func TestAnOwnersNewerPlanReplacesItsOlder(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "x")
	m.load(solo("x", 1, 1))
	expect(t, m.ask("x", "a", reserve(solo("x", 2, 1), 0)), rReserved, "")
	expect(t, m.ask("x", "a", reserve(solo("x", 1, 1), 0)), rConflict, "")
	expect(t, m.ask("x", "a", commit(solo("x", 2, 1))), rReady, "")
	if n := m.nodes["a"].loader.loads; n != 2 {
		t.Errorf("%d loads", n)
	}
}

func TestAPlanOfTheDeadDoesNotStandInTheWay(t *testing.T) {
	var dead atomic.Value
	dead.Store("")
	m := newMesh(t, meshOptions{config: func(_ string, c *worker.Config) {
		c.Alive = func(peer string) bool { return peer != dead.Load() }
	}}, "a", "b")
	p := planOf(tiny(), "x", 1, []string{"a", "b"}, 1)
	m.load(p)
	other := planOf(tiny(), "y", 5, []string{"a"})
	expect(t, m.ask("y", "a", reserve(other, 0)), rConflict, "")
	dead.Store("b")
	expect(t, m.ask("y", "a", lookup(p)), rNone, "")
	expect(t, m.ask("y", "a", reserve(other, 0)), rReserved, "")
}

func TestReservationsAndOrphansExpire(t *testing.T) {
	var gone atomic.Bool
	m := newMesh(t, meshOptions{config: func(_ string, c *worker.Config) {
		c.ReserveTime, c.OrphanTime = 100*time.Millisecond, 100*time.Millisecond
		c.Alive = func(peer string) bool { return peer != "x" || !gone.Load() }
	}}, "a", "x")
	ready, waiting := solo("x", 1, 1), solo("x", 1, 2)
	m.load(ready)
	expect(t, m.ask("x", "a", reserve(waiting, 0)), rReserved, "")
	until := func(p *weftv1.PlanSpec, state weftv1.PlanReply_State) {
		t.Helper()
		deadline := time.Now().Add(3 * time.Second)
		for m.ask("x", "a", lookup(p)).State != state {
			if time.Now().After(deadline) {
				t.Fatalf("not %v in time", state)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	until(waiting, rNone)
	expect(t, m.ask("x", "a", commit(waiting)), rNone, "")
	expect(t, m.ask("x", "a", lookup(ready)), rReady, "")
	h := openHead(t, m.nodes["x"], ready)
	gone.Store(true)
	time.Sleep(300 * time.Millisecond)
	expect(t, m.ask("y", "a", lookup(ready)), rReady, "") // in use
	h.close()
	until(ready, rNone)
}

// A stage that stood still while its head gave the plan back does not keep its
// memory once the plan cannot be used any more, though the head lives.
func TestABrokenPlanThatNobodyUsesGivesItsMemoryBack(t *testing.T) {
	var dead atomic.Value
	dead.Store("")
	m := newMesh(t, meshOptions{config: func(_ string, c *worker.Config) {
		c.OrphanTime = 100 * time.Millisecond
		c.Alive = func(peer string) bool { return peer != dead.Load() }
	}}, "a", "b", "x")
	p := planOf(tiny(), "x", 1, []string{"a", "b"}, 1)
	m.load(p)
	a := m.nodes["a"].worker
	h := openHead(t, m.nodes["x"], p)
	dead.Store("b")
	time.Sleep(300 * time.Millisecond)
	if s := a.Stats(); len(s.Plans) != 1 {
		t.Fatalf("while a head uses it: %d plans", len(s.Plans))
	}
	h.close()
	for deadline := time.Now().Add(5 * time.Second); len(a.Stats().Plans) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the plan is still there")
		}
	}
	if s := a.Stats(); s.ReservedBytes != 0 {
		t.Errorf("%d bytes are reserved", s.ReservedBytes)
	}
}

func TestOnlyTheOwnerCommitsAndReleases(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a")
	p := solo("x", 1, 1)
	expect(t, m.ask("x", "a", reserve(p, 0)), rReserved, "")
	expect(t, m.ask("y", "a", commit(p)), rRefused, "only its owner x")
	expect(t, m.ask("y", "a", release(p)), rRefused, "making it, and lives")
	expect(t, m.ask("x", "a", release(p)), rReleased, "")
	expect(t, m.ask("x", "a", lookup(p)), rNone, "")
	m.load(p)
	if m.nodes["a"].worker.Release(&weftv1.PlanID{}, "x") || !m.nodes["a"].worker.Release(p.Id, "freed") {
		t.Error("release by the daemon")
	}
}

func TestAFinishedPlanGoesWhenNoOtherHeadUsesIt(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "y")
	p := solo("x", 1, 1)
	m.load(p)
	h := openHead(t, m.nodes["y"], p)
	expect(t, m.ask("x", "a", release(p)), rRefused, "another head")
	expect(t, m.ask("z", "a", release(p)), rRefused, "another head")
	if got, _ := h.reply(promptOf(8, 1), 3, 8, nil); len(got) != 3 {
		t.Errorf("the other head's reply after the requests: %v", got)
	}
	h.close()
	m.unchained("a")
	// A head whose chain did not open clears the way for a new plan.
	expect(t, m.ask("z", "a", release(p)), rReleased, "")
	expect(t, m.ask("z", "a", lookup(p)), rNone, "")
}

func TestALoadThatFailsIsReportedAndCanBeTriedAgain(t *testing.T) {
	m := newMesh(t, meshOptions{loader: func(_ string, l *loader) { l.fail = errors.New("the disk is full") }}, "a")
	p := solo("x", 1, 1)
	expect(t, m.ask("x", "a", reserve(p, 0)), rReserved, "")
	expect(t, m.ask("x", "a", commit(p)), rFailed, "the disk is full")
	if s := m.nodes["a"].worker.Stats().Plans[0]; s.State != rFailed || s.Error != "the disk is full" {
		t.Errorf("stats %+v", s)
	}
	m.nodes["a"].loader.fail = nil
	m.load(p)
}

func TestProgressIsReportedWhileAStageLoads(t *testing.T) {
	hold := make(chan struct{})
	var changes atomic.Int32
	m := newMesh(t, meshOptions{loader: func(_ string, l *loader) { l.hold = hold }, config: func(_ string, c *worker.Config) {
		c.Changed = func() { changes.Add(1) }
	}}, "a")
	p := solo("a", 1, 1)
	w := m.nodes["a"].worker
	if r, err := w.Ask(t.Context(), reserve(p, 0), nil); err != nil || r.State != rReserved {
		t.Fatal(r, err)
	}
	var seen []weftv1.PlanReply_State
	r, err := w.Ask(t.Context(), commit(p), func(r *weftv1.PlanReply) {
		seen = append(seen, r.State)
		if r.BytesTotal == 2 && hold != nil {
			close(hold)
			hold = nil
		}
	})
	if err != nil || r.State != rReady || len(seen) == 0 || seen[0] != weftv1.PlanReply_FETCHING {
		t.Errorf("%v, %v after %v", r, err, seen)
	}
	w.Close()
	if changes.Load() != 2 { // it became ready, and was released
		t.Errorf("%d changes", changes.Load())
	}
}

func TestReleasingAPlanStopsItsLoad(t *testing.T) {
	m := newMesh(t, meshOptions{loader: func(_ string, l *loader) { l.hold = make(chan struct{}) }}, "a")
	p := solo("x", 1, 1)
	expect(t, m.ask("x", "a", reserve(p, 0)), rReserved, "")
	near, far := wire.PipeStream()
	m.wg.Go(func() { m.nodes["a"].worker.ServePlan(far, "x") })
	started := make(chan struct{})
	done := make(chan *weftv1.PlanReply)
	go func() {
		r, _ := worker.AskPlan(context.Background(), near, commit(p), func(*weftv1.PlanReply) {
			select {
			case <-started:
			default:
				close(started)
			}
		})
		done <- r
	}()
	<-started
	expect(t, m.ask("y", "a", lookup(p)), weftv1.PlanReply_FETCHING, "") // answered, not followed
	expect(t, m.ask("x", "a", release(p)), rReleased, "")
	expect(t, <-done, rReleased, "released by x")
}

func TestAskingAPeerThatAnswersNonsenseFails(t *testing.T) {
	near, far := wire.PipeStream()
	go func() { _ = far.Close() }()
	if _, err := worker.AskPlan(t.Context(), near, lookup(solo("x", 1, 1)), nil); err == nil {
		t.Error("no error from a closed stream")
	}
	near, far = wire.PipeStream()
	go func() {
		_, _ = far.Write([]byte{0xff, 0xff, 0xff, 0x7f})
	}()
	if _, err := worker.AskPlan(t.Context(), near, lookup(solo("x", 1, 1)), nil); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("error %v", err)
	}
	_ = far.Close()
}

func TestAWorkerNeedsItsParts(t *testing.T) {
	if _, err := worker.New(worker.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}
