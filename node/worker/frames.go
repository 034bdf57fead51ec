package worker

import (
	"errors"
	"fmt"
	"math"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/sample"
)

// Bounds on what a session may say.
const (
	maxSalt   = 32
	maxRun    = 4096 // positions of a run, and of a session's credit
	maxBias   = sample.MaxBiases
	maxCredit = 64 << 20 // bytes of hidden states that a session may have in flight
	maxEffort = 1 << 40  // microseconds that earlier stages may claim
)

func retry(err error) bool   { return errors.Is(err, shard.ErrBatchFull) }
func stale(err error) bool   { return errors.Is(err, shard.ErrStale) }
func unknown(err error) bool { return errors.Is(err, shard.ErrUnknownSession) }

// runFrame is the run as it goes to the next stage.
func runFrame(run *weftv1.Run) *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_Run{Run: run}}
}

// strive adds a step of so many rows to what a run took so far.
func strive(e *weftv1.Effort, took time.Duration, rows int) *weftv1.Effort {
	us := uint64(took.Microseconds())
	return &weftv1.Effort{
		SumUs: min(e.GetSumUs(), maxEffort) + us, SlowestUs: max(min(e.GetSlowestUs(), maxEffort), us), Rows: max(e.GetRows(), uint32(rows)),
	}
}

// resultFrame is the last stage's answer to a whole run.
func resultFrame(w *work, r *shard.Result) *weftv1.Frame {
	res := &weftv1.Result{
		Session: w.run.Session, Epoch: w.run.Epoch, Base: w.run.Base, Count: uint32(len(w.tokens)),
		Confirmed: uint32(r.Base + r.Accepted), EpochEnded: r.EpochEnded, Effort: w.run.Effort,
	}
	for _, t := range r.Tokens {
		res.Drawn = append(res.Drawn, uint32(t.ID))
	}
	res.Accepted = uint32(max(len(r.Tokens)-1, 0))
	if w.ses.logprobs {
		for i := range r.Tokens {
			res.Logprobs = append(res.Logprobs, logprob(&r.Tokens[i]))
		}
	}
	if n := len(r.StateHashes); n > 0 {
		res.StateHashes = make([]byte, 0, n*len(r.StateHashes[0]))
		for i := range r.StateHashes {
			res.StateHashes = append(res.StateHashes, r.StateHashes[i][:]...)
		}
		res.StateHash = res.StateHashes[(n-1)*len(r.StateHashes[0]):]
	}
	return &weftv1.Frame{Body: &weftv1.Frame_Result{Result: res}}
}

func logprob(t *sample.Token) *weftv1.Logprob {
	l := &weftv1.Logprob{Token: uint32(t.ID), Logprob: t.Logprob}
	for _, top := range t.Top {
		l.TopTokens = append(l.TopTokens, uint32(top.ID))
		l.TopLogprobs = append(l.TopLogprobs, top.Logprob)
	}
	return l
}

func staleFrame(run *weftv1.Run) *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_Result{Result: &weftv1.Result{
		Session: run.Session, Epoch: run.Epoch, Base: run.Base, Count: uint32(len(run.Tokens)), Stale: true,
	}}}
}

// errorFrame tells the head that a session's run failed at this stage. Stages
// after it pass it on.
func errorFrame(run *weftv1.Run, self string, err error) *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_Result{Result: &weftv1.Result{
		Session: run.Session, Epoch: run.Epoch, Base: run.Base, Count: uint32(len(run.Tokens)),
		Error: reasonOf(err), ErrorBy: self,
	}}}
}

// checkOpen bounds an opening. held is what earlier stages left.
func checkOpen(o *weftv1.Open, payload []byte) error {
	switch {
	case len(o.Session) != len(shard.SessionID{}):
		return fmt.Errorf("session name of %d bytes", len(o.Session))
	case len(o.Salt) > maxSalt:
		return fmt.Errorf("salt of %d bytes", len(o.Salt))
	case uint64(len(payload)) != 4*uint64(o.Prompt):
		return fmt.Errorf("prompt of %d tokens in %d bytes", o.Prompt, len(payload))
	case o.CreditPositions == 0 || o.CreditPositions > maxRun:
		return fmt.Errorf("credit of %d positions; 1 to %d were expected", o.CreditPositions, maxRun)
	case len(o.GetSampling().GetBias()) > maxBias:
		return fmt.Errorf("%d logit biases", len(o.Sampling.Bias))
	case len(o.Refused) > maxReason || len(o.RefusedBy) > maxPeer:
		return errors.New("refusal is too long")
	}
	return nil
}

// checkRun bounds a run. first says that this is the plan's first stage, which
// gets no hidden states.
func checkRun(r *weftv1.Run, payload []byte, embd, maxRows int, first bool) error {
	n := len(r.Tokens)
	want := 4 * n * embd
	if first {
		want = 0
	}
	switch {
	case len(r.Session) != len(shard.SessionID{}):
		return fmt.Errorf("session name of %d bytes", len(r.Session))
	case n == 0 || n > maxRun:
		return fmt.Errorf("run of %d positions; 1 to %d were expected", n, maxRun)
	case uint64(r.Base)+uint64(n) > math.MaxInt32:
		return fmt.Errorf("run at position %d", r.Base)
	case len(payload) != want:
		return fmt.Errorf("run of %d positions with %d bytes; %d were expected", n, len(payload), want)
	case r.Sample > 1 && int(r.Sample) != n:
		return fmt.Errorf("run of %d positions draws %d tokens; none, one or all was expected", n, r.Sample)
	case r.Sample > 1 && n > maxRows:
		return fmt.Errorf("%d positions to verify; at most %d fit a step", n, maxRows)
	}
	return nil
}

// Sampling turns the message into the sampler's parameters, which are still to
// be validated.
func Sampling(m *weftv1.Sampling) sample.Params {
	if m == nil {
		return sample.Params{}
	}
	p := sample.Params{
		Seed: m.Seed, Choice: m.Choice,
		Temperature: float32(m.Temperature), TopK: int(m.TopK), TopP: float32(m.TopP), MinP: float32(m.MinP),
		Repeat: float32(m.RepeatPenalty), Presence: float32(m.PresencePenalty), Frequency: float32(m.FrequencyPenalty),
		LastN:    int(int32(m.PenaltyLastN)),
		Logprobs: m.WantLogprobs,
	}
	if m.WantLogprobs {
		p.TopLogprobs = int(m.Logprobs)
	}
	for _, b := range m.Bias {
		p.Bias = append(p.Bias, sample.Bias{ID: int32(min(b.GetToken(), math.MaxInt32)), Value: float32(b.GetBias())})
	}
	return p
}

// tokenIDs turns wire tokens into the stage's; one that no vocabulary has becomes
// -1, which the stage refuses.
func tokenIDs(tokens []uint32) []int32 {
	out := make([]int32, len(tokens))
	for i, t := range tokens {
		if t > math.MaxInt32 {
			out[i] = -1
			continue
		}
		out[i] = int32(t)
	}
	return out
}
