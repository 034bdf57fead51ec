package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
)

func TestAKilledStageIsNamedWithinASecond(t *testing.T) {
	for _, victim := range []string{"a", "b", "c"} {
		t.Run(victim, func(t *testing.T) {
			m := newMesh(t, meshOptions{weights: repeated(3)}, "a", "b", "c", "head")
			p := planOf(repeated(3), "head", 1, []string{"a", "b", "c"}, 1, 2)
			m.load(p)
			h := openHead(t, m.nodes["head"], p)
			id := newSession()
			f, payload := openFrame(id, promptOf(4, 1), 64)
			h.send(h.decode, f, payload)
			want[*weftv1.OpenReply](t, h.in)
			start := time.Now()
			m.kill(victim)
			l := want[*weftv1.Lost](t, h.in)
			if l.Peer != victim {
				t.Errorf("%s is lost (%s), want %s", l.Peer, l.Reason, victim)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("known after %s", took)
			}
			h.decode.Close()
			<-h.decode.Done()
			var lost *worker.LostError
			if err := h.decode.Send(closeFrame(id), nil); !errors.As(err, &lost) {
				t.Errorf("send after the loss: %v", err)
			}
			h.prefill.Close()
			<-h.prefill.Done()
			m.idle()
		})
	}
}

func TestAHungStageIsGivenUpByItsHeartbeats(t *testing.T) {
	for _, victim := range []string{"a", "b", "c"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t, meshOptions{weights: repeated(3)}, "a", "b", "c", "head")
			p := planOf(repeated(3), "head", 1, []string{"a", "b", "c"}, 1, 2)
			m.load(p)
			h := openHead(t, m.nodes["head"], p)
			f, payload := openFrame(newSession(), promptOf(4, 1), 64)
			h.decode.Busy(1)
			h.send(h.decode, f, payload)
			want[*weftv1.OpenReply](t, h.in)
			time.Sleep(250 * time.Millisecond)
			start := time.Now()
			m.hang(victim)
			l := want[*weftv1.Lost](t, h.in)
			if l.Peer != victim || !strings.Contains(l.Reason, "heartbeats") {
				t.Errorf("%s is lost (%s), want %s", l.Peer, l.Reason, victim)
			}
			if took := time.Since(start); took > 1500*time.Millisecond {
				t.Errorf("known after %s", took)
			} else {
				t.Logf("known after %s", took)
			}
			h.decode.Close()
			h.prefill.Close()
			<-h.decode.Done()
			<-h.prefill.Done()
		})
	}
}

func TestAHeadThatGoesLeavesNothingBehind(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "b", "head")
	p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	id := newSession()
	f, payload := openFrame(id, promptOf(100, 1), 200)
	h.send(h.decode, f, payload)
	want[*weftv1.OpenReply](t, h.in)
	h.send(h.prefill, runFrame(id, 0, 0, promptOf(100, 1), 0), nil)
	m.kill("head")
	m.idle()
	for _, name := range []string{"a", "b"} {
		m.unchained(name)
	}
	h.decode.Close()
	h.prefill.Close()
	<-h.decode.Done()
	<-h.prefill.Done()
}

func TestAChainToAMissingNodeSaysWhich(t *testing.T) {
	m := newMesh(t, meshOptions{weights: repeated(3)}, "a", "b", "c", "head")
	p := planOf(repeated(3), "head", 1, []string{"a", "b", "c"}, 1, 2)
	m.load(p)
	for _, victim := range []string{"c", "b", "a"} {
		m.mu.Lock()
		m.down[victim] = true
		m.mu.Unlock()
		_, err := m.nodes["head"].router.OpenChain(context.Background(), p, weftv1.Class_CLASS_DECODE, newInbox())
		var lost *worker.LostError
		if !errors.As(err, &lost) || lost.Lost.Peer != victim || !strings.Contains(err.Error(), "unreachable") {
			t.Errorf("%s is down: %v", victim, err)
		}
	}
	// A plan that was released.
	m.mu.Lock()
	clear(m.down)
	m.mu.Unlock()
	if r := m.ask("head", "b", release(p)); r.State != weftv1.PlanReply_RELEASED {
		t.Fatal(r)
	}
	_, err := m.nodes["head"].router.OpenChain(context.Background(), p, weftv1.Class_CLASS_DECODE, newInbox())
	if err == nil || !strings.Contains(err.Error(), "no such plan") {
		t.Errorf("after a release: %v", err)
	}
}

func TestReleasingAPlanEndsItsChains(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "b", "head")
	p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	if r := m.ask("head", "b", release(p)); r.State != weftv1.PlanReply_RELEASED {
		t.Fatal(r)
	}
	if l := want[*weftv1.Lost](t, h.in); l.Peer != "b" || !strings.Contains(l.Reason, "released by head") {
		t.Errorf("lost %v", l)
	}
	h.decode.Close()
	h.prefill.Close()
	<-h.decode.Done()
	<-h.prefill.Done()
	if n := len(m.nodes["b"].worker.Stats().Plans); n != 0 {
		t.Errorf("%d plans are left", n)
	}
}

