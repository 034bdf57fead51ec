package session_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weft-mesh/weft/node/session"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// chain is a chain whose other end is the test.
type chain struct {
	send func(*weftv1.Frame)
	busy atomic.Int32
}

func (c *chain) Send(f *weftv1.Frame, _ []byte) error { c.send(f); return nil }
func (c *chain) Busy(delta int)                       { c.busy.Add(int32(delta)) }
func (c *chain) Err() error                           { return nil }
func (c *chain) Close()                               {}

// answered gives a path whose stages do what f says.
func answered(f func(*session.Path, *weftv1.Frame)) (*session.Path, *chain) {
	p := session.NewPath()
	c := &chain{send: func(m *weftv1.Frame) { f(p, m) }}
	p.Attach(c, c)
	return p, c
}

func aReply(n int) session.Spec {
	return session.Spec{
		Params:   session.Params{Prompt: []int32{1}, MaxTokens: n, Context: 64},
		Sampling: &weftv1.Sampling{}, Positions: 64,
	}
}

func TestALastStageThatFloodsEndsThePath(t *testing.T) {
	p, c := answered(func(p *session.Path, m *weftv1.Frame) {
		o := m.GetOpen()
		for range 10000 {
			if o != nil {
				p.Result(&weftv1.Result{Session: o.Session})
			}
		}
	})
	_, err := session.Drive(t.Context(), p, aReply(1))
	if err == nil || !strings.Contains(err.Error(), "more results") || p.Err() == nil {
		t.Errorf("reply %v, path %v", err, p.Err())
	}
	if p.Replies() != 0 || c.busy.Load() != 0 {
		t.Errorf("%d replies and %d users are left", p.Replies(), c.busy.Load())
	}
}

func TestResultsThatMakeNoSenseFailTheReplyAlone(t *testing.T) {
	for name, bad := range map[string]*weftv1.Result{
		"more tokens than asked": {Count: 1, Drawn: []uint32{1, 2, 3}, Accepted: 2},
		"none":                   {Count: 1},
		"another place":          {Base: 9, Count: 1, Drawn: []uint32{1}},
		"a later epoch":          {Epoch: 7, Count: 1, Drawn: []uint32{1}},
		"a huge count":           {Base: 1<<32 - 1, Count: 1<<32 - 1, Drawn: []uint32{1}},
		"stale":                  {Count: 1, Stale: true},
	} {
		p, c := answered(func(p *session.Path, m *weftv1.Frame) {
			switch {
			case m.GetOpen() != nil:
				p.OpenReply(&weftv1.OpenReply{Session: m.GetOpen().Session, Held: 1<<32 - 1})
			case m.GetRun() != nil:
				bad.Session = m.GetRun().Session
				p.Result(bad)
			case m.GetClose() != nil:
				p.CloseReply(&weftv1.CloseReply{Session: m.GetClose().Session})
			}
		})
		_, err := session.Drive(context.Background(), p, aReply(3))
		if !errors.Is(err, session.ErrProtocol) || p.Err() != nil || p.Replies() != 0 || c.busy.Load() != 0 {
			t.Errorf("%s: reply %v, path %v, %d replies, %d users", name, err, p.Err(), p.Replies(), c.busy.Load())
		}
	}
}
