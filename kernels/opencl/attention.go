package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// Constants of attention.cl.
const (
	chunkPositions = 256 // also the items of a work-group
	foldItems      = 64
	fewQueries     = 4 // queries of a tile: of one row's heads, or little more
	manyQueries    = 16
)

var (
	attendFew  = kvKernels{kernels.KVF16: "attend_f16_4", kernels.KVF32: "attend_f32_4"}
	attendMany = kvKernels{kernels.KVF16: "attend_f16_16", kernels.KVF32: "attend_f32_16"}
)

// attnShape is all that a plan depends on beside the batch.
type attnShape struct{ heads, kvHeads, dim, window int }

// attnPlan cuts a batch's attention into tiles (neighbouring rows of a sequence, whose
// queries pass over the same keys and values together), units (a tile and a chunk of
// positions), and passes whose partials fit into scratch memory. It is made once for a
// batch, whatever the number of layers.
type attnPlan struct {
	table
	valid   bool
	shape   attnShape
	queries int // of a tile: fewQueries or manyQueries
	rows    int // of a tile at most
	heads   int // KV heads of a pass
	list    []int32
	tiles   []attnTile
	passes  []attnPass
	tiles0  int // where the rows' tiles are in list
}

// attnTile is a run of rows and the chunks first..end-1 that any of them sees.
type attnTile struct{ row, rows, first, end int }

// attnPass is a run of units and the rows that they serve.
type attnPass struct{ unit, units, row, rows int }

// Attention stores each row's attention over its sequence's positions.
func (d *Device) Attention(b *kernels.Batch, dst, q kernels.Buffer, kv kernels.KV, layer int, p kernels.AttnParams) {
	a, to, from := d.asKV(kv), d.asBuffer(dst), d.asBuffer(q)
	n := len(b.Rows)
	if p.Heads < 1 || p.Heads%a.layout.Heads != 0 {
		panic(fmt.Sprintf("opencl: attention of %d heads over %d KV heads", p.Heads, a.layout.Heads))
	}
	needShape("attention", from, n, p.Heads*a.layout.HeadDim)
	needShape("attention", to, n, p.Heads*a.layout.HeadDim)
	a.checkKV(b, layer)
	if n == 0 {
		return
	}
	d.rows.put(d, b)
	t := &d.plan
	t.put(d, b, attnShape{p.Heads, a.layout.Heads, a.layout.HeadDim, p.Window})
	if d.err != nil {
		return
	}
	kernel := attendFew[a.layout.Type]
	if t.queries == manyQueries {
		kernel = attendMany[a.layout.Type]
	}
	table, first, word := d.faultArgs(b, faultAttention)
	shared := p.Heads / a.layout.Heads
	subtiles := (t.rows*shared + t.queries - 1) / t.queries
	for _, pass := range t.passes {
		for head := 0; head < a.layout.Heads; head += t.heads {
			heads := min(t.heads, a.layout.Heads-head)
			d.run(kernel, groupsOf(chunkPositions, pass.units, heads, subtiles),
				driver.Mem(d.scratch), driver.Mem(from.mem), driver.Mem(a.layers[layer]), driver.Mem(d.rows.mem), driver.Mem(t.mem), driver.Int(pass.unit),
				driver.Int(p.Heads), driver.Int(a.layout.Heads), driver.Int(a.layout.HeadDim), driver.Int(t.rows), driver.Int(head), driver.Int(heads*shared),
				driver.Int(p.Window), driver.Float(p.Scale), driver.Float(p.Softcap), table, first, word)
			d.run("attend_fold", groupsOf(foldItems, (a.layout.HeadDim+foldItems-1)/foldItems, heads*shared, pass.rows),
				driver.Mem(to.mem), driver.Mem(d.scratch), driver.Mem(d.rows.mem), driver.Mem(t.mem),
				driver.Int(t.tiles0), driver.Int(pass.row), driver.Int(p.Heads), driver.Int(head*shared), driver.Int(heads*shared),
				driver.Int(a.layout.HeadDim), driver.Int(t.rows), driver.Int(p.Window))
		}
	}
}

