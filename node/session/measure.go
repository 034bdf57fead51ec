package session

import (
	"errors"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// Measure is what a decode run took.
type Measure struct {
	Width   int           // positions of the run
	Rows    int           // most positions in a stage's step that the run was part of
	Latency time.Duration // from sending to the answer, when nothing was in flight before it; else 0
	Late    bool          // it followed runs that were dropped: stages may have been busy, and Latency is a bound
	Compute time.Duration // of all stages together
	Slowest time.Duration // of the slowest stage
}

// lone is a run that was sent while none was in flight.
type lone struct {
	epoch uint32
	base  int
	at    time.Time
	late  bool // behind runs that were dropped
}

// measure tells what a decode run took.
func (d *Driver) measure(m *weftv1.Result) {
	e := m.Effort
	if d.spec.Measured == nil || e == nil || len(m.Drawn) == 0 || int(m.Base) < d.known-1 {
		return
	}
	t := Measure{Width: int(m.Count), Rows: int(min(e.Rows, maxInbox)), Compute: micros(e.SumUs), Slowest: micros(e.SlowestUs)}
	if l := d.lone; l.epoch == m.Epoch && l.base == int(m.Base) && !l.at.IsZero() {
		t.Latency, t.Late = time.Since(l.at), l.late
		d.lone.at = time.Time{}
	}
	d.spec.Measured(t)
}

// maxMicros bounds the times that stages may claim.
const maxMicros = uint64(time.Hour / time.Microsecond)

func micros(n uint64) time.Duration { return time.Duration(min(n, maxMicros)) * time.Microsecond }

// hashOf is the state hash of a result's i-th drawn token. A stage that knows one
// for a result alone gives that of the last.
func hashOf(m *weftv1.Result, i int) []byte {
	const size = 32
	switch {
	case size*(i+1) <= len(m.StateHashes):
		return m.StateHashes[size*i : size*(i+1)]
	case i == len(m.Drawn)-1:
		return m.StateHash
	}
	return nil
}

// errFaulted ends a try of a reply in which a run failed that may have carried
// drafted tokens.
var errFaulted = errors.New("a run with drafted tokens failed")

// faulted says whether a failed run may be the fault of a draft: a stage that
// meets a value that is not finite gives the session up, whoever proposed the
// token. What plain decoding would not have computed must not end the reply, so
// it goes on without drafts; if the fault is its own, it comes again.
func (d *Driver) faulted(m *weftv1.Result) bool {
	return m.Error != "" && !d.plain && d.s.Drafts()
}
