package worker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
)

// promptOf is a prompt of n tokens that are all in the tiny vocabulary.
func promptOf(n, seed int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = uint32((i*37+seed*11)%200 + 3)
	}
	return out
}

// cuts are plans of one, two and three stages; the asked node is the first
// stage, a later one, or none of them.
var cuts = []struct {
	name   string
	layers int
	head   string
	stages []string
	at     []int
}{
	{"one stage, which is the head", 4, "a", []string{"a"}, nil},
	{"one stage elsewhere", 4, "head", []string{"a"}, nil},
	{"two stages, the head is the first", 4, "a", []string{"a", "b"}, []int{1}},
	{"two stages, the head is the last", 4, "b", []string{"a", "b"}, []int{2}},
	{"three stages and a head beside them", 5, "head", []string{"a", "b", "c"}, []int{1, 3}},
	{"three stages, the head is in the middle", 5, "b", []string{"a", "b", "c"}, []int{2, 3}},
}

func TestRepliesDoNotDependOnTheCut(t *testing.T) {
	for _, c := range cuts {
		t.Run(c.name, func(t *testing.T) {
			w := repeated(c.layers)
			prompt := promptOf(45, 1)
			tokens, hash := direct(t, w, prompt, 12)
			m := newMesh(t, meshOptions{weights: w}, "a", "b", "c", "head")
			p := planOf(w, c.head, 1, c.stages, c.at...)
			m.load(p)
			h := openHead(t, m.nodes[c.head], p)
			for _, chunk := range []int{16, 64} {
				got, gotHash := h.reply(prompt, 12, chunk, nil)
				if d := cmp.Diff(tokens, got); d != "" {
					t.Errorf("chunk %d: tokens differ: %s", chunk, d)
				}
				if d := cmp.Diff(hash, gotHash); d != "" {
					t.Errorf("chunk %d: state differs: %s", chunk, d)
				}
			}
			h.close()
			m.idle()
		})
	}
}

func TestDraftsDoNotChangeTheReply(t *testing.T) {
	w := repeated(5)
	prompt := promptOf(20, 2)
	tokens, _ := direct(t, w, prompt, 24)
	m := newMesh(t, meshOptions{weights: w}, "a", "b", "c", "head")
	p := planOf(w, "head", 1, []string{"a", "b", "c"}, 2, 3)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	// Some drafts are right for one, two or three tokens, then wrong.
	got, _ := h.reply(prompt, 24, 32, func(at int) []uint32 {
		d := slices.Clone(tokens[at:min(at+at%4, len(tokens))])
		return append(d, 5, 6)
	})
	if d := cmp.Diff(tokens, got); d != "" {
		t.Error(d)
	}
	h.close()
	m.idle()
}

func TestSessionsOfTwoHeadsRunAtOnce(t *testing.T) {
	w := repeated(4)
	m := newMesh(t, meshOptions{weights: w, maxRows: 64}, "a", "b", "x", "y")
	p := planOf(w, "x", 1, []string{"a", "b"}, 2)
	m.load(p)
	var wg sync.WaitGroup
	for i := range 6 {
		prompt := promptOf(30+7*i, i)
		tokens, _ := direct(t, w, prompt, 10)
		h := openHead(t, m.nodes[[]string{"x", "y"}[i%2]], p)
		wg.Go(func() {
			defer h.close()
			if got, _ := h.reply(prompt, 10, 16, nil); !slices.Equal(got, tokens) {
				t.Errorf("session %d: %v, want %v", i, got, tokens)
			}
		})
	}
	wg.Wait()
	m.idle()
	m.unchained("a")
	for _, p := range m.nodes["a"].worker.Stats().Plans {
		if p.Chains != 0 || p.Steps == 0 || p.Rows < 6*40 || len(p.StepTimes) == 0 || p.Busy == 0 {
			t.Errorf("stats %+v", p)
		}
	}
}

func TestAPrefixIsReusedByTheNextSession(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "b", "head")
	p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	prompt := promptOf(70, 3)
	first, _ := h.reply(prompt, 8, 32, nil)
	id := newSession()
	f, payload := openFrame(id, prompt, 100)
	h.send(h.decode, f, payload)
	if r := want[*weftv1.OpenReply](t, h.in); r.Held != 64 {
		t.Errorf("%d positions held, want 64", r.Held)
	}
	h.send(h.decode, closeFrame(id), nil)
	want[*weftv1.CloseReply](t, h.in)
	if second, _ := h.reply(prompt, 8, 32, nil); !slices.Equal(first, second) {
		t.Errorf("%v after %v", second, first)
	}
	h.close()
	m.idle()
}

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

