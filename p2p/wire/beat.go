package wire

import (
	"sync"
	"sync/atomic"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// beatWindow is how many beats may be unanswered and still be matched.
const beatWindow = 64

// pulse is a link's heartbeat state.
type pulse struct {
	users   atomic.Int32
	changed chan struct{} // users went from or to zero

	// mu guards everything below.
	mu     sync.Mutex
	seq    uint64
	sent   [beatWindow]time.Time // by seq
	rtt    time.Duration         // smoothed; 0 before the first answer
	rttVar time.Duration
	missed int
	alive  uint64 // cfg.Alive at the last tick
}

func (l *link) Busy(delta int) {
	now := l.beat.users.Add(int32(delta))
	if now < 0 {
		panic("wire: link released more often than it was taken")
	}
	if (now == 0) != (now-int32(delta) == 0) {
		select {
		case l.beat.changed <- struct{}{}:
		default:
		}
	}
}

// beats sends heartbeats while the link is in use and gives the peer up when it
// does not answer. It counts ticks, not time: a machine that was itself stopped
// ticks once when it goes on, and does not blame its peers.
func (l *link) beats() {
	ticker := time.NewTicker(l.cfg.Beat)
	ticker.Stop()
	defer ticker.Stop()
	running := false
	for {
		select {
		case <-l.stop:
			return
		case <-l.beat.changed:
			busy := l.beat.users.Load() > 0
			if busy && !running {
				l.beat.restart()
				l.out.putUrgent(beatFrame(l.beat.next(), false))
				ticker.Reset(l.cfg.Beat)
			} else if !busy && running {
				ticker.Stop()
			}
			running = busy
		case <-ticker.C:
			if l.beat.tick(l.cfg) {
				_ = l.fail(ErrHung)
				if l.cfg.OnHung != nil {
					l.cfg.OnHung(l.peer)
				}
				return
			}
			l.out.putUrgent(beatFrame(l.beat.next(), false))
		}
	}
}

func beatFrame(seq uint64, answer bool) *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_Beat{Beat: &weftv1.Beat{Seq: seq, Answer: answer}}}
}

// restart forgets what was missed before the link was in use.
func (p *pulse) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missed = 0
}

// next numbers a beat and notes its time.
func (p *pulse) next() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	p.sent[p.seq%beatWindow] = time.Now()
	return p.seq
}

// tick counts a beat without a sign of life; true means that the peer is to be
// given up. The allowance beside cfg.Missed is the link's own round trip with
// its variation, or a second's worth before one is known.
func (p *pulse) tick(cfg Config) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := cfg.Alive.Load(); n != p.alive {
		p.alive, p.missed = n, 0
		return false
	}
	p.missed++
	own := p.rtt + 4*p.rttVar
	if p.rtt == 0 {
		own = 5 * cfg.Beat
	}
	own = min(own, 20*cfg.Beat)
	return p.missed >= cfg.Missed+int(own/cfg.Beat)
}

// onBeat answers a beat or takes the round trip from an answer.
func (l *link) onBeat(b *weftv1.Beat) {
	if !b.Answer {
		l.out.putUrgent(beatFrame(b.Seq, true))
		return
	}
	l.beat.answered(b.Seq, time.Now())
}

func (p *pulse) answered(seq uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if seq > p.seq || p.seq-seq >= beatWindow {
		return
	}
	at := p.sent[seq%beatWindow]
	if at.IsZero() {
		return
	}
	p.sent[seq%beatWindow] = time.Time{}
	d := max(now.Sub(at), 1)
	if p.rtt == 0 {
		p.rtt, p.rttVar = d, d/2
		return
	}
	p.rttVar += ((p.rtt - d).Abs() - p.rttVar) / 4
	p.rtt += (d - p.rtt) / 8
}

func (p *pulse) roundTrip() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rtt
}
