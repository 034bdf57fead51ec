package draft

import (
	"slices"
	"time"

	"github.com/weft-mesh/weft/node/spec"
	"github.com/weft-mesh/weft/shard"
)

// Source is one reply's drafts. Its methods are for one goroutine.
type Source struct {
	e         *Engine
	id        shard.SessionID
	salt      []byte
	reuse     bool // the prefix cache
	positions int
	spare     bool          // beyond what the engine drafts for at once
	wake      chan struct{} // of capacity 1
	out       []int32

	// Guarded by e.mu.
	seq   []int32 // committed
	path  []int32 // behind it: tokens that were said to be ahead, and what was drafted from them on
	given int     // tokens of path that begin it and were said, not drafted
	want  int     // length that path shall have
	turn  uint64  // counts the times that something in seq and path was replaced
	lost  bool    // nothing more is drafted until Begin
	left  int     // tokens that may be committed without an Aim before it reads along no more
	// stood is how many tokens of have are surely seq's and path's.
	stood int

	// The engine's loop's own; have is read with e.mu held.
	opened  bool
	epoch   uint64
	have    []int32 // tokens whose KV the stage has
	pending int32   // drawn behind them; -1: nothing
	all     []int32
}

var _ spec.Background = (*Source)(nil)

// Name implements spec.Source.
func (s *Source) Name() string { return "model" }

// Cost implements spec.Source. It is negative while the prompt is being read.
func (s *Source) Cost() time.Duration {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.idle() || s.e.cost == 0 {
		return -1
	}
	return s.e.cost
}

// idle says that nothing can be had soon; e.mu is held.
func (s *Source) idle() bool {
	if s.lost || s.e.closed || len(s.seq) == 0 {
		return true
	}
	return s.behind() > late
}

// behind is how many committed tokens the model has not read; e.mu is held.
func (s *Source) behind() int { return len(s.seq) - min(s.stood, len(s.seq)) }

// reads says whether the model is to read along though nothing is wanted;
// e.mu is held.
func (s *Source) reads() bool { return s.left > 0 && s.behind() > late/2 }

// Begin implements spec.Source.
func (s *Source) Begin(tokens []int32) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.seq = append(s.seq[:0], tokens...)
	s.lost = s.e.closed || s.spare || !s.known(tokens)
	s.divert(nil)
	s.stood = 0
	s.want, s.left = begun, patience
	s.e.signal()
}

// known says whether the draft model has all of the tokens.
func (s *Source) known(tokens []int32) bool {
	return !slices.ContainsFunc(tokens, func(t int32) bool { return t < 0 || int(t) >= s.e.o.Vocab })
}

// divert replaces what is behind the sequence; e.mu is held.
func (s *Source) divert(path []int32) {
	n := min(len(path), len(s.path))
	same := 0
	for same < n && path[same] == s.path[same] {
		same++
	}
	s.path = append(s.path[:same], path[same:]...)
	s.given = len(path)
	s.stood = min(s.stood, len(s.seq)+same)
	s.turn++
}

// Accept implements spec.Source.
func (s *Source) Accept(tokens []int32) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if !s.known(tokens) {
		s.lost = true
	}
	n := 0
	for n < min(len(tokens), len(s.path)) && tokens[n] == s.path[n] {
		n++
	}
	before := len(s.seq)
	s.seq = append(s.seq, tokens...)
	s.left = max(0, s.left-len(tokens))
	defer s.follow()
	if n == len(tokens) {
		s.path = append(s.path[:0], s.path[n:]...)
		s.want, s.given = max(0, s.want-n), max(0, s.given-n)
		return
	}
	s.path, s.given, s.want = s.path[:0], 0, 0
	if s.e.cost == 0 { // to find it out
		s.want = begun
	}
	s.stood = min(s.stood, before+n)
	s.turn++
}

// follow lets the model read along; e.mu is held.
func (s *Source) follow() {
	if !s.lost && (len(s.path) < s.want || s.reads()) {
		s.e.signal()
	}
}

// Draft implements spec.Source: what is at hand.
func (s *Source) Draft(ahead []int32, n int) spec.Draft {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	k := len(ahead)
	if s.lost || n <= 0 || len(s.path) <= k || k < s.given || !slices.Equal(s.path[:k], ahead) {
		return spec.Draft{}
	}
	s.out = append(s.out[:0], s.path[k:min(len(s.path), k+n)]...)
	return spec.Draft{Tokens: s.out}
}

// Aim implements spec.Background.
func (s *Source) Aim(ahead []int32, n int) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.aim(ahead, n)
}

func (s *Source) aim(ahead []int32, n int) {
	if !s.known(ahead) {
		s.lost = true
		return
	}
	if k := len(ahead); len(s.path) < k || k < s.given || !slices.Equal(s.path[:k], ahead) {
		s.divert(ahead)
	}
	s.want, s.left = len(ahead)+n, patience
	if len(s.path) >= s.want {
		s.rouse()
		return
	}
	s.e.signal()
}

// Await implements spec.Background.
func (s *Source) Await(ahead []int32, n int) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.aim(ahead, n)
	for !s.idle() && len(s.path) < s.want {
		s.e.moved.Wait()
	}
}

// Wake implements spec.Background.
func (s *Source) Wake() <-chan struct{} { return s.wake }

// rouse says that what was aimed for is there; e.mu is held.
func (s *Source) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close gives the reply's place back.
func (s *Source) Close() {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	i := slices.Index(s.e.sources, s)
	if i < 0 {
		return
	}
	s.e.sources = slices.Delete(s.e.sources, i, i+1)
	s.e.gone = append(s.e.gone, s)
	s.lost = true
	if len(s.e.sources) == 0 {
		s.e.rest = s.e.o.Now()
	}
	s.e.moved.Broadcast()
	s.e.signal()
}