func TestACancelledSessionGivesEverythingBack(t *testing.T) {
	m := newMesh(t, meshOptions{weights: repeated(4)}, "a", "b", "head")
	p := planOf(repeated(4), "head", 1, []string{"a", "b"}, 2)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	id := newSession()
	prompt := promptOf(250, 1)
	f, payload := openFrame(id, prompt, 400)
	h.send(h.decode, f, payload)
	want[*weftv1.OpenReply](t, h.in)
	for at := 0; at < 250; at += 50 {
		h.send(h.prefill, runFrame(id, 0, at, prompt[at:at+50], 0), nil)
	}
	h.send(h.decode, closeFrame(id), nil)
	want[*weftv1.CloseReply](t, h.in)
	m.idle()
	// A session that is closed before its opening was answered.
	id = newSession()
	f, payload = openFrame(id, prompt, 400)
	h.send(h.decode, f, payload)
	h.send(h.decode, closeFrame(id), nil)
	want[*weftv1.OpenReply](t, h.in)
	want[*weftv1.CloseReply](t, h.in)
	m.idle()
	h.close()
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

func TestMoreThanTheCreditEndsTheChain(t *testing.T) {
	m := newMesh(t, meshOptions{loader: func(_ string, l *loader) {
		l.wrap = func(s worker.Stage) worker.Stage { return slowStage{s} }
	}}, "a", "head")
	p := planOf(tiny(), "head", 1, []string{"a"})
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	id := newSession()
	f, payload := openFrame(id, promptOf(4, 1), 400)
	f.GetOpen().CreditPositions = 64
	h.send(h.decode, f, payload)
	want[*weftv1.OpenReply](t, h.in)
	h.send(h.prefill, runFrame(id, 0, 0, promptOf(64, 1), 0), nil)
	h.send(h.prefill, runFrame(id, 0, 64, promptOf(1, 1), 0), nil)
	l := want[*weftv1.Lost](t, h.pre)
	if !strings.Contains(l.Reason, "granted") {
		t.Errorf("reason %q", l.Reason)
	}
	h.prefill.Close()
	<-h.prefill.Done()
	h.decode.Close()
	<-h.decode.Done()
	m.idle()
}

// slowStage takes a while for a step.
type slowStage struct{ worker.Stage }

func (s slowStage) Step(runs []shard.Run) ([]shard.Result, error) {
	time.Sleep(100 * time.Millisecond)
	return s.Stage.Step(runs)
}

func TestARunThatFailsHarmsItsOwnSessionOnly(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "b", "head")
	p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	good, bad := newSession(), newSession()
	for _, id := range [][]byte{good, bad} {
		f, payload := openFrame(id, promptOf(4, 1), 64)
		h.send(h.decode, f, payload)
		want[*weftv1.OpenReply](t, h.in)
	}
	h.send(h.decode, runFrame(bad, 0, 0, []uint32{1 << 31}, 1), nil)
	r := want[*weftv1.Result](t, h.in)
	if r.Error == "" || r.ErrorBy != "a" || !slices.Equal(r.Session, bad) {
		t.Errorf("result %v", r)
	}
	h.send(h.decode, runFrame(good, 0, 0, promptOf(4, 1), 1), nil)
	if r := want[*weftv1.Result](t, h.in); r.Error != "" || len(r.Drawn) != 1 || !slices.Equal(r.Session, good) {
		t.Errorf("result %v", r)
	}
	// A gap is an error of the session too; so is a run after it, in silence.
	h.send(h.decode, runFrame(good, 0, 9, promptOf(1, 1), 1), nil)
	if r := want[*weftv1.Result](t, h.in); !strings.Contains(r.Error, "continue") {
		t.Errorf("result %v", r)
	}
	for _, id := range [][]byte{good, bad} {
		h.send(h.decode, closeFrame(id), nil)
		want[*weftv1.CloseReply](t, h.in)
	}
	h.close()
	m.idle()
}

