package session_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/session"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// faulty is a chain to stages that cannot compute one token: a run that carries
// it fails, and with it the session.
type faulty struct {
	*stages
	poison  uint32
	failed  bool // the session
	faults  int
	drafted int // runs of more than one token
}

func (f *faulty) Send(fr *weftv1.Frame, payload []byte) error {
	if o := fr.GetOpen(); o != nil {
		f.failed = false
	}
	r := fr.GetRun()
	switch {
	case r != nil && f.failed, fr.GetTruncate() != nil && f.failed, fr.GetConfirm() != nil && f.failed:
		return nil // dropped
	case r != nil && len(r.Tokens) > 1 && r.Sample > 1:
		f.drafted++
	}
	if r != nil && slices.Contains(r.Tokens, f.poison) {
		f.failed = true
		f.faults++
		f.path.Result(&weftv1.Result{Session: r.Session, Epoch: r.Epoch, Base: r.Base, Count: uint32(len(r.Tokens)), Error: "layer 3: a value is not finite", ErrorBy: "n2"})
		return nil
	}
	return f.stages.Send(fr, payload)
}

// drive runs a reply over stages that fault at a token, with drafts of it.
func drive(t *testing.T, poison int32) (*faulty, session.Outcome, error) {
	t.Helper()
	left := -1
	f := &faulty{stages: newStages(t, 0, 0, &left), poison: uint32(poison)}
	f.path.Attach(f, f)
	prompt := []int32{7, 9, 4, 30}
	out, err := session.Drive(t.Context(), f.path, session.Spec{
		Params: session.Params{
			Prompt: prompt, MaxTokens: 12, Context: 64,
			Drafter: &session.Drafts{Runs: 3, Give: func(tokens []int32, room int) []int32 {
				if len(tokens) < len(prompt)+5 {
					return []int32{draw(tokens, 0)}
				}
				return []int32{poison}
			}},
		},
		Positions: 64, Sampling: &weftv1.Sampling{},
	})
	return f, out, err
}

func TestAFaultOfADraftIsNoneOfTheReply(t *testing.T) {
	want := plain([]int32{7, 9, 4, 30}, 12, 64, 0)
	f, out, err := drive(t, 777) // no reply has it
	if err != nil || !slices.Equal(out.Tokens, want) {
		t.Fatalf("%v, %v; %v was expected", out.Tokens, err, want)
	}
	if f.faults != 1 || f.drafted == 0 {
		t.Errorf("%d faults, %d runs with drafts", f.faults, f.drafted)
	}
}

func TestAFaultOfTheReplyItselfEndsIt(t *testing.T) {
	want := plain([]int32{7, 9, 4, 30}, 12, 64, 0)
	f, _, err := drive(t, want[7])
	if err == nil || !strings.Contains(err.Error(), "not finite") || !strings.Contains(err.Error(), "n2") {
		t.Fatalf("error %v", err)
	}
	var lost *session.LostError
	if errors.As(err, &lost) || f.faults != 2 {
		t.Errorf("%d faults: %v", f.faults, err)
	}
}

func TestRunsAreMeasured(t *testing.T) {
	left := -1
	s := newStages(t, 0, 0, &left)
	m := &measured{stages: s}
	s.path.Attach(m, m)
	var got []session.Measure
	_, err := session.Drive(t.Context(), s.path, session.Spec{
		Params:   session.Params{Prompt: []int32{7, 9, 4, 30}, MaxTokens: 6, Context: 64},
		Sampling: &weftv1.Sampling{}, Positions: 64,
		Measured: func(x session.Measure) { got = append(got, x) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < 5 {
		t.Fatalf("%d runs were measured", len(got))
	}
	for _, x := range got[1:] {
		if x.Width != 1 || x.Rows != 3 || x.Compute != 5*time.Millisecond || x.Slowest != 3*time.Millisecond || x.Latency <= 0 {
			t.Errorf("measured %+v", x)
		}
	}
}

// measured is a chain to stages that say what runs took.
type measured struct{ *stages }

func (m *measured) Send(f *weftv1.Frame, payload []byte) error {
	if r := f.GetRun(); r != nil {
		m.effort = &weftv1.Effort{SumUs: 5000, SlowestUs: 3000, Rows: 3}
	}
	return m.stages.Send(f, payload)
}
