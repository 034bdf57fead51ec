package wire

import (
	"errors"
	"testing"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// begun writes the first parts of a body of total bytes, those that hold about
// so many, and never the rest.
func begun(t *testing.T, s Stream, total, send int) {
	t.Helper()
	run := &weftv1.Frame{Body: &weftv1.Frame_Run{Run: &weftv1.Run{Session: make([]byte, 16), Epoch: 1}}}
	stop := errors.New("enough")
	err := split(run, make([]byte, total), func(h *weftv1.Frame, p []byte) error {
		b, err := appendFrame(nil, h, p)
		if err != nil {
			return err
		}
		if send -= len(p); send < 0 {
			return stop
		}
		if _, err := s.Write(b); err != nil {
			return stop // the other side has had enough
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func TestBodiesThatNeverEndShareABudget(t *testing.T) {
	const mib = 1 << 20
	cfg := Config{Beat: -1, Budget: NewBudget(6 * mib)}
	type end struct {
		link   Link
		stream Stream
		failed chan error
	}
	var ends []end
	for range 5 {
		near, far := PipeStream()
		e := end{NewLink(far, "hostile", cfg), near, make(chan error, 1)}
		ends = append(ends, e)
		go func() {
			_, _, err := e.link.Recv()
			e.failed <- err
		}()
		go begun(t, near, 8*mib, 2*mib)
	}
	failed := 0
	var survivors []end
	for _, e := range ends {
		select {
		case err := <-e.failed:
			if !errors.Is(err, ErrBudget) {
				t.Errorf("a link ended with %v", err)
			}
			failed++
		case <-time.After(500 * time.Millisecond):
			survivors = append(survivors, e)
		}
	}
	if failed < 2 || len(survivors) < 1 {
		t.Errorf("%d of 5 links were ended", failed)
	}
	for _, e := range survivors {
		e.link.Close(ErrClosed)
		if err := <-e.failed; err == nil {
			t.Error("a closed link has received something")
		}
	}
	for _, e := range ends {
		<-e.link.Done()
		_ = e.stream.Close()
	}
	// All is given back: an honest body of that size passes.
	if cfg.Budget.left != cfg.Budget.total {
		t.Errorf("%d of %d bytes are left", cfg.Budget.left, cfg.Budget.total)
	}
	a, b := Pipe("a", "b", cfg)
	if err := a.Send(&weftv1.Frame{Body: &weftv1.Frame_Run{Run: &weftv1.Run{Session: make([]byte, 16)}}}, make([]byte, 5*mib)); err != nil {
		t.Fatal(err)
	}
	if _, p, err := b.Recv(); err != nil || len(p) != 5*mib {
		t.Errorf("%d bytes, %v", len(p), err)
	}
	a.Close(nil)
	b.Close(nil)
	<-a.Done()
	<-b.Done()
}