func TestOpeningsAreRefusedWithAReasonAndAKind(t *testing.T) {
	m := newMesh(t, meshOptions{loader: func(name string, l *loader) {
		if name == "b" {
			l.blocks = 8
		}
	}, config: func(_ string, c *worker.Config) { c.MaxSessions = 2 }}, "a", "b", "head")
	p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	try := func(change func(*weftv1.Open)) *weftv1.OpenReply {
		f, payload := openFrame(newSession(), promptOf(4, 1), 64)
		change(f.GetOpen())
		h.send(h.decode, f, payload)
		r := want[*weftv1.OpenReply](t, h.in)
		if r.Refused != "" {
			h.send(h.decode, closeFrame(r.Session), nil)
			want[*weftv1.CloseReply](t, h.in)
		}
		return r
	}
	for _, c := range []struct {
		name   string
		by     string
		kind   weftv1.RefusedKind
		change func(*weftv1.Open)
	}{
		{"beyond the context", "a", weftv1.RefusedKind_REFUSED_NEVER, func(o *weftv1.Open) { o.Positions = testContext + 1 }},
		{"no positions", "a", weftv1.RefusedKind_REFUSED_NEVER, func(o *weftv1.Open) { o.Positions = 0 }},
		{"prompt longer than positions", "a", weftv1.RefusedKind_REFUSED_NEVER, func(o *weftv1.Open) { o.Positions = 3 }},
		{"bad sampling", "a", weftv1.RefusedKind_REFUSED_NEVER, func(o *weftv1.Open) { o.Sampling.Temperature = -1 }},
		{"more than b ever has", "b", weftv1.RefusedKind_REFUSED_NEVER, func(o *weftv1.Open) { o.Positions = 8*16 + 1 }},
	} {
		if r := try(c.change); r.Refused == "" || r.RefusedBy != c.by || r.RefusedKind != c.kind || r.Held != 0 {
			t.Errorf("%s: %v", c.name, r)
		}
		m.idle()
	}
	if r := try(func(o *weftv1.Open) { o.Positions = 100 }); r.Refused != "" {
		t.Errorf("refused: %v", r)
	}
	if r := try(func(o *weftv1.Open) { o.Positions = 100 }); r.RefusedBy != "b" || r.RefusedKind != weftv1.RefusedKind_REFUSED_BUSY {
		t.Errorf("second session: %v", r)
	}
	if r := try(func(o *weftv1.Open) { o.Positions = 16 }); r.Refused != "" {
		t.Errorf("refused: %v", r)
	}
	if r := try(func(o *weftv1.Open) { o.Positions = 16 }); r.RefusedBy != "a" || r.RefusedKind != weftv1.RefusedKind_REFUSED_BUSY {
		t.Errorf("third session: %v", r)
	}
	h.close()
	m.idle()
}

func TestStrangersAndWrongPredecessorsAreRefused(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "b", "head", "rogue")
	p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
	m.load(p)
	good := &weftv1.ChainHello{Plan: p.Id, Head: "rogue", Chain: 1, From: 1, To: 2}
	for name, c := range map[string]struct {
		to    string
		hello *weftv1.ChainHello
	}{
		"a stage's predecessor is another node": {"b", good},
		"it greets in the name of another head": {"a", &weftv1.ChainHello{Plan: p.Id, Head: "head", Chain: 1, To: 1}},
		"it greets another stage":               {"a", good},
		"it names another plan":                 {"a", &weftv1.ChainHello{Plan: planOf(tiny(), "head", 2, []string{"a"}).Id, Head: "rogue", To: 1}},
		"it answers a chain that is not open":   {"head", &weftv1.ChainHello{Plan: p.Id, Head: "head", Chain: 1, From: 2, To: 3}},
	} {
		stream, err := m.open("rogue", c.to)
		if err != nil {
			t.Fatal(err)
		}
		l := wire.NewLink(stream, c.to, wire.Config{})
		if err := l.Send(&weftv1.Frame{Body: &weftv1.Frame_Hello{Hello: c.hello}}, nil); err != nil {
			t.Fatal(err)
		}
		f, _, err := l.Recv()
		if err != nil || f.GetLost() == nil || f.GetLost().Peer != c.to {
			t.Errorf("%s: got %v, %v", name, f, err)
		}
		l.Close(nil)
		<-l.Done()
	}
	// Streams that begin with something else are reset.
	for name, f := range map[string]*weftv1.Frame{
		"no hello":    closeFrame(newSession()),
		"no plan":     {Body: &weftv1.Frame_Hello{Hello: &weftv1.ChainHello{Head: "rogue", To: 1}}},
		"no head":     {Body: &weftv1.Frame_Hello{Hello: &weftv1.ChainHello{Plan: p.Id, To: 1}}},
		"bad numbers": {Body: &weftv1.Frame_Hello{Hello: &weftv1.ChainHello{Plan: p.Id, Head: "rogue", From: 1, To: 1}}},
		"bad class":   {Body: &weftv1.Frame_Hello{Hello: &weftv1.ChainHello{Plan: p.Id, Head: "rogue", To: 1, Class: 7}}},
		"not a hash":  {Body: &weftv1.Frame_Hello{Hello: &weftv1.ChainHello{Plan: &weftv1.PlanID{Model: []byte{1}}, Head: "rogue", To: 1}}},
		"no profile":  {Body: &weftv1.Frame_Hello{Hello: &weftv1.ChainHello{Plan: &weftv1.PlanID{Model: p.Id.Model}, Head: "rogue", To: 1}}},
	} {
		stream, err := m.open("rogue", "a")
		if err != nil {
			t.Fatal(err)
		}
		l := wire.NewLink(stream, "a", wire.Config{})
		if err := l.Send(f, nil); err != nil {
			t.Fatal(err)
		}
		if got, _, err := l.Recv(); err == nil {
			t.Errorf("%s: answered with %v", name, got)
		}
		<-l.Done()
	}
}

