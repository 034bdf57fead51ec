package worker

import (
	"math/bits"
	"time"
)

// widths is how many classes of step width are told apart: 1, 2, 3-4, 5-8, …
const widths = 14

// meter keeps moving averages of a stage's steps. served.mu guards it.
type meter struct {
	steps   uint64
	rows    uint64
	busy    time.Duration
	byWidth [widths]time.Duration // of a step, by class of its width; 0: none yet
	perRow  time.Duration         // of a prefill row in wide steps
}

// widthClass is the class of steps of that many rows.
func widthClass(rows int) int {
	return min(bits.Len(uint(max(rows, 1)-1)), widths-1)
}

// add notes a step of rows rows, prefill of which are prompt rows.
func (m *meter) add(rows, prefill int, took time.Duration) {
	m.steps++
	m.rows += uint64(rows)
	m.busy += took
	average(&m.byWidth[widthClass(rows)], took)
	if prefill >= minPrefill {
		average(&m.perRow, took/time.Duration(rows))
	}
}

// average moves v an eighth of the way to x.
func average(v *time.Duration, x time.Duration) {
	if *v == 0 {
		*v = x
		return
	}
	*v += (x - *v) / 8
}

// prefillRows is how many prompt rows fit a step that may take limit: a multiple
// of minPrefill, at least that.
func (m *meter) prefillRows(limit time.Duration, most int) int {
	if m.perRow <= 0 {
		return min(4*minPrefill, most)
	}
	rows := int(min(int64(limit/m.perRow), int64(most)))
	return max(rows/minPrefill*minPrefill, minPrefill)
}
