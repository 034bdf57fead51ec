package cpu

import (
	"fmt"
	"sync/atomic"

	"github.com/weft-mesh/weft/kernels"
)

const (
	chunkPositions = 256 // positions whose scores are softened together
	groupChunks    = 16  // chunks that fold into a group
	chunkBlocks    = chunkPositions / kernels.BlockPositions

	// scoreStride is the distance of two queries' scores: a chunk, and a line
	// that keeps them off the same sets of a cache.
	scoreStride = chunkPositions + 16

	// tileQueries is about how many queries (rows times heads that share a KV
	// head) pass over the same keys and values together: enough that what they
	// read costs little beside what they compute, few enough that their scores
	// stay in a second-level cache. tileStep is the widest tile of registers;
	// whole ones leave no narrow rest.
	tileQueries = 48
	tileStep    = 12

	// unitsPerWorker is how many units of work a worker should find, so that
	// they end at about the same time.
	unitsPerWorker = 4
)

// attnKernels are a tier's inner loops over keys and values of one KV type.
// Queries of a tile lie one after another, dim elements each; their scores lie
// scoreStride apart. Blocks are given by their places in mem.
type attnKernels struct {
	// scores stores q.k for n queries and the positions of some blocks.
	scores func(q *float32, mem *byte, places *int, out *float32, blocks, n, dim int)
	// weigh adds p times values to o for a run of positions that begins at slot
	// of the first block, for n queries whose o are dim elements each, a
	// multiple of 16.
	weigh func(p *float32, mem *byte, places *int, o *float32, slot, positions, n, dim int)
}

// attnTile is a run of rows of one sequence, and the positions that any of
// them sees.
type attnTile struct{ first, rows, lo, hi int }

// attnUnit is a KV head of a tile over some chunks. It makes the whole result,
// or its partials from float part of the task's on.
type attnUnit struct {
	tile, head, first, end int
	part                   int // -1: the whole
}

// attnTask computes attention in one pass over units of work, and in a second
// over the heads of tiles whose chunks were shared out among several units.
type attnTask struct {
	d      *Device
	b      *kernels.Batch
	kv     *kvArena
	layer  int
	p      kernels.AttnParams
	dst, q *buffer
	shared int // query heads of a KV head

	tiles []attnTile
	units []attnUnit
	step  int        // chunks of a partial: 1 or groupChunks
	parts []float32  // partials of what is shared out
	folds attnFolder // the second pass
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
	t.d, t.b, t.kv, t.layer, t.p, t.dst, t.q, t.shared = d, b, a, layer, p, to, from, p.Heads/a.layout.Heads
	t.plan()
	t.share()
	work := t.work()
	d.parallel(t, len(t.units), work)
	d.parallel(&t.folds, len(t.folds.units), work)
	t.b = nil
	d.report(b, "attention")
}

// plan cuts the batch into tiles of neighbouring rows of one sequence.
func (t *attnTask) plan() {
	t.tiles = t.tiles[:0]
	most := tileRows(t.shared)
	rows := t.b.Rows
	for i := 0; i < len(rows); {
		tile := attnTile{first: i}
		tile.lo, tile.hi = t.visible(rows[i].Pos)
		for i < len(rows) && tile.rows < most && rows[i].Seq == rows[tile.first].Seq {
			lo, hi := t.visible(rows[i].Pos)
			tile.lo, tile.hi = min(tile.lo, lo), max(tile.hi, hi)
			tile.rows++
			i++
		}
		t.tiles = append(t.tiles, tile)
	}
}

// tileRows is how many rows make a tile whose queries fill tiles of registers.
func tileRows(shared int) int {
	step := 1
	for step*shared%tileStep != 0 {
		step++
	}
	return max(step, tileQueries/shared/step*step)
}

// chunks gives the chunks first..end-1 that a tile sees.
func (t *attnTile) chunks() (first, end int) {
	return t.lo / chunkPositions, (t.hi + chunkPositions - 1) / chunkPositions
}