func TestFramesThatDoNotBelongEndTheChain(t *testing.T) {
	id := newSession()
	truncate := &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: &weftv1.Truncate{Session: id, Epoch: 0, Keep: 0}}}
	held, _ := openFrame(id, nil, 64)
	held.GetOpen().Held = 3
	salted, _ := openFrame(id, nil, 64)
	salted.GetOpen().Salt = make([]byte, 33)
	noCredit, _ := openFrame(id, nil, 64)
	noCredit.GetOpen().CreditPositions = 0
	for name, c := range map[string]struct {
		prefill bool
		frames  []*weftv1.Frame
		payload []byte
	}{
		"a beat's cousin":            {frames: []*weftv1.Frame{{Body: &weftv1.Frame_OpenReply{OpenReply: &weftv1.OpenReply{}}}}},
		"a result at the first":      {frames: []*weftv1.Frame{{Body: &weftv1.Frame_Result{Result: &weftv1.Result{Session: id, Error: "x"}}}}},
		"an opening for prefill":     {prefill: true, frames: []*weftv1.Frame{{Body: &weftv1.Frame_Open{Open: &weftv1.Open{Session: id}}}}},
		"a run without tokens":       {frames: []*weftv1.Frame{runFrame(id, 0, 0, nil, 0)}},
		"a run with hidden states":   {frames: []*weftv1.Frame{runFrame(id, 0, 0, []uint32{1}, 0)}, payload: make([]byte, 4)},
		"a run that draws two of 3":  {frames: []*weftv1.Frame{runFrame(id, 0, 0, []uint32{1, 2, 3}, 2)}},
		"a run far out":              {frames: []*weftv1.Frame{runFrame(id, 0, 1<<31-1, []uint32{1, 2}, 0)}},
		"a session with a short id":  {frames: []*weftv1.Frame{runFrame(id[:3], 0, 0, []uint32{1}, 0)}},
		"a close with a short id":    {frames: []*weftv1.Frame{closeFrame(id[:3])}},
		"an opening that is held":    {frames: []*weftv1.Frame{held}},
		"a long salt":                {frames: []*weftv1.Frame{salted}},
		"an opening without credit":  {frames: []*weftv1.Frame{noCredit}},
		"a payload without a prompt": {frames: []*weftv1.Frame{{Body: &weftv1.Frame_Open{Open: &weftv1.Open{Session: id, CreditPositions: 1, Positions: 1}}}}, payload: make([]byte, 4)},
		"an old epoch's truncation": {frames: []*weftv1.Frame{
			{Body: &weftv1.Frame_Open{Open: &weftv1.Open{Session: id, CreditPositions: 8, Positions: 64}}},
			runFrame(id, 1, 0, []uint32{4}, 0), truncate}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, meshOptions{}, "a", "head")
			p := planOf(tiny(), "head", 1, []string{"a"})
			m.load(p)
			h := openHead(t, m.nodes["head"], p)
			chain, box := h.decode, h.in
			if c.prefill {
				chain, box = h.prefill, h.pre
			}
			for _, f := range c.frames {
				h.send(chain, f, c.payload)
			}
			for {
				f := <-box.frames
				if l, ok := f.(*weftv1.Lost); ok {
					if l.Peer != "head" && l.Peer != "a" || !strings.Contains(l.Reason, "protocol error") {
						t.Errorf("lost %v", l)
					}
					break
				}
			}
			h.decode.Close()
			h.prefill.Close()
			<-h.decode.Done()
			<-h.prefill.Done()
			m.idle()
		})
	}
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

