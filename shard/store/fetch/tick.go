package fetch

import (
	"time"
)

// tick reports progress, and wakes those whom only the passing of time gives work.
func (r *run) tick(end <-chan struct{}) {
	const every = 200 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var rate float64
	last, before := time.Now(), uint64(0)
	for {
		select {
		case <-end:
			r.opt.Progress(r.status(rate))
			return
		case now := <-ticker.C:
			r.mu.Lock()
			arrived := r.arrived
			r.cond.Broadcast()
			r.mu.Unlock()
			if dt := now.Sub(last).Seconds(); dt > 0 {
				rate += 0.15 * (float64(arrived-before)/dt - rate)
				last, before = now, arrived
			}
			r.opt.Progress(r.status(rate))
		}
	}
}

func (r *run) status(rate float64) Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Done: r.done, Total: r.total, Rate: rate}
	for _, p := range r.peers {
		if p.aside == nil {
			s.Sources++
		}
	}
	return s
}
