// Package spectest simulates a reply over a plan's stages and links in virtual
// time, for tests of speculation: the head is a real session with a real
// speculator, stages and links are queues of events. It knows what the stages
// draw beforehand, computes nothing, and never waits.
package spectest

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	"github.com/weft-mesh/weft/node/session"
	"github.com/weft-mesh/weft/node/spec"
)

// Pipe is a plan's stages and links.
type Pipe struct {
	Stages int
	// Step is how long a stage computes so many rows.
	Step func(stage, rows int) time.Duration
	// Hop is how long a frame travels to a stage; that to the stage after the
	// last is the way back to the head.
	Hop func(stage int) time.Duration
	// Others is how many other replies have a row in every step.
	Others int
	// Slow is the source that drafts in the pipe's time, when there is one.
	Slow *Slow
}

// Outcome is what became of a simulated reply.
type Outcome struct {
	Tokens []int32
	Time   time.Duration // from the first token until the last
	Report spec.Report
	Bound  time.Duration // Speculator.Bound at the end
	Wasted int           // rows that stages computed for nothing
}

// PerToken is the decode time of a token.
func (o Outcome) PerToken() time.Duration {
	return o.Time / time.Duration(max(1, len(o.Tokens)-1))
}

// Reply decodes the truth, whose first prompt tokens are known, and checks that
// it is what is committed.
func (p Pipe) Reply(truth []int32, prompt int, sp *spec.Speculator) (Outcome, error) {
	s, err := session.New(session.Params{
		Prompt: truth[:prompt], MaxTokens: len(truth) - prompt, Context: len(truth) + 1, Drafter: sp,
	})
	if err != nil {
		return Outcome{}, err
	}
	m := &sim{p: p, s: s, sp: sp, truth: truth, stages: make([]stage, p.Stages)}
	if p.Slow != nil {
		p.Slow.m = m
	}
	for i := range m.stages {
		m.stages[i].valid = prompt - 1
	}
	s.Opened(prompt - 1) // all but the last of the prompt is held: only decoding is of interest
	err = m.run()
	if err == nil && !slices.Equal(s.Tokens(), truth) {
		err = fmt.Errorf("the reply differs from the truth")
	}
	return Outcome{Tokens: s.Generated(), Time: m.last - m.first, Report: sp.Report(), Bound: sp.Bound(), Wasted: m.wasted}, err
}

type sim struct {
	p      Pipe
	s      *session.Session
	sp     *spec.Speculator
	truth  []int32
	stages []stage

	now         time.Duration
	first, last time.Duration
	events      events
	order       int
	wasted      int
	free        time.Duration // when the head has waited for drafts and sends again
	dropped     bool          // runs in flight, by the last result
	err         error
}

// stage is a simulated stage: what it refuses, a real one refuses.
type stage struct {
	queue   []*run
	step    *run // under way
	epoch   uint32
	valid   int
	ended   bool  // the last stage: the epoch met a mismatch
	pending int32 // the last stage: drawn for position valid; 0: nothing
}

type run struct {
	session.Run
	compute, slowest time.Duration
	rows             int
	alone            time.Duration // when it was sent, into an empty pipe; -1: not so
	late             bool          // behind runs that were dropped
}