func TestARunOfTheNextEpochWaitsForItsTruncation(t *testing.T) {
	m := newMesh(t, meshOptions{}, "a", "b", "head")
	p := planOf(tiny(), "head", 1, []string{"a", "b"}, 1)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	id := newSession()
	f, payload := openFrame(id, promptOf(4, 1), 64)
	h.send(h.decode, f, payload)
	want[*weftv1.OpenReply](t, h.in)
	h.send(h.prefill, runFrame(id, 0, 0, promptOf(4, 1), 0), nil)
	want[*weftv1.Result](t, h.pre)
	h.send(h.prefill, runFrame(id, 1, 0, promptOf(6, 2), 1), nil)
	time.Sleep(20 * time.Millisecond)
	h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: &weftv1.Truncate{Session: id, Epoch: 1, Keep: 0}}}, nil)
	r := want[*weftv1.Result](t, h.pre)
	tokens, _ := direct(t, tiny(), promptOf(6, 2), 1)
	if r.Epoch != 1 || !slices.Equal(r.Drawn, tokens) {
		t.Errorf("result %v, want %v", r, tokens)
	}
	h.send(h.decode, closeFrame(id), nil)
	want[*weftv1.CloseReply](t, h.in)
	h.close()
	m.idle()
}

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

func TestWhatFollowsAMismatchIsDiscardedAsStale(t *testing.T) {
	m := newMesh(t, meshOptions{weights: repeated(4)}, "a", "b", "head")
	p := planOf(repeated(4), "head", 1, []string{"a", "b"}, 2)
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	prompt := promptOf(10, 3)
	tokens, _ := direct(t, repeated(4), prompt, 3)
	id := newSession()
	f, payload := openFrame(id, prompt, 64)
	f.GetOpen().Sampling = &weftv1.Sampling{WantLogprobs: true, Logprobs: 2}
	h.send(h.decode, f, payload)
	want[*weftv1.OpenReply](t, h.in)
	h.send(h.prefill, runFrame(id, 0, 0, prompt, 1), nil)
	r := want[*weftv1.Result](t, h.pre)
	if len(r.Logprobs) != 1 || r.Logprobs[0].Token != r.Drawn[0] || len(r.Logprobs[0].TopTokens) != 2 || r.Logprobs[0].TopTokens[0] != r.Drawn[0] || r.Logprobs[0].Logprob >= 0 {
		t.Errorf("logprobs %v", r.Logprobs)
	}
	// Three runs at once; the second token of the first is wrong.
	wrong := (tokens[1] + 1) % 200
	h.send(h.decode, runFrame(id, 0, 10, []uint32{tokens[0], wrong}, 2), nil)
	h.send(h.decode, runFrame(id, 0, 12, []uint32{4}, 1), nil)
	h.send(h.decode, runFrame(id, 0, 13, []uint32{4}, 1), nil)
	r = want[*weftv1.Result](t, h.in)
	if !r.EpochEnded || r.Accepted != 0 || r.Confirmed != 11 || len(r.Drawn) != 1 || r.Drawn[0] != tokens[1] {
		t.Errorf("result %v, want token %d", r, tokens[1])
	}
	for base := uint32(12); base < 14; base++ {
		if r := want[*weftv1.Result](t, h.in); !r.Stale || r.Base != base || r.Error != "" {
			t.Errorf("result %v", r)
		}
	}
	// The next epoch goes on; a straggler of the old one says nothing.
	h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Confirm{Confirm: &weftv1.Confirm{Session: id, Length: 11}}}, nil)
	h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: &weftv1.Truncate{Session: id, Epoch: 1, Keep: 11}}}, nil)
	h.send(h.decode, runFrame(id, 0, 14, []uint32{4}, 1), nil)
	h.send(h.decode, runFrame(id, 1, 11, []uint32{tokens[1]}, 1), nil)
	if r := want[*weftv1.Result](t, h.in); r.Epoch != 1 || len(r.Drawn) != 1 || r.Drawn[0] != tokens[2] {
		t.Errorf("result %v, want token %d", r, tokens[2])
	}
	// Truncating behind what is confirmed is an error of the session.
	h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: &weftv1.Truncate{Session: id, Epoch: 2, Keep: 60}}}, nil)
	if r := want[*weftv1.Result](t, h.in); !strings.Contains(r.Error, "truncation is refused") {
		t.Errorf("result %v", r)
	}
	h.send(h.decode, closeFrame(id), nil)
	for {
		if _, ok := (<-h.in.frames).(*weftv1.CloseReply); ok {
			break
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
					Plan: hello.Plan, Head: hello.Head, Chain: hello.Chain, Class: hello.Class, From: 1, To: 2}}}, nil)
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
