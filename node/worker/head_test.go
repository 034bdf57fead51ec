package worker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/sample"
)

// inbox collects what comes back over a chain.
type inbox struct {
	frames chan any
}

func newInbox() *inbox { return &inbox{frames: make(chan any, 4096)} }

func (b *inbox) OpenReply(m *weftv1.OpenReply)   { b.frames <- m }
func (b *inbox) Result(m *weftv1.Result)         { b.frames <- m }
func (b *inbox) CloseReply(m *weftv1.CloseReply) { b.frames <- m }
func (b *inbox) Lost(m *weftv1.Lost)             { b.frames <- m }

// head is one node's two chains through a plan, and what has come over them.
type head struct {
	t               *testing.T
	decode, prefill *worker.Chain
	in, pre         *inbox
}

func openHead(t *testing.T, n *node, p *weftv1.PlanSpec) *head {
	t.Helper()
	h := &head{t: t, in: newInbox(), pre: newInbox()}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	if h.decode, err = n.router.OpenChain(ctx, p, weftv1.Class_CLASS_DECODE, h.in); err != nil {
		t.Fatal(err)
	}
	if h.prefill, err = n.router.OpenChain(ctx, p, weftv1.Class_CLASS_PREFILL, h.pre); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *head) close() {
	h.t.Helper()
	for _, c := range []*worker.Chain{h.decode, h.prefill} {
		c.Close()
		select {
		case <-c.Done():
		case <-time.After(5 * time.Second):
			h.t.Error("chain did not end")
		}
	}
}

var errTimeout = errors.New("nothing came")

// next waits for a frame of type T; anything else is an error.
func next[T any](b *inbox) (T, error) {
	var zero T
	select {
	case f := <-b.frames:
		if v, ok := f.(T); ok {
			return v, nil
		}
		return zero, fmt.Errorf("got %T %v", f, f)
	case <-time.After(5 * time.Second):
		return zero, errTimeout
	}
}

func want[T any](t *testing.T, b *inbox) T {
	t.Helper()
	v, err := next[T](b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newSession() []byte {
	b := make([]byte, 16)
	rand.Read(b)
	return b
}

func openFrame(session []byte, prompt []uint32, positions int) (*weftv1.Frame, []byte) {
	return &weftv1.Frame{Body: &weftv1.Frame_Open{Open: &weftv1.Open{
		Session: session, Positions: uint32(positions), Prompt: uint32(len(prompt)), CreditPositions: 256, Sampling: &weftv1.Sampling{},
	}}}, wire.AppendTokens(nil, prompt)
}

func runFrame(session []byte, epoch uint32, base int, tokens []uint32, sample int) *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_Run{Run: &weftv1.Run{
		Session: session, Epoch: epoch, Base: uint32(base), Tokens: tokens, Sample: uint32(sample), WantHash: sample > 0,
	}}}
}

func closeFrame(session []byte) *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_Close{Close: &weftv1.Close{Session: session}}}
}

func (h *head) send(c *worker.Chain, f *weftv1.Frame, payload []byte) {
	h.t.Helper()
	if err := c.Send(f, payload); err != nil {
		h.t.Fatal(err)
	}
}

// reply draws n tokens greedily after prompt, chunk positions a prefill run, all
// of them in flight at once. Drafts are tried when drafts is not nil. It returns
// the tokens and the state hash of the last.
func (h *head) reply(prompt []uint32, n, chunk int, drafts func(at int) []uint32) ([]uint32, []byte) {
	h.t.Helper()
	id := newSession()
	h.decode.Busy(1)
	defer h.decode.Busy(-1)
	f, payload := openFrame(id, prompt, len(prompt)+n+16)
	h.send(h.decode, f, payload)
	opened := want[*weftv1.OpenReply](h.t, h.in)
	if opened.Refused != "" {
		h.t.Fatalf("refused by %s: %s", opened.RefusedBy, opened.Refused)
	}
	at := int(opened.Held)
	flights := 0
	for at < len(prompt) {
		end := min(len(prompt), at+chunk)
		sample := 0
		if end == len(prompt) {
			sample = 1
		}
		h.send(h.prefill, runFrame(id, 0, at, prompt[at:end], sample), nil)
		at = end
		flights++
	}
	var out []uint32
	var hash []byte
	for range flights {
		r := want[*weftv1.Result](h.t, h.pre)
		if r.Error != "" {
			h.t.Fatal(r.Error)
		}
		out, hash = append(out, r.Drawn...), r.StateHash
	}
	epoch := uint32(0)
	for len(out) < n {
		tokens := []uint32{out[len(out)-1]}
		if drafts != nil {
			d := drafts(len(out))
			tokens = append(tokens, d[:min(len(d), n-len(out)-1)]...)
		}
		h.send(h.decode, runFrame(id, epoch, at, tokens, len(tokens)), nil)
		r := want[*weftv1.Result](h.t, h.in)
		if r.Error != "" || len(r.Drawn) == 0 || int(r.Accepted) != len(r.Drawn)-1 {
			h.t.Fatalf("result %v", r)
		}
		out, hash = append(out, r.Drawn...), r.StateHash
		at = int(r.Confirmed)
		h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Confirm{Confirm: &weftv1.Confirm{Session: id, Length: uint32(at)}}}, nil)
		if r.EpochEnded {
			epoch++
			h.send(h.decode, &weftv1.Frame{Body: &weftv1.Frame_Truncate{Truncate: &weftv1.Truncate{Session: id, Epoch: epoch, Keep: uint32(at)}}}, nil)
		}
	}
	h.send(h.decode, closeFrame(id), nil)
	want[*weftv1.CloseReply](h.t, h.in)
	return out, hash
}

// direct draws the same tokens with one stage in hand, position by position and
// without any of this package.
func direct(t *testing.T, w *weights, prompt []uint32, n int) ([]uint32, []byte) {
	t.Helper()
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	s, err := shard.New(context.Background(), shard.Options{
		Model: w.cfg, Profile: profileOf(w), Range: model.Range{First: 0, End: w.cfg.Layers}, Source: w, Device: dev, Blocks: 64,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Open(shard.SessionSpec{Positions: len(prompt) + n, Sampling: sample.Params{}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(shard.SessionID{}, 0, 0); err != nil {
		t.Fatal(err)
	}
	var out []uint32
	var hash []byte
	for at := 0; len(out) < n; at++ {
		mode := shard.SampleNone
		if at >= len(prompt)-1 {
			mode = shard.SampleLast
		}
		token := int32(slices.Concat(prompt, out)[at])
		r, err := s.Step([]shard.Run{{Base: at, Tokens: []int32{token}, Sample: mode, States: true}})
		if err != nil || r[0].Err != nil {
			t.Fatal(err, r[0].Err)
		}
		if mode == shard.SampleLast {
			out = append(out, uint32(r[0].Tokens[0].ID))
			hash = slices.Clone(r[0].StateHashes[0][:])
		}
	}
	return out, hash
}