// share cuts the tiles into units. A tile that alone would keep one worker at
// work for long is cut by chunks or, if it is very long, by groups of them.
func (t *attnTask) share() {
	heads, all := t.kv.layout.Heads, 0
	for i := range t.tiles {
		first, end := t.tiles[i].chunks()
		all += (end - first) * heads
	}
	most := max(1, all/(unitsPerWorker*t.d.pool.workers))
	t.step = 1
	if most >= groupChunks {
		t.step, most = groupChunks, most/groupChunks*groupChunks
	}
	t.units, t.folds.units, t.folds.attnTask = t.units[:0], t.folds.units[:0], t
	floats := 0
	for i := range t.tiles {
		first, end := t.tiles[i].chunks()
		for head := range heads {
			whole := attnUnit{tile: i, head: head, first: first, end: end, part: -1}
			if t.d.pool.workers == 1 || end-first <= most {
				t.units = append(t.units, whole)
				continue
			}
			whole.part = floats
			t.folds.units = append(t.folds.units, whole)
			for at := first; at < end; {
				u := attnUnit{tile: i, head: head, first: at, end: min(end, (at/t.step+most/t.step)*t.step), part: floats}
				floats += t.partsOf(u.first, u.end) * t.partFloats(i)
				t.units = append(t.units, u)
				at = u.end
			}
		}
	}
	if cap(t.parts) < floats {
		t.parts = make([]float32, floats+floats/2)
	}
	t.parts = t.parts[:cap(t.parts)]
}

// partsOf counts the partials of chunks first..end-1.
func (t *attnTask) partsOf(first, end int) int { return (end-1)/t.step - first/t.step + 1 }

// partFloats is the size of one partial of a tile.
func (t *attnTask) partFloats(tile int) int {
	n := t.tiles[tile].rows * t.shared
	return 2*pad16(n) + n*t.kv.layout.HeadDim
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

// unit computes a unit's chunks and what they fold to.
func (t *attnTask) unit(worker, u int) {
	c := t.run(worker, &t.units[u])
	c.load()
	part := t.units[u].part
	for at := t.units[u].first; at < t.units[u].end; {
		end := min(t.units[u].end, (at/t.step+1)*t.step)
		if part < 0 {
			end = min(t.units[u].end, (at/groupChunks+1)*groupChunks)
		}
		c.s.group.reset()
		for ; at < end; at++ {
			c.chunk(at)
		}
		if part < 0 {
			c.fold(&c.s.total, &c.s.group)
			continue
		}
		p := c.partial(part)
		copy(p.m, c.s.group.m)
		copy(p.s, c.s.group.s)
		copy(p.o, c.s.group.o)
		part += t.partFloats(t.units[u].tile)
	}
	c.mark()
	if part < 0 {
		c.finish()
	}
}

// attnFolder folds partials in the order of positions; a unit is a KV head of a
// tile.
type attnFolder struct {
	*attnTask
	units []attnUnit
}

func (t *attnFolder) unit(worker, u int) {
	whole := &t.units[u]
	c := t.run(worker, whole)
	part := whole.part
	for at := whole.first; at < whole.end; at = (at/t.step + 1) * t.step {
		p := c.partial(part)
		part += t.partFloats(whole.tile)
		if t.step == groupChunks {
			c.fold(&c.s.total, &p)
			continue
		}
		if at%groupChunks == 0 {
			c.fold(&c.s.total, &c.s.group)
			c.s.group.reset()
		}
		c.fold(&c.s.group, &p)
	}
	if t.step != groupChunks {
		c.fold(&c.s.total, &c.s.group)
	}
	c.finish()
}

// isBad reports whether a row was marked, by any worker.
func (d *Device) isBad(row int) bool { return atomic.LoadUint32(&d.bad[row]) != 0 }