type event struct {
	at    time.Duration
	order int
	do    func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func (m *sim) after(d time.Duration, do func()) {
	m.order++
	heap.Push(&m.events, event{m.now + d, m.order, do})
}

func (m *sim) run() error {
	done := m.act()
	for !done && m.err == nil {
		if len(m.events) == 0 {
			return fmt.Errorf("the reply hangs at token %d of %d", len(m.s.Tokens()), len(m.truth))
		}
		e := heap.Pop(&m.events).(event)
		m.now = e.at
		e.do()
		done = m.act()
	}
	if m.err != nil {
		return m.err
	}
	return m.s.Err()
}

// act does what the session asks for.
func (m *sim) act() bool {
	empty := m.s.Runs() == 0
	rd := m.s.Ready()
	if len(rd.Committed) > 0 {
		if m.first == 0 {
			m.first = m.now
		}
		m.last = m.now
	}
	wait := max(0, m.free-m.now)
	if t := rd.Truncate; t != nil {
		m.after(wait+m.p.Hop(0), func() { m.truncate(0, *t) })
	}
	for i, r := range rd.Runs {
		r.Tokens = slices.Clone(r.Tokens)
		w := &run{Run: r, alone: -1}
		if empty && i == 0 {
			w.alone, w.late = m.now+wait, m.dropped
			m.dropped = false
		}
		m.after(wait+m.p.Hop(0), func() { m.arrive(0, w) })
	}
	return rd.Done != session.FinishNone
}

func (m *sim) truncate(i int, t session.Truncation) {
	if i == len(m.stages) {
		return
	}
	st := &m.stages[i]
	if t.Epoch <= st.epoch || t.Keep > st.valid {
		m.err = fmt.Errorf("stage %d: truncation to %d in epoch %d, %d valid in %d", i, t.Keep, t.Epoch, st.valid, st.epoch)
	}
	st.queue = slices.DeleteFunc(st.queue, func(r *run) bool { return r.Epoch < t.Epoch })
	st.epoch, st.valid, st.ended, st.pending = t.Epoch, t.Keep, false, 0
	m.after(m.p.Hop(i+1), func() { m.truncate(i+1, t) })
}

func (m *sim) arrive(i int, r *run) {
	if i == len(m.stages) {
		return
	}
	st := &m.stages[i]
	if r.Epoch < st.epoch {
		return
	}
	st.queue = append(st.queue, r)
	m.start(i)
}

// start begins a stage's next step: one run of the session.
func (m *sim) start(i int) {
	st := &m.stages[i]
	for st.step == nil && len(st.queue) > 0 {
		r := st.queue[0]
		st.queue = st.queue[1:]
		if last := i == len(m.stages)-1; last && (st.ended || st.pending != 0 && r.Tokens[0] != st.pending) {
			st.ended = true
			continue // it is answered as stale, which the head does not look at
		}
		st.step = r
		rows := len(r.Tokens) + m.p.Others
		took := m.p.Step(i, rows)
		r.compute, r.slowest, r.rows = r.compute+took, max(r.slowest, took), rows
		m.after(took, func() { m.finish(i) })
	}
}

func (m *sim) finish(i int) {
	st := &m.stages[i]
	r := st.step
	st.step = nil
	defer m.start(i)
	if r.Epoch < st.epoch {
		m.wasted += len(r.Tokens)
		return
	}
	if r.Base != st.valid {
		m.err = fmt.Errorf("stage %d: run at %d, %d valid", i, r.Base, st.valid)
		return
	}
	st.valid += len(r.Tokens)
	if i < len(m.stages)-1 {
		m.after(m.p.Hop(i+1), func() { m.arrive(i+1, r) })
		return
	}
	res := m.draw(st, r)
	m.after(m.p.Hop(i+1), func() { m.answer(r, res) })
}

// draw is what the last stage does.
func (m *sim) draw(st *stage, r *run) session.Result {
	res := session.Result{Epoch: r.Epoch, Base: r.Base, Count: len(r.Tokens)}
	for k := range r.Tokens {
		t := m.truth[min(r.Base+k+1, len(m.truth)-1)]
		res.Drawn = append(res.Drawn, t)
		st.pending = t
		if k+1 == len(r.Tokens) {
			break
		}
		if r.Tokens[k+1] != t {
			st.ended, st.valid = true, r.Base+k+1
			m.wasted += len(r.Tokens) - k - 1
			break
		}
		res.Accepted++
	}
	return res
}

func (m *sim) answer(r *run, res session.Result) {
	a := spec.Answer{Width: len(r.Tokens), Rows: r.rows, Compute: r.compute, Slowest: r.slowest}
	if r.alone >= 0 {
		a.Latency, a.Late = m.now-r.alone, r.late
	}
	m.sp.Answered(a)
	before := m.s.Runs()
	m.s.Result(res)
	m.dropped = m.dropped || m.s.Runs() < before-1
}
