package cpu

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
)

const (
	chunkPositions = 256 // positions whose scores are softened together
	groupChunks    = 16  // chunks that fold into a group
	chunkBlocks    = chunkPositions / kernels.BlockPositions

	// tileQueries is about how many queries (rows times heads that share a KV
	// head) pass over the same keys and values together.
	tileQueries = 16
)

// attnKernels are a tier's inner loops over keys and values of one KV type.
// Queries of a tile lie one after another, dim elements each; their scores lie
// chunkPositions apart.
type attnKernels struct {
	// scores stores q.k for n queries and one block's 16 positions.
	scores func(q *float32, keys *byte, out *float32, n, dim int)
	// weigh adds p times values to o for positions of one block, for n
	// queries whose o are dim elements each, a multiple of 16.
	weigh func(p *float32, values *byte, o *float32, positions, n, dim int)
}

// attnTile is a run of rows of one sequence.
type attnTile struct{ first, rows int }

// attnTask computes attention; a unit is a tile of rows and one KV head.
type attnTask struct {
	d      *Device
	b      *kernels.Batch
	kv     *kvArena
	layer  int
	p      kernels.AttnParams
	dst, q *buffer
	shared int // query heads of a KV head
	tiles  []attnTile
}

// Attention stores each row's attention over its sequence's positions.
func (d *Device) Attention(b *kernels.Batch, dst, q kernels.Buffer, kv kernels.KV, layer int, p kernels.AttnParams) {
	a, to, from := d.asKV(kv), asBuffer(dst), asBuffer(q)
	n := len(b.Rows)
	if p.Heads < 1 || p.Heads%a.layout.Heads != 0 {
		panic(fmt.Sprintf("cpu: attention of %d heads over %d KV heads", p.Heads, a.layout.Heads))
	}
	needShape("attention", from, n, p.Heads*a.layout.HeadDim)
	needShape("attention", to, n, p.Heads*a.layout.HeadDim)
	a.checkKV(b, layer)
	d.clearBad(n)
	t := &d.attnTask
	*t = attnTask{d: d, b: b, kv: a, layer: layer, p: p, dst: to, q: from, shared: p.Heads / a.layout.Heads, tiles: t.tiles[:0]}
	t.plan()
	d.parallel(t, len(t.tiles)*a.layout.Heads, t.work())
	t.b = nil
	d.report(b, "attention")
}

// plan cuts the batch into tiles of neighbouring rows of one sequence.
func (t *attnTask) plan() {
	most := max(1, tileQueries/t.shared)
	rows := t.b.Rows
	for i := 0; i < len(rows); {
		n := 1
		for i+n < len(rows) && n < most && rows[i+n].Seq == rows[i].Seq {
			n++
		}
		t.tiles = append(t.tiles, attnTile{i, n})
		i += n
	}
}

// work estimates the elements that the task touches.
func (t *attnTask) work() int {
	sum := 0
	for _, r := range t.b.Rows {
		lo, hi := t.visible(r.Pos)
		sum += hi - lo
	}
	return sum * t.q.cols / 4
}

// visible gives the positions lo..hi-1 that a query at pos sees.
func (t *attnTask) visible(pos int32) (lo, hi int) {
	hi = int(pos) + 1
	if t.p.Window > 0 {
		lo = max(0, hi-t.p.Window)
	}
	return lo, hi
}

// partial is attention over a part of the positions, of one query: the
// largest score, the sum of exponentials, and the weighted sum of values.
type partial struct {
	m, s float32
	any  bool
	o    []float32
}

// query is one row and head of a tile.
type query struct {
	row, head    int
	lo, hi       int // visible positions
	bad          bool
	chunk        partial
	group, total partial
}

// attnScratch is one worker's memory, kept between operations.
type attnScratch struct {
	q       []float32 // queries, dim each
	scores  []float32 // chunkPositions for each query
	o       []float32 // the chunk's o, dim for each query
	rest    []float32 // o of groups and totals
	queries []query
}

// sized makes room for n queries of dim elements.
func (s *attnScratch) sized(n, dim int) {
	if len(s.queries) >= n && len(s.q) >= n*dim {
		return
	}
	s.q = make([]float32, n*dim)
	s.scores = make([]float32, n*chunkPositions)
	s.o = make([]float32, n*dim)
	s.rest = make([]float32, 2*n*dim)
	s.queries = make([]query, n)
}

