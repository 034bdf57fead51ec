package wire_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func run(base uint32) *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_Run{Run: &weftv1.Run{Session: make([]byte, 16), Base: base, Tokens: []uint32{1, 2, 3}}}}
}

// ends are the two links of one stream, of any kind.
type ends struct{ a, b wire.Link }

func (e ends) close(t *testing.T) {
	t.Helper()
	e.a.Close(nil)
	e.b.Close(nil)
	for _, l := range []wire.Link{e.a, e.b} {
		select {
		case <-l.Done():
		case <-time.After(5 * time.Second):
			t.Error("link did not end")
		}
	}
}

// links joins two ends by each kind of stream.
func links(t *testing.T, cfg wire.Config, test func(*testing.T, ends)) {
	t.Run("pipe", func(t *testing.T) {
		a, b := wire.Pipe("a", "b", cfg)
		test(t, ends{a, b})
	})
	t.Run("libp2p", func(t *testing.T) {
		sa, sb := hosts(t)
		test(t, ends{wire.NewLink(sa, "b", cfg), wire.NewLink(sb, "a", cfg)})
	})
}

func TestFramesArriveWholeAndInOrder(t *testing.T) {
	links(t, wire.Config{}, func(t *testing.T, e ends) {
		if e.a.Peer() != "b" || e.b.Peer() != "a" {
			t.Errorf("peers %s and %s", e.a.Peer(), e.b.Peer())
		}
		const n = 60
		sizes := func(i int) int { return i * i * i * 2 }
		var wg sync.WaitGroup
		for _, l := range []wire.Link{e.a, e.b} {
			wg.Go(func() { // both ways at once
				buf := make([]byte, 0, 1<<20)
				for i := range n {
					buf = append(buf[:0], bytes.Repeat([]byte{byte(i)}, sizes(i))...)
					if err := l.Send(run(uint32(i)), buf); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				for i := range n {
					f, p, err := l.Recv()
					if err != nil {
						t.Error(err)
						return
					}
					if !proto.Equal(f, run(uint32(i))) || len(p) != sizes(i) || bytes.Count(p, []byte{byte(i)}) != len(p) {
						t.Errorf("frame %d: %v with %d bytes", i, f, len(p))
					}
				}
			})
		}
		wg.Wait()
		s := e.a.Stats()
		if s.Peer != "b" || s.FramesReceived < n || s.FramesSent < n || s.BytesSent < 1<<20 || s.QueueTime <= 0 || s.QueuedBytes != 0 || s.QueuedPeak == 0 {
			t.Errorf("stats %+v", s)
		}
		e.close(t)
		if err := e.a.Err(); !errors.Is(err, wire.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
		if err := e.a.Send(run(0), nil); !errors.Is(err, wire.ErrClosed) {
			t.Errorf("send after close: %v", err)
		}
		if _, _, err := e.a.Recv(); !errors.Is(err, wire.ErrClosed) {
			t.Errorf("receive after close: %v", err)
		}
	})
}

func TestCloseSendsWhatIsQueued(t *testing.T) {
	links(t, wire.Config{}, func(t *testing.T, e ends) {
		const n = 30
		for i := range n {
			if err := e.a.Send(run(uint32(i)), make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
		}
		e.a.Close(nil)
		for i := range n {
			f, p, err := e.b.Recv()
			if err != nil || f.GetRun().GetBase() != uint32(i) || len(p) != 100_000 {
				t.Fatalf("frame %d: %v", i, err)
			}
		}
		if _, _, err := e.b.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
		e.close(t)
	})
}

func TestAResetEndsBothSidesAtOnce(t *testing.T) {
	links(t, wire.Config{}, func(t *testing.T, e ends) {
		reason := errors.New("no more")
		done := make(chan error)
		go func() {
			_, _, err := e.b.Recv()
			done <- err
		}()
		start := time.Now()
		e.a.Close(reason)
		if err := <-done; err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the other side got %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("known after %s", took)
		}
		if e.a.Err() != reason {
			t.Errorf("reason %v", e.a.Err())
		}
		e.close(t)
	})
}

func TestASenderDoesNotWaitForASlowPeerAndIsBounded(t *testing.T) {
	var log bytes.Buffer
	links(t, wire.Config{QueueBytes: 1 << 20, Log: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, e ends) {
		start := time.Now()
		var err error
		for i := 0; err == nil && i < 1000; i++ { // nobody receives
			err = e.a.Send(run(0), make([]byte, 200_000))
		}
		if !errors.Is(err, wire.ErrQueueFull) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("sending took %s", took)
		}
		if _, _, err := e.a.Recv(); !errors.Is(err, wire.ErrQueueFull) {
			t.Errorf("receive: %v", err)
		}
		if !strings.Contains(log.String(), "queue is full") {
			t.Errorf("log %q", log.String())
		}
		e.close(t)
	})
}

func TestAFlushToADeafPeerIsGivenUp(t *testing.T) {
	links(t, wire.Config{FlushTimeout: 100 * time.Millisecond}, func(t *testing.T, e ends) {
		for range 500 {
			if err := e.a.Send(run(0), make([]byte, 200_000)); err != nil {
				t.Fatal(err)
			}
		}
		e.a.Close(nil)
		select {
		case <-e.a.Done():
		case <-time.After(3 * time.Second):
			t.Error("still flushing")
		}
		e.close(t)
	})
}

func TestThePeersLastWordsAreReadThoughWritesFail(t *testing.T) {
	near, far := wire.PipeStream()
	l := wire.NewLink(near, "b", wire.Config{Beat: -1})
	r := wire.NewLink(far, "a", wire.Config{Beat: -1})
	if err := r.Send(run(7), nil); err != nil {
		t.Fatal(err)
	}
	r.Close(nil)
	<-r.Done()
	_ = l.Send(run(1), nil) // its write fails
	time.Sleep(20 * time.Millisecond)
	if err := l.Send(run(2), nil); err == nil {
		t.Error("a frame was taken that cannot be sent")
	}
	if f, _, err := l.Recv(); err != nil || f.GetRun().GetBase() != 7 {
		t.Errorf("got %v, %v", f, err)
	}
	if _, _, err := l.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	<-l.Done()

	near, far = wire.PipeStream()
	l = wire.NewLink(near, "b", wire.Config{Beat: -1})
	_ = far.Close()
	_ = l.Send(run(1), nil) // nobody reads: the failed write ends the link
	select {
	case <-l.Done():
	case <-time.After(3 * time.Second):
		t.Error("link did not end")
	}
}

func TestTooMuchIsRefusedBeforeItIsSent(t *testing.T) {
	a, b := wire.Pipe("a", "b", wire.Config{MaxPayload: 1000})
	if err := a.Send(run(0), make([]byte, 1001)); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("payload: %v", err)
	}
	big := &weftv1.Frame{Body: &weftv1.Frame_Lost{Lost: &weftv1.Lost{Reason: strings.Repeat("x", wire.MaxFrame)}}}
	if err := a.Send(big, nil); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("header: %v", err)
	}
	if err := a.Send(run(5), nil); err != nil { // the link is as good as before
		t.Fatal(err)
	}
	if f, _, err := b.Recv(); err != nil || f.GetRun().GetBase() != 5 {
		t.Error(f, err)
	}
	ends{a, b}.close(t)
}

