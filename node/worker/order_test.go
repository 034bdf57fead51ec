package worker_test

import (
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/worker"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
)

// doorStage lets a test hold the loop inside the opening of a session.
type doorStage struct {
	worker.Stage
	entered chan struct{}
	door    chan struct{}
}

func (d doorStage) Open(s shard.SessionSpec) (int, error) {
	d.entered <- struct{}{}
	<-d.door
	return d.Stage.Open(s)
}

// A truncation and its run come while the loop is busy with something else. The
// stage must see them in their order.
func TestARunDoesNotOvertakeItsTruncation(t *testing.T) {
	entered, door := make(chan struct{}, 4), make(chan struct{}, 4)
	m := newMesh(t, meshOptions{loader: func(_ string, l *loader) {
		l.wrap = func(s worker.Stage) worker.Stage { return doorStage{s, entered, door} }
	}}, "a", "head")
	p := planOf(tiny(), "head", 1, []string{"a"})
	m.load(p)
	h := openHead(t, m.nodes["head"], p)
	id, other := newSession(), newSession()
	f, payload := openFrame(id, promptOf(4, 1), 64)
	door <- struct{}{}
	h.send(h.decode, f, payload)
	<-entered
	want[*weftv1.OpenReply](t, h.in)
	h.send(h.decode, runFrame(id, 0, 0, promptOf(4, 1), 0), nil)
	want[*weftv1.Result](t, h.in)

	f, payload = openFrame(other, promptOf(4, 2), 64)
	h.send(h.decode, f, payload)
	<-entered
	h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: &weftv1.Truncate{Session: id, Epoch: 1, Keep: 2}}}, nil)
	h.send(h.decode, runFrame(id, 1, 2, promptOf(4, 1)[2:], 1), nil)
	for deadline := time.Now().Add(5 * time.Second); m.nodes["a"].worker.Stats().Plans[0].QueuedRows == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the run is not queued")
		}
		time.Sleep(time.Millisecond)
	}
	door <- struct{}{}
	want[*weftv1.OpenReply](t, h.in)
	tokens, _ := direct(t, tiny(), promptOf(4, 1), 1)
	if r := want[*weftv1.Result](t, h.in); r.Error != "" || len(r.Drawn) != 1 || r.Drawn[0] != tokens[0] {
		t.Errorf("result %v, want token %d", r, tokens[0])
	}
	for _, s := range [][]byte{id, other} {
		h.send(h.decode, closeFrame(s), nil)
		want[*weftv1.CloseReply](t, h.in)
	}
	h.close()
	m.idle()
}