// put makes the plan of a batch and uploads it, unless it is there.
func (t *attnPlan) put(d *Device, b *kernels.Batch, s attnShape) {
	if t.valid && t.shape == s {
		return
	}
	t.shape = s
	t.cut(b)
	slots, err := t.room(d)
	if err != nil {
		d.fail("attention", err)
		return
	}
	t.list, t.passes = t.list[:0], t.passes[:0]
	var pass attnPass
	used, count := 0, 0
	for _, tile := range t.tiles {
		chunks := tile.end - tile.first
		if used+chunks > slots {
			t.passes = append(t.passes, pass)
			pass, used = attnPass{unit: count, row: tile.row}, 0
		}
		for c := tile.first; c < tile.end; c++ {
			t.list = append(t.list, int32(tile.row), int32(tile.rows), int32(c), int32(used))
			used++
			count++
		}
		pass.units += chunks
		pass.rows += tile.rows
	}
	t.passes = append(t.passes, pass)
	t.placeRows()
	t.table.put(d, t.list)
	t.valid = d.err == nil
}

// cut makes the tiles.
func (t *attnPlan) cut(b *kernels.Batch) {
	shared := t.shape.heads / t.shape.kvHeads
	longest := 0
	for i := 0; i < len(b.Rows); {
		run := 1
		for i+run < len(b.Rows) && b.Rows[i+run].Seq == b.Rows[i].Seq {
			run++
		}
		longest = max(longest, run)
		i += run
	}
	t.queries = fewQueries
	if longest*shared > 2*fewQueries {
		t.queries = manyQueries
	}
	t.rows = max(1, t.queries/shared)
	t.tiles = t.tiles[:0]
	for i := 0; i < len(b.Rows); {
		tile := attnTile{row: i}
		for i < len(b.Rows) && tile.rows < t.rows && b.Rows[i].Seq == b.Rows[tile.row].Seq {
			first, end := t.visible(int(b.Rows[i].Pos))
			if tile.rows == 0 {
				tile.first, tile.end = first, end
			}
			tile.first, tile.end = min(tile.first, first), max(tile.end, end)
			tile.rows++
			i++
		}
		t.tiles = append(t.tiles, tile)
	}
}

// visible gives the chunks first..end-1 that a query at pos sees.
func (t *attnPlan) visible(pos int) (first, end int) {
	if t.shape.window > 0 {
		first = max(0, pos-t.shape.window+1) / chunkPositions
	}
	return first, pos/chunkPositions + 1
}

// room says how many slots of partials there are. Where not even one tile's chunks have
// room, passes take fewer heads, and scratch memory grows at last.
func (t *attnPlan) room(d *Device) (slots int, err error) {
	most := 0
	for _, tile := range t.tiles {
		most = max(most, tile.end-tile.first)
	}
	head := int64(4 * t.rows * (t.shape.heads / t.shape.kvHeads) * (t.shape.dim + 2)) // bytes of a slot for one KV head
	if need := head * int64(most); need > d.scratch.Bytes() {
		if err := d.growScratch(need); err != nil {
			return 0, err
		}
	}
	t.heads = int(min(int64(t.shape.kvHeads), d.scratch.Bytes()/(head*int64(most))))
	return int(d.scratch.Bytes() / (head * int64(t.heads))), nil
}

// placeRows appends for each row where its tile's partials are.
func (t *attnPlan) placeRows() {
	t.tiles0 = len(t.list)
	at := 0
	for _, tile := range t.tiles {
		slot := t.list[unitInts*at+3] - int32(tile.first)
		for range tile.rows {
			t.list = append(t.list, slot, int32(tile.row))
		}
		at += tile.end - tile.first
	}
}

// unitInts is the length of a unit in the list: UNIT_INTS of attention.cl.
const unitInts = 4
