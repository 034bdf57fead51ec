package worker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
)

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
		"a beat's cousin":           {frames: []*weftv1.Frame{{Body: &weftv1.Frame_OpenReply{OpenReply: &weftv1.OpenReply{}}}}},
		"a result at the first":     {frames: []*weftv1.Frame{{Body: &weftv1.Frame_Result{Result: &weftv1.Result{Session: id, Error: "x"}}}}},
		"an opening for prefill":    {prefill: true, frames: []*weftv1.Frame{{Body: &weftv1.Frame_Open{Open: &weftv1.Open{Session: id}}}}},
		"a run without tokens":      {frames: []*weftv1.Frame{runFrame(id, 0, 0, nil, 0)}},
		"a run with hidden states":  {frames: []*weftv1.Frame{runFrame(id, 0, 0, []uint32{1}, 0)}, payload: make([]byte, 4)},
		"a run that draws two of 3": {frames: []*weftv1.Frame{runFrame(id, 0, 0, []uint32{1, 2, 3}, 2)}},
		"a decode run that no step holds": {frames: []*weftv1.Frame{
			{Body: &weftv1.Frame_Open{Open: &weftv1.Open{Session: id, CreditPositions: 4096, Positions: 400}}},
			runFrame(id, 0, 0, promptOf(300, 1), 0),
		}},
		"a run far out":              {frames: []*weftv1.Frame{runFrame(id, 0, 1<<31-1, []uint32{1, 2}, 0)}},
		"a session with a short id":  {frames: []*weftv1.Frame{runFrame(id[:3], 0, 0, []uint32{1}, 0)}},
		"a close with a short id":    {frames: []*weftv1.Frame{closeFrame(id[:3])}},
		"an opening that is held":    {frames: []*weftv1.Frame{held}},
		"a long salt":                {frames: []*weftv1.Frame{salted}},
		"an opening without credit":  {frames: []*weftv1.Frame{noCredit}},
		"a payload without a prompt": {frames: []*weftv1.Frame{{Body: &weftv1.Frame_Open{Open: &weftv1.Open{Session: id, CreditPositions: 1, Positions: 1}}}}, payload: make([]byte, 4)},
		"an old epoch's truncation": {frames: []*weftv1.Frame{
			{Body: &weftv1.Frame_Open{Open: &weftv1.Open{Session: id, CreditPositions: 8, Positions: 64}}},
			runFrame(id, 1, 0, []uint32{4}, 0), truncate,
		}},
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