func (t *attnTask) unit(worker, u int) {
	tile, kvHead := t.tiles[u/t.kv.layout.Heads], u%t.kv.layout.Heads
	s := &t.d.scratch[worker].attn
	n, dim := tile.rows*t.shared, t.kv.layout.HeadDim
	s.sized(n, dim)
	c := attnTileRun{attnTask: t, s: s, n: n, dim: dim, kvHead: kvHead}
	c.load(tile)
	c.lo, c.hi = s.queries[0].lo, s.queries[0].hi
	for i := range s.queries[:n] {
		c.lo, c.hi = min(c.lo, s.queries[i].lo), max(c.hi, s.queries[i].hi)
	}
	c.table = t.b.Seqs[t.b.Rows[tile.first].Seq]
	for chunk := c.lo / chunkPositions; chunk*chunkPositions < c.hi; chunk++ {
		c.chunk(chunk)
	}
	c.finish()
}

// attnTileRun is the run of one tile over the positions that it sees.
type attnTileRun struct {
	*attnTask
	s      *attnScratch
	n, dim int // queries, elements of a head
	kvHead int
	lo, hi int     // positions that any query sees
	table  []int32 // the sequence's blocks
}

// load copies the tile's queries side by side.
func (c *attnTileRun) load(tile attnTile) {
	s := c.s
	for i := range c.n {
		row, head := tile.first+i/c.shared, c.kvHead*c.shared+i%c.shared
		q := &s.queries[i]
		*q = query{row: row, head: head}
		q.lo, q.hi = c.visible(c.b.Rows[row].Pos)
		q.chunk.o = s.o[i*c.dim : (i+1)*c.dim]
		q.group.o = s.rest[2*i*c.dim : (2*i+1)*c.dim]
		q.total.o = s.rest[(2*i+1)*c.dim : (2*i+2)*c.dim]
		copy(s.q[i*c.dim:(i+1)*c.dim], c.q.row(row)[head*c.dim:])
	}
}

// chunk computes the queries' partials of one chunk and folds them.
func (c *attnTileRun) chunk(chunk int) {
	base := chunk * chunkPositions
	first, last := max(c.lo, base), min(c.hi, base+chunkPositions)
	for at := first &^ (kernels.BlockPositions - 1); at < last; at += kernels.BlockPositions {
		keys, _ := c.block(at)
		c.score(keys, at-base)
	}
	for i := range c.s.queries[:c.n] {
		c.soften(i, base)
	}
	c.weighAll(base)
	for i := range c.s.queries[:c.n] {
		q := &c.s.queries[i]
		if chunk%groupChunks == 0 {
			c.closeGroup(q)
		}
		if q.chunk.any {
			c.d.floorAll(q.chunk.o)
			c.d.fold(&q.group, &q.chunk)
		}
	}
}

// block gives the keys and values of the block that holds position at.
func (c *attnTileRun) block(at int) (keys, values []byte) {
	return c.kv.head(c.table[at/kernels.BlockPositions], c.layer, c.kvHead)
}

// weighAll gives every query its chunk's weighted sum. Positions that all
// queries see go through the tile together; those at the ends that only some
// see are taken by each query alone, for values that a query cannot see must
// not be read on its behalf.
func (c *attnTileRun) weighAll(base int) {
	clear(c.s.o[:c.n*c.dim])
	end := base + chunkPositions
	lo, hi := base, end
	for i := range c.s.queries[:c.n] {
		q := &c.s.queries[i]
		lo, hi = max(lo, q.lo), min(hi, q.hi)
	}
	if lo >= hi {
		for i := range c.s.queries[:c.n] {
			q := &c.s.queries[i]
			c.weighRange(i, 1, base, max(base, q.lo), min(end, q.hi))
		}
		return
	}
	for i := range c.s.queries[:c.n] {
		c.weighRange(i, 1, base, max(base, c.s.queries[i].lo), lo)
	}
	c.weighRange(0, c.n, base, lo, hi)
	for i := range c.s.queries[:c.n] {
		c.weighRange(i, 1, base, hi, min(end, c.s.queries[i].hi))
	}
}

// weighRange adds positions lo..hi-1 to the sums of n queries from first on.
func (c *attnTileRun) weighRange(first, n, base, lo, hi int) {
	for lo < hi {
		slot := lo % kernels.BlockPositions
		count := min(kernels.BlockPositions-slot, hi-lo)
		_, values := c.block(lo)
		c.weigh(first, n, values, slot, count, lo-base)
		lo += count
	}
}

// closeGroup folds the group at hand into the total.
func (c *attnTileRun) closeGroup(q *query) {
	if q.group.any {
		c.d.fold(&q.total, &q.group)
		q.group.any = false
	}
}

// finish stores the results and marks faults.
func (c *attnTileRun) finish() {
	for i := range c.s.queries[:c.n] {
		q := &c.s.queries[i]
		c.closeGroup(q)
		out := c.dst.row(q.row)[q.head*c.dim : (q.head+1)*c.dim]
		if q.bad {
			clear(out)
			c.d.markBad(q.row)
			continue
		}
		c.d.divide(out, q.total.o, q.total.s)
	}
}
