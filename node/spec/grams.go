package spec

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"
)

// Bounds of a Library.
const (
	DefaultShelves = 32      // whose n-grams are remembered
	shelfSlots     = 1 << 16 // n-grams of one, 16 bytes each
	minSlots       = 1 << 10
)

// orders are the lengths of the contexts that n-grams are kept for, longest
// first.
var orders = [...]int{8, 5, 3}

// Library remembers n-grams of past replies and their prompts, so that what a
// user's replies have in common is drafted from the first token on. It is in
// memory only. Each tenant has a shelf of his own for each model, found by his
// name alone: nothing of one can be drafted for another. The least recently
// used shelf goes when there are too many. A Library may be used from any
// goroutine.
type Library struct {
	most int
	seed maphash.Seed

	// mu guards everything below.
	mu      sync.Mutex
	shelves map[shelfKey]*list.Element // of *shelf
	used    *list.List                 // most recently used first
}

// shelfKey tells shelves apart.
type shelfKey struct{ tenant, model string }

// shelf is what one tenant's replies of one model have taught.
type shelf struct {
	key  shelfKey
	salt uint64

	// mu guards everything below.
	mu    sync.Mutex
	slots []gram // a power of two of them
	kept  int
}

// gram is one n-gram: what followed a context last.
type gram struct {
	key   uint64 // of the context; 0: the slot is free
	next  int32
	count int32 // how often it has proved right, less how often not
}

// NewLibrary makes a library of at most so many shelves, DefaultShelves if 0.
func NewLibrary(shelves int) *Library {
	if shelves <= 0 {
		shelves = DefaultShelves
	}
	return &Library{most: shelves, seed: maphash.MakeSeed(), shelves: map[shelfKey]*list.Element{}, used: list.New()}
}

// Open gives a source over the tenant's shelf for a model. Both names are taken
// as they are.
func (l *Library) Open(tenant, model string) *Grams {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := shelfKey{tenant, model}
	if e := l.shelves[key]; e != nil {
		l.used.MoveToFront(e)
		return &Grams{shelf: e.Value.(*shelf)}
	}
	for l.used.Len() >= l.most {
		oldest := l.used.Back()
		delete(l.shelves, oldest.Value.(*shelf).key)
		l.used.Remove(oldest)
	}
	s := &shelf{key: key, salt: maphash.Comparable(l.seed, key)}
	l.shelves[key] = l.used.PushFront(s)
	return &Grams{shelf: s}
}

// Forget drops everything that was learnt of a model: its entry was removed.
func (l *Library) Forget(model string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, e := range l.shelves {
		if key.model == model {
			l.used.Remove(e)
			delete(l.shelves, key)
		}
	}
}

// Bytes is the memory that the shelves have.
func (l *Library) Bytes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.shelves {
		s := e.Value.(*shelf)
		s.mu.Lock()
		n += 16 * len(s.slots)
		s.mu.Unlock()
	}
	return n
}

// Grams is a source that proposes what followed the same few tokens in earlier
// replies of the same tenant, and teaches them this one.
type Grams struct {
	shelf *shelf
	tail  []int32 // the last tokens of the sequence, orders[0] at most
	out   []int32
	seq   []int32
}

// Name implements Source.
func (g *Grams) Name() string { return "ngram" }

// Cost implements Source.
func (g *Grams) Cost() time.Duration { return time.Microsecond }

// Begin implements Source.
func (g *Grams) Begin(tokens []int32) {
	g.tail = g.tail[:0]
	g.Accept(tokens)
}

// Accept implements Source.
func (g *Grams) Accept(tokens []int32) {
	g.shelf.mu.Lock()
	defer g.shelf.mu.Unlock()
	for _, t := range tokens {
		g.shelf.learn(g.tail, t)
		if len(g.tail) == orders[0] {
			copy(g.tail, g.tail[1:])
			g.tail = g.tail[:len(g.tail)-1]
		}
		g.tail = append(g.tail, t)
	}
}

// Draft implements Source.
func (g *Grams) Draft(ahead []int32, n int) Draft {
	g.shelf.mu.Lock()
	defer g.shelf.mu.Unlock()
	if g.shelf.kept == 0 || n <= 0 {
		return Draft{}
	}
	g.seq = append(append(g.seq[:0], g.tail...), ahead...)
	from, match := len(g.seq), 0
	for len(g.seq)-from < n {
		t, order := g.shelf.find(g.seq)
		if order == 0 {
			break
		}
		if match == 0 {
			match = order
		}
		g.seq = append(g.seq, t)
	}
	g.out = append(g.out[:0], g.seq[from:]...)
	return Draft{Tokens: g.out, Match: match}
}

// key64 names a context. Who does not know the seed cannot make two collide.
func (s *shelf) key64(context []int32) uint64 {
	const k = 0x9e3779b97f4a7c15
	h := s.salt + uint64(len(context))
	for _, t := range context {
		h = (h ^ uint64(uint32(t))) * k
		h ^= h >> 29
	}
	return max(h, 1)
}

// learn notes that t followed seq; mu is held.
func (s *shelf) learn(seq []int32, t int32) {
	for _, n := range orders {
		if len(seq) >= n {
			s.note(s.key64(seq[len(seq)-n:]), t)
		}
	}
}

// ways is how many slots an n-gram may stand in.
const ways = 4

// slot finds the slot of a context among its ways, or else the one whose n-gram
// has proved least, which may be free.
func (s *shelf) slot(key uint64) (g *gram, found bool) {
	i := int(key) & (len(s.slots) - 1) &^ (ways - 1)
	for k := range s.slots[i : i+ways] {
		o := &s.slots[i+k]
		switch {
		case o.key == key:
			return o, true
		case g == nil, g.key != 0 && (o.key == 0 || o.count < g.count):
			g = o
		}
	}
	return g, false
}

// note teaches one context its next token.
func (s *shelf) note(key uint64, t int32) {
	if 4*s.kept >= len(s.slots) && len(s.slots) < shelfSlots {
		s.grow()
	}
	g, found := s.slot(key)
	switch {
	case found:
		g.seen(t)
	case g.key != 0 && g.count > 0:
		g.count-- // it ages by what wants its place
	default:
		s.put(g, gram{key: key, next: t})
	}
}

func (s *shelf) put(g *gram, n gram) {
	if g.key == 0 {
		s.kept++
	}
	*g = n
}

func (g *gram) seen(t int32) {
	switch {
	case g.next == t:
		g.count = min(g.count+1, 15)
	case g.count > 0:
		g.count--
	default:
		g.next = t
	}
}

func (s *shelf) grow() {
	old := s.slots
	s.slots, s.kept = make([]gram, max(minSlots, 2*len(old))), 0
	for _, g := range old {
		if g.key != 0 {
			to, _ := s.slot(g.key)
			s.put(to, g)
		}
	}
}

// find is what followed the longest known context at the end of seq; mu is held.
func (s *shelf) find(seq []int32) (t int32, order int) {
	for _, n := range orders {
		if len(seq) < n {
			continue
		}
		key := s.key64(seq[len(seq)-n:])
		if g, found := s.slot(key); found {
			return g.next, n
		}
	}
	return 0, 0
}
