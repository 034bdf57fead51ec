package cpu

import (
	"math"

	"github.com/weft-mesh/weft/kernels"
)

// partials are attention over a part of the positions, of a tile's queries:
// the largest score, the sum of exponentials, and the weighted sum of values.
type partials struct {
	m, s []float32 // one a query, padded to whole vectors of 16
	o    []float32 // dim a query
}

// nothing is the largest score of a part without positions. No score is below
// it, so that folding such a part with another gives the other bit for bit:
// its sums are +0, whatever factor they get, and the other's factor is exp(0).
const nothing = -math.MaxFloat32

func (p *partials) reset() {
	for i := range p.m {
		p.m[i] = nothing
	}
	clear(p.s)
	clear(p.o)
}

// query is one row and head of a tile.
type query struct {
	row, head int
	lo, hi    int // visible positions
}

// attnScratch is one worker's memory, kept between operations.
type attnScratch struct {
	queries []query
	q       []float32        // dim a query
	scores  []float32        // scoreStride a query
	spans   [][2]int32       // of each query: visible places lo..hi-1 in the chunk
	bad     []uint32         // of each query: not 0 if a score is not finite
	a, b    []float32        // factors of a fold
	chunk   partials         // the chunk at hand
	group   partials         // chunks so far
	total   partials         // groups so far
	places  [chunkBlocks]int // of the chunk's blocks in memory

	room []float32
	most int // queries that there is room for
}

// sized makes room for n queries of dim elements, and cuts it to them.
func (s *attnScratch) sized(n, dim int) {
	floats := n*dim + n*scoreStride + 8*pad16(n) + 3*n*dim
	if len(s.room) < floats {
		s.room = make([]float32, floats)
	}
	if s.most < n {
		s.queries, s.spans, s.bad, s.most = make([]query, n), make([][2]int32, n), make([]uint32, n), n
	}
	room := s.room
	take := func(n int) []float32 {
		part := room[:n:n]
		room = room[n:]
		return part
	}
	s.q, s.scores, s.a, s.b = take(n*dim), take(n*scoreStride), take(pad16(n)), take(pad16(n))
	for _, p := range []*partials{&s.chunk, &s.group, &s.total} {
		p.m, p.s, p.o = take(pad16(n)), take(pad16(n)), take(n*dim)
		p.reset()
	}
	clear(s.bad)
}

// attnRun is one KV head of a tile over the positions that it sees.
type attnRun struct {
	*attnTask
	s      *attnScratch
	tile   attnTile
	n, dim int // queries, elements of a head
	kvHead int
	table  []int32 // the sequence's blocks
}

// run begins a unit's work in a worker's memory.
func (t *attnTask) run(worker int, u *attnUnit) attnRun {
	c := attnRun{attnTask: t, s: &t.d.scratch[worker].attn, tile: t.tiles[u.tile], dim: t.kv.layout.HeadDim, kvHead: u.head}
	c.n = c.tile.rows * t.shared
	c.table = t.b.Seqs[t.b.Rows[c.tile.first].Seq]
	c.s.sized(c.n, c.dim)
	for i := range c.n {
		q := &c.s.queries[i]
		q.row, q.head = c.tile.first+i/t.shared, u.head*t.shared+i%t.shared
		q.lo, q.hi = t.visible(t.b.Rows[q.row].Pos)
	}
	return c
}

// partial gives a partial of the tile in the task's memory.
func (c *attnRun) partial(at int) partials {
	n := pad16(c.n)
	p := c.parts[at:]
	return partials{m: p[:n], s: p[n : 2*n], o: p[2*n : 2*n+c.n*c.dim]}
}

// load copies the tile's queries side by side.
func (c *attnRun) load() {
	for i, q := range c.s.queries[:c.n] {
		copy(c.s.q[i*c.dim:(i+1)*c.dim], c.q.row(q.row)[q.head*c.dim:])
	}
}

// chunk computes the queries' partials of one chunk and folds them into the
// group.
func (c *attnRun) chunk(chunk int) {
	base := chunk * chunkPositions
	first, last := max(c.tile.lo, base)&^(kernels.BlockPositions-1), min(c.tile.hi, base+chunkPositions)
	blocks := (last - first + kernels.BlockPositions - 1) / kernels.BlockPositions
	for i := range blocks {
		c.s.places[(first-base)/kernels.BlockPositions+i] = c.kv.place(c.table[first/kernels.BlockPositions+i], c.layer, c.kvHead)
	}
	c.score((first-base)/kernels.BlockPositions, blocks)
	for i, q := range c.s.queries[:c.n] {
		lo, hi := max(q.lo-base, 0), min(q.hi-base, chunkPositions)
		c.s.spans[i] = [2]int32{int32(lo), int32(max(lo, hi))}
	}
	c.soften()
	c.weighAll()
	c.fold(&c.s.group, &c.s.chunk)
}

// weighAll gives every query its chunk's weighted sum. Positions that all
// queries see go through the tile together; those at the ends that only some
// rows see are taken by each row alone, for values that a query cannot see
// must not be read on its behalf.
func (c *attnRun) weighAll() {
	clear(c.s.chunk.o)
	lo, hi := 0, chunkPositions
	for _, s := range c.s.spans[:c.n] {
		lo, hi = max(lo, int(s[0])), min(hi, int(s[1]))
	}
	if lo >= hi {
		lo, hi = chunkPositions, chunkPositions
	}
	for i := 0; i < c.n; i += c.shared {
		c.weigh(i, c.shared, int(c.s.spans[i][0]), min(lo, int(c.s.spans[i][1])))
	}
	c.weigh(0, c.n, lo, hi)
	for i := 0; i < c.n; i += c.shared {
		c.weigh(i, c.shared, max(hi, int(c.s.spans[i][0])), int(c.s.spans[i][1]))
	}
}

// mark marks the rows of queries that met a score that is not finite.
func (c *attnRun) mark() {
	for i, bad := range c.s.bad[:c.n] {
		if bad != 0 {
			c.d.markBad(c.s.queries[i].row)
		}
	}
}

// finish stores the results, zeros for rows that are faulted.
func (c *attnRun) finish() {
	for i, q := range c.s.queries[:c.n] {
		out := c.dst.row(q.row)[q.head*c.dim : (q.head+1)*c.dim]
		if c.d.isBad(q.row) {
			clear(out)
			continue
		}
		c.d.divide(out, c.s.total.o[i*c.dim:(i+1)*c.dim], c.s.total.s[i])
	}
}
