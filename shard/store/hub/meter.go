package hub

import (
	"sync/atomic"
	"time"
)

// meter counts the bytes of a pull and reports them from a goroutine of its own.
type meter struct {
	total    uint64
	done     atomic.Int64
	file     atomic.Pointer[string]
	progress Progress
}

func newMeter(progress Progress) *meter {
	m := &meter{progress: progress}
	name := ""
	m.file.Store(&name)
	return m
}

// add counts n more bytes; n is negative when bytes were thrown away.
func (m *meter) add(n int64) { m.done.Add(n) }

// start begins to report. The function that it returns reports once more and waits for the end of it.
func (m *meter) start() (stop func()) {
	if m.progress == nil {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		m.report(end)
	}()
	return func() {
		close(end)
		<-ended
	}
}

func (m *meter) report(end <-chan struct{}) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	var rate float64
	last, before := time.Now(), m.done.Load()
	for {
		select {
		case <-end:
			m.progress(m.status(rate))
			return
		case now := <-ticker.C:
			done := m.done.Load()
			if dt := now.Sub(last).Seconds(); dt > 0 {
				rate += 0.15 * (float64(max(done-before, 0))/dt - rate)
			}
			last, before = now, done
			m.progress(m.status(rate))
		}
	}
}

func (m *meter) status(rate float64) Status {
	return Status{File: *m.file.Load(), Done: uint64(max(m.done.Load(), 0)), Total: m.total, Rate: rate}
}