func TestAMalformedFrameEndsTheLinkWithALogLine(t *testing.T) {
	var log bytes.Buffer
	near, far := wire.PipeStream()
	l := wire.NewLink(near, "b", wire.Config{Beat: -1, Log: slog.New(slog.NewTextHandler(&log, nil))})
	go func() { _, _ = far.Write(bytes.Repeat([]byte{0xff}, 100)) }()
	if _, _, err := l.Recv(); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("error %v", err)
	}
	<-l.Done()
	if !strings.Contains(log.String(), "link ended") || !strings.Contains(log.String(), "peer=b") {
		t.Errorf("log %q", log.String())
	}
}

func TestSendingAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("not run: the race detector makes pools forget buffers at random")
	}
	near, far := wire.PipeStream()
	l := wire.NewLink(near, "b", wire.Config{Beat: -1})
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, far)
	}()
	f, payload := run(1), make([]byte, 16<<10)
	for range 100 {
		if err := l.Send(f, payload); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Microsecond)
	}
	n := testing.AllocsPerRun(200, func() {
		_ = l.Send(f, payload)
		for l.Stats().QueuedBytes > 0 {
			runtime.Gosched()
		}
	})
	if n >= 1 {
		t.Errorf("%.1f allocations a frame", n)
	}
	l.Close(nil)
	<-l.Done()
	<-drained
}
