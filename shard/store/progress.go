package store

import (
	"sync"
	"sync/atomic"
	"time"
)

// meter counts the bytes that many goroutines finish and tells fn about them now and then.
type meter struct {
	total uint64
	done  atomic.Uint64
	fn    Progress
	now   func() time.Time

	mu   sync.Mutex // guards last, and keeps calls of fn apart
	last time.Time
}

func newMeter(total uint64, fn Progress, now func() time.Time) *meter {
	return &meter{total: total, fn: fn, now: now}
}

// add counts n more bytes.
func (m *meter) add(n int64) {
	done := m.done.Add(uint64(n))
	if m.fn == nil || !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	if now := m.now(); now.Sub(m.last) >= 100*time.Millisecond && done < m.total {
		m.last = now
		m.fn(done, m.total)
	}
}

// finish reports the end; nothing may be added any more.
func (m *meter) finish() {
	if m.fn != nil {
		m.fn(m.total, m.total)
	}
}
