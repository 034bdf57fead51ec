package kv

import (
	"errors"
	"fmt"

	"github.com/weft-mesh/weft/kernels"
)

// BlockPositions is the number of positions of a block.
const BlockPositions = kernels.BlockPositions

// ErrNoRoom is wrapped when a reservation does not fit beside those that were made before.
var ErrNoRoom = errors.New("no room in KV memory")

// none is the end of a list of blocks, and the table entry of a block that was given back.
const none int32 = -1

// block is what is known of one block. A block is in exactly one state: free, in limbo, used (refs > 0), or cached
// (refs == 0, keyed, on the list of least recently used).
type block struct {
	refs       int32
	keyed      bool // content is final and found by key
	key        Key
	prev, next int32 // on the list of cached blocks
}

// Pool is a number of blocks.
type Pool struct {
	blocks   []block
	free     []int32
	byKey    map[Key]int32
	oldest   int32 // list of cached blocks, by last use
	newest   int32
	cached   int
	reserved int // blocks that open sequences may still hold, now or later
}

// Stats counts blocks.
type Stats struct {
	Blocks   int // of the pool
	Free     int // never used or given back
	Used     int // referenced by a sequence
	Cached   int // not referenced, kept for their prefix
	Reserved int // promised to open sequences; Blocks-Reserved can be promised to a new one
}

// New makes a pool of n blocks, numbered from 0.
func New(n int) *Pool {
	p := &Pool{
		blocks: make([]block, n),
		free:   make([]int32, 0, n),
		byKey:  make(map[Key]int32, n),
		oldest: none,
		newest: none,
	}
	for i := n - 1; i >= 0; i-- { // so that low blocks go first: their pages are in memory already
		p.free = append(p.free, int32(i))
	}
	return p
}

// BlocksFor is how many blocks hold so many positions.
func BlocksFor(positions int) int { return (positions + BlockPositions - 1) / BlockPositions }

// Stats counts the pool's blocks.
func (p *Pool) Stats() Stats {
	return Stats{
		Blocks:   len(p.blocks),
		Free:     len(p.free),
		Used:     len(p.blocks) - len(p.free) - p.cached,
		Cached:   p.cached,
		Reserved: p.reserved,
	}
}

// Forget drops every cached prefix that no sequence references.
func (p *Pool) Forget() {
	for p.oldest != none {
		p.evict()
	}
}

// reserve promises n blocks.
func (p *Pool) reserve(n int) error {
	if n > len(p.blocks)-p.reserved {
		return fmt.Errorf("%w: %d positions asked for, %d of %d are not promised to other sessions", ErrNoRoom,
			n*BlockPositions, (len(p.blocks)-p.reserved)*BlockPositions, len(p.blocks)*BlockPositions)
	}
	p.reserved += n
	return nil
}

// take gives a block with one reference. Reservations see to it that there is one: every block that is neither free nor
// cached is a sequence's, and sequences together hold no more than they reserved.
func (p *Pool) take() (int32, bool) {
	if len(p.free) == 0 {
		if p.oldest == none {
			return none, false
		}
		p.evict()
	}
	b := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.blocks[b].refs = 1
	return b, true
}

// evict gives the least recently used cached block back.
func (p *Pool) evict() {
	b := p.oldest
	p.unlink(b)
	p.forgetKey(b)
	p.free = append(p.free, b)
}

// ref takes one more reference to a keyed block.
func (p *Pool) ref(b int32) {
	if p.blocks[b].refs == 0 {
		p.unlink(b)
	}
	p.blocks[b].refs++
}

// unref gives a reference back. A keyed block stays as cache.
func (p *Pool) unref(b int32) {
	e := &p.blocks[b]
	e.refs--
	switch {
	case e.refs > 0:
	case e.keyed:
		p.link(b)
	default:
		p.free = append(p.free, b)
	}
}

func (p *Pool) forgetKey(b int32) {
	e := &p.blocks[b]
	delete(p.byKey, e.key)
	e.keyed = false
}

// link makes b the most recently used cached block.
func (p *Pool) link(b int32) {
	e := &p.blocks[b]
	e.prev, e.next = p.newest, none
	if p.newest != none {
		p.blocks[p.newest].next = b
	} else {
		p.oldest = b
	}
	p.newest = b
	p.cached++
}

func (p *Pool) unlink(b int32) {
	e := &p.blocks[b]
	if e.prev != none {
		p.blocks[e.prev].next = e.next
	} else {
		p.oldest = e.next
	}
	if e.next != none {
		p.blocks[e.next].prev = e.prev
	} else {
		p.newest = e.prev
	}
	p.cached--
}
