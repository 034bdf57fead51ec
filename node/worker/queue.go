package worker

import (
	"slices"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
)

// minPrefill is the least prefill rows that a step takes along, so that prompts
// make progress beside any number of decoding sessions.
const minPrefill = 16

// decodeRecent is how long after a decode run the stage still counts as decoding,
// so that a prefill step does not grow while the head thinks.
const decodeRecent = time.Second

// work is one run that waits for a step, or is in one.
type work struct {
	relay  *relay
	ses    *session
	run    *weftv1.Run
	tokens []int32
	hidden []float32 // input rows, len(tokens) by embd; nil at the first stage
	out    []float32 // output rows of the pieces computed so far
	done   int       // rows computed
	take   int       // rows in the step under way
	dead   bool      // of a closed session or an old epoch: its output is dropped
}

func (w *work) left() int { return len(w.tokens) - w.done }

// sampling is what the last stage does with the step's piece of the run.
func (w *work) sampling() shard.Sampling {
	switch {
	case w.run.Sample == 0 || w.take < w.left():
		return shard.SampleNone
	case int(w.run.Sample) == len(w.tokens):
		return shard.SampleAll
	}
	return shard.SampleLast
}

// whole says that the run may not be cut: its positions draw tokens.
func (w *work) whole() bool { return w.run.Sample > 1 || len(w.tokens) == 1 }

// queue orders the runs of one stage and composes steps. It has no clock and no
// lock; served.mu guards it.
type queue struct {
	decode  []*work
	prefill []*work
	maxRows int
	// onward says that another stage follows: of one session's prefill runs a
	// step takes one, for the next stage is to begin while this one goes on.
	onward bool
}

// add puts a run in its place. Runs of one session keep their order: a decode
// run behind a prefill run of its session waits with it.
func (q *queue) add(w *work, class weftv1.Class) {
	if class == weftv1.Class_CLASS_PREFILL || w.ses.prefills > 0 {
		w.ses.prefills++
		q.prefill = append(q.prefill, w)
		return
	}
	q.decode = append(q.decode, w)
}

// compose picks the runs of the next step and sets their take: decode and
// verification first, one run of each session, then up to prefillRows rows of
// prefill in order of arrival, the last one perhaps in part. The runs stay queued
// until settle.
//
// A session's later decode runs are drafts ahead of the earlier ones. Together
// they would be one wide run: it would take longer, and all of it would be for
// nothing if the first of them is refused.
func (q *queue) compose(dst []*work, prefillRows int) []*work {
	rows := q.maxRows
	for _, w := range q.decode {
		if w.left() > rows {
			break
		}
		if slices.ContainsFunc(dst, func(d *work) bool { return d.ses == w.ses }) {
			continue
		}
		w.take = w.left()
		rows -= w.take
		dst = append(dst, w)
	}
	rows = min(rows, max(prefillRows, minPrefill))
	for i, w := range q.prefill {
		if slices.ContainsFunc(q.decode, func(d *work) bool { return d.ses == w.ses && d.take == 0 }) {
			break
		}
		if q.onward && slices.ContainsFunc(dst, func(d *work) bool { return d.ses == w.ses }) {
			continue
		}
		n := min(w.left(), rows)
		if n < w.left() && w.whole() {
			// It is taken whole or not at all; alone in a step it always fits.
			if i == 0 && len(dst) == 0 {
				n = w.left()
			} else {
				break
			}
		}
		if n <= 0 {
			break
		}
		w.take = n
		rows -= n
		dst = append(dst, w)
		if n < w.left() {
			break
		}
	}
	return dst
}

// settle ends a step: rows that were taken are done, and runs that are done or
// dead leave the queue.
func (q *queue) settle(step []*work) {
	for _, w := range step {
		w.done += w.take
		w.take = 0
	}
	q.sift()
}

// again takes back a run for which the step had no room.
func (w *work) again() { w.done -= w.take }

// drop marks runs for which match is true as dead and removes those that are in
// no step.
func (q *queue) drop(match func(*work) bool) {
	for _, list := range [][]*work{q.decode, q.prefill} {
		for _, w := range list {
			if match(w) {
				w.dead = true
			}
		}
	}
	q.sift()
}

// sift removes runs that are done or dead.
func (q *queue) sift() {
	keep := func(w *work) bool { return w.take > 0 || (!w.dead && w.left() > 0) }
	q.decode = slices.DeleteFunc(q.decode, func(w *work) bool { return !keep(w) })
	q.prefill = slices.DeleteFunc(q.prefill, func(w *work) bool {
		if keep(w) {
			return false
		}
		w.ses.prefills--
		return true
	})
}

func (q *queue) empty() bool { return len(q.decode) == 0 && len(q.prefill) == 0 }
