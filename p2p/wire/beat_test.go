package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

func TestAHungPeerIsGivenUpWithinASecond(t *testing.T) {
	near, far := wire.PipeStream()
	var dropped atomic.Value
	l := wire.NewLink(near, "b", wire.Config{OnHung: func(peer string) { dropped.Store(peer) }})
	go func() { _, _, _ = l.Recv() }()
	time.Sleep(700 * time.Millisecond)
	if l.Err() != nil {
		t.Fatal("a link that is not in use was given up")
	}
	l.Busy(+1)
	start := time.Now()
	select {
	case <-l.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("still waiting")
	}
	if took := time.Since(start); took < 400*time.Millisecond || took > 1500*time.Millisecond {
		t.Errorf("given up after %s", took)
	}
	if !errors.Is(l.Err(), wire.ErrHung) || dropped.Load() != "b" {
		t.Errorf("%v, dropped %v", l.Err(), dropped.Load())
	}
	_ = far.Reset()
}

func TestAPeerThatAnswersIsMeasuredAndKept(t *testing.T) {
	sa, sb := wire.PipeStream()
	cfg := wire.Config{Beat: 10 * time.Millisecond}
	e := ends{wire.NewLink(sa, "b", cfg), wire.NewLink(sb, "a", cfg)}
	for _, l := range []wire.Link{e.a, e.b} {
		go func() { _, _, _ = l.Recv() }()
	}
	e.a.Busy(+1)
	e.a.Busy(+1)
	e.a.Busy(-1)
	time.Sleep(300 * time.Millisecond)
	if e.a.Err() != nil || e.b.Err() != nil {
		t.Fatal(e.a.Err(), e.b.Err())
	}
	if rtt := e.a.Stats().RTT; rtt <= 0 || rtt > 100*time.Millisecond {
		t.Errorf("round trip %s", rtt)
	}
	e.a.Busy(-1)
	time.Sleep(30 * time.Millisecond)
	n := e.a.Stats().FramesSent
	time.Sleep(50 * time.Millisecond)
	if got := e.a.Stats().FramesSent; got > n+1 {
		t.Errorf("%d beats while not in use", got-n)
	}
	e.close(t)
}

func TestOneLinksTrafficKeepsAnotherToTheSamePeer(t *testing.T) {
	var alive atomic.Uint64
	near, far := wire.PipeStream()
	l := wire.NewLink(near, "b", wire.Config{Beat: 10 * time.Millisecond, Alive: &alive})
	l.Busy(+1)
	for range 40 {
		alive.Add(1)
		time.Sleep(5 * time.Millisecond)
	}
	if l.Err() != nil {
		t.Error(l.Err())
	}
	<-l.Done() // and once that has stopped, it is given up
	if !errors.Is(l.Err(), wire.ErrHung) {
		t.Error(l.Err())
	}
	_ = far.Reset()
}

func TestBeatsOvertakeABacklog(t *testing.T) {
	near, far := wire.PipeStream()
	l := wire.NewLink(near, "b", wire.Config{Beat: 20 * time.Millisecond})
	for range 100 {
		if err := l.Send(run(0), make([]byte, 50_000)); err != nil {
			t.Fatal(err)
		}
	}
	l.Busy(+1)
	time.Sleep(30 * time.Millisecond)
	r := wire.NewLink(far, "a", wire.Config{Beat: -1})
	go func() { // it answers beats while the backlog drains
		for {
			if _, _, err := r.Recv(); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	go func() { _, _, _ = l.Recv() }()
	time.Sleep(500 * time.Millisecond)
	if l.Err() != nil {
		t.Errorf("given up: %v", l.Err())
	}
	if l.Stats().RTT == 0 {
		t.Error("no beat came through")
	}
	ends{l, r}.close(t)
}

func TestAFloodOfBeatsIsAnsweredWithinBounds(t *testing.T) {
	near, far := wire.PipeStream()
	l := wire.NewLink(near, "b", wire.Config{Beat: -1})
	go func() { _, _, _ = l.Recv() }()
	beat, err := proto.Marshal(&weftv1.Frame{Body: &weftv1.Frame_Beat{Beat: &weftv1.Beat{Seq: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	frame := append(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(len(beat)+1)), uint64(len(beat))), beat...)
	flood := bytes.Repeat(frame, 10_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 10 { // nobody takes the answers
		if _, err := far.Write(flood); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 16<<20 {
		t.Errorf("%d bytes in use", grown)
	}
	_ = far.Reset()
	<-l.Done()
}

func TestReleasingALinkTooOftenPanics(t *testing.T) {
	a, b := wire.Pipe("a", "b", wire.Config{})
	defer ends{a, b}.close(t)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	a.Busy(-1)
}
