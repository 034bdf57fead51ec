package kv

import (
	"errors"
	"fmt"
)

// ErrReserved is wrapped when a sequence would grow beyond the positions that it reserved.
var ErrReserved = errors.New("beyond the reserved positions")

// ErrShared is wrapped when a truncation would make a sequence write into a block that others read.
var ErrShared = errors.New("position lies in a block that other sessions share")

// ErrWindow is wrapped when a truncation goes back to where blocks were already given back.
var ErrWindow = errors.New("position lies behind the sliding window")

// Seq is a sequence's blocks.
type Seq struct {
	pool      *Pool
	table     []int32 // block i holds positions 16i to 16i+15
	keys      []Key   // of the leading final blocks
	seed      Key
	positions int // reserved
	window    int
	promised  int // blocks that the pool promised and that are not given back yet
	gone      int // leading blocks that were given back behind the window
}

// Open reserves positions and takes references to the blocks of the longest known prefix of prompt, of whole blocks and
// without the prompt's last token. window is the model's sliding window, or 0. It wraps ErrNoRoom.
func (p *Pool) Open(seed Key, prompt []int32, positions, window int) (*Seq, error) {
	n := BlocksFor(positions)
	if err := p.reserve(n); err != nil {
		return nil, err
	}
	s := &Seq{
		pool: p, seed: seed, positions: positions, window: window, promised: n,
		table: make([]int32, 0, n), keys: make([]Key, 0, n),
	}
	key := seed
	for (len(s.table)+1)*BlockPositions < min(len(prompt), positions+1) {
		key = key.next(prompt[len(s.table)*BlockPositions:])
		b, ok := p.byKey[key]
		if !ok {
			break
		}
		p.ref(b)
		s.table = append(s.table, b)
		s.keys = append(s.keys, key)
	}
	return s, nil
}

// Held is how many positions, from 0, the sequence has in final blocks.
func (s *Seq) Held() int { return len(s.keys) * BlockPositions }

// Positions is how many positions are reserved.
func (s *Seq) Positions() int { return s.positions }

// Table lists the sequence's blocks: entry i holds positions 16i to 16i+15. The slice is the sequence's own and changes
// with Extend, Rewind and Close. Entries behind the sliding window name blocks that are somebody else's by now: no query
// sees their positions.
func (s *Seq) Table() []int32 { return s.table }

// Extend makes positions below n addressable. It wraps ErrReserved.
func (s *Seq) Extend(n int) error {
	if n > s.positions {
		return fmt.Errorf("%w: %d positions, %d are reserved", ErrReserved, n, s.positions)
	}
	for len(s.table)*BlockPositions < n {
		b, ok := s.pool.take()
		if !ok {
			return fmt.Errorf("%w although %d blocks are reserved; this is a fault of the accounting", ErrNoRoom, s.promised)
		}
		s.table = append(s.table, b)
	}
	return nil
}

// Rewind says that positions from keep on will be written again. Final blocks beyond keep are given up, and stay in the
// pool as cache; the one that keep lies in becomes private again. It wraps ErrShared when another sequence reads that one,
// or ErrWindow.
func (s *Seq) Rewind(keep int) error {
	if s.window > 0 && max(0, keep+1-s.window) < s.gone*BlockPositions {
		return fmt.Errorf("%w: %d, positions before %d are given back", ErrWindow, keep, s.gone*BlockPositions)
	}
	full := keep / BlockPositions
	if full >= len(s.keys) {
		return nil
	}
	first := full
	if keep%BlockPositions != 0 {
		b := s.table[full]
		if s.pool.blocks[b].refs > 1 {
			return fmt.Errorf("%w: %d; %d can be kept", ErrShared, keep, full*BlockPositions)
		}
		if s.pool.blocks[b].keyed {
			s.pool.forgetKey(b)
		}
		first++
	}
	s.drop(first)
	s.keys = s.keys[:full]
	return nil
}

// drop gives the blocks from table entry first on back. Later ones go first: a chain is of use only from its beginning, so
// its end should be evicted before it.
func (s *Seq) drop(first int) {
	for i := len(s.table) - 1; i >= max(first, s.gone); i-- {
		s.pool.unref(s.table[i])
	}
	s.table = s.table[:first]
}

// Confirm says that the sequence's first n positions, which hold tokens, are final. Full blocks can now be found by other
// sequences, and blocks that lie behind the window of every later position are given back.
func (s *Seq) Confirm(tokens []int32, n int) {
	for len(s.keys) < n/BlockPositions {
		i := len(s.keys)
		key := s.seed
		if i > 0 {
			key = s.keys[i-1]
		}
		key = key.next(tokens[i*BlockPositions:])
		s.keys = append(s.keys, key)
		// Where another sequence was first with the same content, this block stays private.
		if _, taken := s.pool.byKey[key]; !taken {
			e := &s.pool.blocks[s.table[i]]
			e.key, e.keyed = key, true
			s.pool.byKey[key] = s.table[i]
		}
	}
	if s.window == 0 {
		return
	}
	for (s.gone+1)*BlockPositions <= n+1-s.window {
		s.pool.unref(s.table[s.gone])
		s.gone++
		s.promised--
		s.pool.reserved--
	}
}

// Close gives blocks and reservation back. Final blocks stay in the pool as cache.
func (s *Seq) Close() {
	s.drop(0)
	s.pool.reserved -= s.promised
	s.table, s.keys, s.promised = nil, nil, 0
}