func TestALostDeviceReleasesThePlan(t *testing.T) {
	m := newMesh(t, meshOptions{loader: func(_ string, l *loader) {
		l.wrap = func(s worker.Stage) worker.Stage { return brokenStage{s} }
	}}, "a", "head")
	p := planOf(tiny(), "head", 1, []string{"a"})
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	id := newSession()
	f, payload := openFrame(id, promptOf(4, 1), 64)
	h.send(h.decode, f, payload)
	want[*weftv1.OpenReply](t, h.in)
	h.send(h.decode, runFrame(id, 0, 0, promptOf(4, 1), 1), nil)
	if l := want[*weftv1.Lost](t, h.in); l.Peer != "a" || !strings.Contains(l.Reason, "device lost: it burns") {
		t.Errorf("lost %v", l)
	}
	h.decode.Close()
	h.prefill.Close()
	<-h.decode.Done()
	<-h.prefill.Done()
}

type brokenStage struct{ worker.Stage }

func (brokenStage) Step([]shard.Run) ([]shard.Result, error) { return nil, errors.New("it burns") }

// faultyStage fails every run that begins with token 13.
type faultyStage struct{ worker.Stage }

func (f faultyStage) Step(runs []shard.Run) ([]shard.Result, error) {
	results, err := f.Stage.Step(runs)
	for i := range results {
		if runs[i].Tokens[0] == 13 {
			results[i] = shard.Result{Session: runs[i].Session, Epoch: runs[i].Epoch, Base: runs[i].Base, N: len(runs[i].Tokens), Err: errors.New("layer 1: a value is not finite")}
		}
	}
	return results, err
}

func TestAFaultInTheMiddleReachesTheHeadThroughTheLaterStages(t *testing.T) {
	w := repeated(3)
	m := newMesh(t, meshOptions{weights: w, loader: func(name string, l *loader) {
		if name == "b" {
			l.wrap = func(s worker.Stage) worker.Stage { return faultyStage{s} }
		}
	}}, "a", "b", "c", "head")
	p := planOf(w, "head", 1, []string{"a", "b", "c"}, 1, 2)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	id := newSession()
	f, payload := openFrame(id, nil, 64)
	h.send(h.decode, f, payload)
	want[*weftv1.OpenReply](t, h.in)
	h.send(h.prefill, runFrame(id, 0, 0, []uint32{13, 4}, 0), nil)
	h.send(h.prefill, runFrame(id, 0, 2, []uint32{5}, 1), nil)
	r := want[*weftv1.Result](t, h.pre)
	if r.ErrorBy != "b" || !strings.Contains(r.Error, "layer 1") || r.Count != 2 {
		t.Errorf("result %v", r)
	}
	// Confirming or truncating a session that has failed harms nobody.
	h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Confirm{Confirm: &weftv1.Confirm{Session: id, Length: 1}}}, nil)
	h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: &weftv1.Truncate{Session: id, Epoch: 1}}}, nil)
	h.send(h.decode, closeFrame(id), nil)
	// Stage a had nothing to complain of: it confirmed and truncated.
	for {
		f := <-h.in.frames
		if _, ok := f.(*weftv1.CloseReply); ok {
			break
		}
		if r, ok := f.(*weftv1.Result); !ok || r.Error == "" {
			t.Fatalf("got %v", f)
		}
	}
	h.close()
	m.idle()
}

func TestALastStageThatBreaksTheProtocolIsNamed(t *testing.T) {
	m := newMesh(t, meshOptions{}, "head")
	p := planOf(tiny(), "head", 1, []string{"evil"})
	evil := worker.NewRouter(worker.RouterConfig{Self: "evil"})
	defer evil.Close()
	for name, frame := range map[string]*weftv1.Frame{"up": closeFrame(newSession()), "down": closeFrame(newSession())} {
		// evil answers the head's hello as a last stage would, then sends nonsense.
		var r *worker.Router
		r = worker.NewRouter(worker.RouterConfig{Self: "head2", OpenStream: func(context.Context, string, weftv1.Class) (wire.Stream, error) {
			near, far := wire.PipeStream()
			m.wg.Go(func() {
				l := wire.NewLink(far, "head2", wire.Config{Beat: -1})
				f, _, err := l.Recv()
				if err != nil {
					return
				}
				hello := f.GetHello()
				n2, f2 := wire.PipeStream()
				m.wg.Go(func() { r.Serve(f2, "evil") })
				up := wire.NewLink(n2, "head2", wire.Config{Beat: -1})
				_ = up.Send(&weftv1.Frame{Body: &weftv1.Frame_Hello{Hello: &weftv1.ChainHello{
					Plan: hello.Plan, Head: hello.Head, Chain: hello.Chain, Class: hello.Class, From: 1, To: 2,
				}}}, nil)
				if name == "up" {
					_ = up.Send(frame, nil)
				} else {
					time.Sleep(50 * time.Millisecond)
					_ = l.Send(frame, nil)
				}
				_, _, _ = l.Recv()
				<-l.Done()
				_, _, _ = up.Recv()
				<-up.Done()
			})
			return near, nil
		}})
		box := newInbox()
		c, err := r.OpenChain(t.Context(), p, weftv1.Class_CLASS_DECODE, box)
		if err == nil {
			if l := want[*weftv1.Lost](t, box); l.Peer != "evil" || !strings.Contains(l.Reason, "does not belong") {
				t.Errorf("%s: lost %v", name, l)
			}
			if c.Plan().Name != "tiny" || c.Class() != weftv1.Class_CLASS_DECODE {
				t.Errorf("chain of %v", c.Plan())
			}
			<-c.Done()
		} else if !strings.Contains(err.Error(), "does not belong") {
			t.Error(err)
		}
		r.Close()
	}
}
