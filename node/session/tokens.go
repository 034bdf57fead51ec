package session

import (
	"fmt"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// Token is one committed token with what was asked about it.
type Token struct {
	ID      int32
	Logprob float32
	Top     []Candidate

	hash []byte // of the state that it was drawn from, when asked for
}

// Candidate is an alternative to a drawn token.
type Candidate struct {
	ID      int32
	Logprob float32
}

// feed gives results to the session.
func (d *Driver) feed(ev any) (bool, error) {
	m, ok := ev.(*weftv1.Result)
	if !ok {
		return false, nil
	}
	if d.faulted(m) {
		return true, errFaulted
	}
	r := Result{Epoch: m.Epoch, Base: int(m.Base), Count: int(m.Count), Accepted: int(m.Accepted), Stale: m.Stale}
	if m.Error != "" {
		r.Err = fmt.Errorf("node %s: %s", m.ErrorBy, m.Error)
	}
	for _, t := range m.Drawn {
		r.Drawn = append(r.Drawn, int32(t))
	}
	before, runs := len(d.s.Generated()), d.s.Runs()
	d.s.Result(r)
	d.dropped = d.dropped || d.s.Runs() < runs-1
	for i := range len(d.s.Generated()) - before {
		d.queue = append(d.queue, token(m, i))
	}
	d.measure(m)
	return true, nil
}

// token is the i-th drawn token of a result with its log-probabilities.
func token(m *weftv1.Result, i int) Token {
	t := Token{ID: int32(m.Drawn[i]), hash: hashOf(m, i)}
	if i >= len(m.Logprobs) {
		return t
	}
	lp := m.Logprobs[i]
	t.Logprob = lp.Logprob
	for k := range min(len(lp.TopTokens), len(lp.TopLogprobs)) {
		t.Top = append(t.Top, Candidate{int32(lp.TopTokens[k]), lp.TopLogprobs[k]})
	}
	return t
}

// commit hands committed tokens on with their details.
func (d *Driver) commit(ids []int32) (bool, error) {
	n := min(len(ids), len(d.queue))
	out := d.queue[:n]
	d.queue = append([]Token(nil), d.queue[n:]...)
	if n > 0 {
		d.hash = out[n-1].hash
	}
	if d.spec.Tokens == nil {
		return false, nil
	}
	for i := range out { // singly: what a draft brought after a stop is not of the reply
		d.handed++
		d.hash = out[i].hash
		if stop, err := d.spec.Tokens(out[i : i+1]); stop || err != nil {
			return stop, err
		}
	}
	return false, nil
}
