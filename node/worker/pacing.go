package worker

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// pieceTime is how long a paced piece may hold a link up: a hop that waits
	// behind one is late by no more.
	pieceTime = 2 * time.Millisecond
	// leastPiece bounds what the pieces cost on a slow link.
	leastPiece = 4 << 10
)

// pacing holds what is sent within bounds: one for all peers together, one for
// each of them. A bound may change with every piece.
type pacing struct {
	// bounds are bytes a second, 0 for none.
	bounds func(peer string) (all, each float64)
	all    *rate.Limiter

	mu    sync.Mutex // guards peers
	peers map[string]*peerPace
}

// peerPace is the bound of one peer, shared by its streams.
type peerPace struct {
	*rate.Limiter
	streams int
}

func newPacing(bounds func(peer string) (all, each float64)) *pacing {
	if bounds == nil {
		bounds = func(string) (float64, float64) { return 0, 0 }
	}
	return &pacing{bounds: bounds, all: rate.NewLimiter(rate.Inf, sendPiece), peers: map[string]*peerPace{}}
}

// enter counts a stream of a peer; leave it again with the function returned.
func (p *pacing) enter(peer string) (*peerPace, func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.peers[peer]
	if l == nil {
		l = &peerPace{Limiter: rate.NewLimiter(rate.Inf, sendPiece)}
		p.peers[peer] = l
	}
	l.streams++
	return l, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if l.streams--; l.streams == 0 {
			delete(p.peers, peer)
		}
	}
}

// wait holds the next piece of at most left bytes back as the bounds of the
// moment demand, and says how long it may be. wish is the peer's own bound.
func (p *pacing) wait(ctx context.Context, peer string, l *peerPace, wish float64, left int) (int, error) {
	all, each := p.bounds(peer)
	each = lower(each, wish)
	n := min(left, pieceOf(lower(all, each)))
	adjust(p.all, all)
	adjust(l.Limiter, each)
	if err := l.WaitN(ctx, n); err != nil {
		return 0, err
	}
	return n, p.all.WaitN(ctx, n)
}

// lower is the stricter of two bounds, of which 0 is none.
func lower(a, b float64) float64 {
	if a <= 0 || b > 0 && b < a {
		return max(b, 0)
	}
	return a
}

// pieceOf is how many bytes are sent at once under a bound.
func pieceOf(bound float64) int {
	if bound <= 0 {
		return sendPiece
	}
	return int(min(max(bound*pieceTime.Seconds(), leastPiece), sendPiece))
}

func adjust(l *rate.Limiter, bound float64) {
	limit := rate.Limit(bound)
	if bound <= 0 {
		limit = rate.Inf
	}
	if l.Limit() != limit {
		l.SetLimit(limit)
	}
}

// Pacer holds what comes or goes within one bound, which may change with every
// piece. Any number of goroutines may share it.
type Pacer struct {
	bound func() float64 // bytes a second, 0 for none
	all   *rate.Limiter
}

// NewPacer makes a pacer that asks for its bound before every piece.
func NewPacer(bound func() float64) *Pacer {
	return &Pacer{bound: bound, all: rate.NewLimiter(rate.Inf, sendPiece)}
}

// Wait holds the next piece of at most left bytes back as the bound of the moment
// demands, and says how long it may be. It blocks until then, or until ctx ends.
func (p *Pacer) Wait(ctx context.Context, left int) (int, error) {
	bound := p.bound()
	n := min(left, pieceOf(bound))
	adjust(p.all, bound)
	return n, p.all.WaitN(ctx, n)
}
