package wire

import (
	"errors"
	"sync"
)

// ErrBudget ends a link whose peer has too much under way on all of its links.
var ErrBudget = errors.New("the peer sends more at once than it may")

// Budget bounds the memory that bodies in parts take on all links that share
// it. Each link has a bound of its own; a hostile peer has many links.
type Budget struct {
	mu    sync.Mutex // guards left
	left  int
	total int
}

// NewBudget makes a budget of that many bytes.
func NewBudget(bytes int) *Budget { return &Budget{left: bytes, total: bytes} }

func (b *Budget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

func (b *Budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(b.left+n, b.total)
}

// share is what one link has taken of a budget; nil budgets have no bound.
type share struct {
	budget *Budget

	mu    sync.Mutex // guards taken and ended
	taken int
	ended bool
}

// hold changes the share to n bytes; false when there is not so much, or the
// link has ended.
func (s *share) hold(n int) bool {
	if s.budget == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return false
	case n <= s.taken:
		s.budget.give(s.taken - n)
	case !s.budget.take(n - s.taken):
		return false
	}
	s.taken = n
	return true
}

// end gives the share back for good.
func (s *share) end() {
	if s.budget == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget.give(s.taken)
	s.taken, s.ended = 0, true
}
