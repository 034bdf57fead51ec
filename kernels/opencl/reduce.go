package opencl

import (
	"math"
	"unsafe"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// The shapes of reductions (cl/reduce.cl).
const (
	topItems  = 256  // of a work-group
	topTile   = 2048 // elements that a group sorts
	bestTile  = 8192 // elements of which a group takes the highest
	keyBytes  = 8    // of an element, and of a sum
	pickBytes = 4
)

// reduction is what Reduce keeps on the card and beside it.
type reduction struct {
	powers driver.Memory // arith.WeightPowers
	asked  table         // places, then weighings
	list   []int32
	out    driver.Memory // keys, sums, values
	host   []uint64
}

// HostMemory is false: even where a card's memory is the host's, Read copies rows.
func (d *Device) HostMemory() bool { return false }

// Reduce waits, then answers what r asks about rows of x: its answers alone are read back.
func (d *Device) Reduce(x kernels.Buffer, r *kernels.Reduction) error {
	from := d.asBuffer(x)
	r.Fit(from.rows, from.cols)
	keys, sums, values := len(r.Top), len(r.Sums), len(r.Values)
	bytes := keyBytes*(keys+sums) + pickBytes*values
	if bytes == 0 {
		d.collect()
		return d.err
	}
	d.prepareReduction(r, from, bytes)
	if d.err != nil {
		return d.err
	}
	t := &d.reduction
	if keys > 0 {
		d.top(from, r)
	}
	blocks := kernels.Blocks(from.cols)
	if sums > 0 {
		d.run("weigh", groupsOf(topItems, blocks, len(r.Weigh), 1), driver.Mem(from.mem), driver.Mem(t.asked.mem), driver.Int(values),
			driver.Mem(t.powers), driver.Int(from.cols), driver.Mem(t.out), driver.Int(keys), driver.Int(blocks))
	}
	if values > 0 {
		d.run("pick", each(values), driver.Mem(from.mem), driver.Mem(t.asked.mem), driver.Mem(t.out), driver.Int(2*(keys+sums)), driver.Int(values))
	}
	if d.err == nil {
		d.download("read", t.bytes(bytes), t.out, 0)
	}
	if d.err != nil {
		return d.err
	}
	t.answer(r, from.cols)
	return nil
}

// prepareReduction makes room and uploads what is asked.
func (d *Device) prepareReduction(r *kernels.Reduction, from *buffer, bytes int) {
	t := &d.reduction
	if t.powers == nil && len(r.Weigh) > 0 {
		d.fail("reduce", d.makePowers())
	}
	t.list = t.list[:0]
	for _, p := range r.At {
		t.list = append(t.list, p.Row*int32(from.cols)+p.Col)
	}
	for _, w := range r.Weigh {
		t.list = append(t.list, w.Row, int32(math.Float32bits(w.Best)), int32(math.Float32bits(w.Temperature)))
	}
	t.asked.put(d, t.list)
	d.reserve("reduce", &t.out, int64(bytes))
}

func (d *Device) makePowers() error {
	var bits [len(arith.WeightPowers)]uint64
	for i, p := range arith.WeightPowers {
		bits[i] = math.Float64bits(p)
	}
	m, err := d.dev.Alloc(keyBytes * int64(len(bits)))
	if err != nil {
		return err
	}
	d.reduction.powers = m
	return d.dev.Write(m, 0, unsafe.Slice((*byte)(unsafe.Pointer(&bits[0])), keyBytes*len(bits)))
}

// bytes are n bytes of the host's copy.
func (t *reduction) bytes(n int) []byte {
	if words := (n + keyBytes - 1) / keyBytes; len(t.host) < words {
		t.host = make([]uint64, words+words/2)
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&t.host[0])), n)
}

// answer takes the host's copy apart. The card's word for a column is not relied on.
func (t *reduction) answer(r *kernels.Reduction, cols int) {
	for i, key := range t.host[:len(r.Top)] {
		bits := uint32(key >> 32)
		if bits>>31 != 0 {
			bits &^= 1 << 31
		} else {
			bits = ^bits
		}
		col := min(^uint32(key), uint32(cols-1))
		r.Top[i] = kernels.Element{Col: int32(col), Value: math.Float32frombits(bits)}
	}
	rest := t.host[len(r.Top):]
	copy(r.Sums, rest)
	for i := range r.Values {
		word := rest[len(r.Sums)+i/2]
		r.Values[i] = math.Float32frombits(uint32(word >> (32 * (i % 2))))
	}
}

// top puts the highest elements of each row, as keys, at the beginning of the answers.
func (d *Device) top(from *buffer, r *kernels.Reduction) {
	tile, first, next := topTile, "top_rows", "top_keys"
	if r.Width == 1 {
		tile, first, next = bestTile, "best_rows", "best_keys"
	}
	tiles := ceil(from.cols, tile)
	row := int64(2*keyBytes) * int64(tiles) * int64(r.Width) // two levels of a row lie side by side
	if tiles > 1 && row > d.scratch.Bytes() {
		if err := d.growScratch(row); err != nil {
			d.fail("reduce", err)
			return
		}
	}
	step := r.Rows
	if tiles > 1 {
		step = int(min(int64(step), d.scratch.Bytes()/row))
	}
	for at := 0; at < r.Rows; at += step {
		d.topPass(from, r.Width, at, min(step, r.Rows-at), tile, first, next)
	}
}

// topPass reduces rows at..at+n-1, level by level, each in the other half of the scratch
// memory, until a row's keys are of one tile.
func (d *Device) topPass(from *buffer, width, at, n, tile int, first, next string) {
	tiles := ceil(from.cols, tile)
	half := n * tiles * width
	side := 0
	out, to := d.level(tiles, at*width, 0)
	d.run(first, groupsOf(topItems, tiles, n, 1), driver.Mem(from.mem), driver.Int(at), driver.Int(from.cols),
		driver.Mem(out), driver.Int(to), driver.Int(width), driver.Int(tiles))
	for tiles > 1 {
		in, keys := to, tiles*width
		tiles, side = ceil(keys, tile), 1-side
		out, to = d.level(tiles, at*width, side*half)
		d.run(next, groupsOf(topItems, tiles, n, 1), driver.Mem(d.scratch), driver.Int(in), driver.Int(keys),
			driver.Mem(out), driver.Int(to), driver.Int(width), driver.Int(tiles))
	}
}

// level is where keys of so many tiles a row go: the last ones are the answer.
func (d *Device) level(tiles, answer, scratch int) (driver.Memory, int) {
	if tiles == 1 {
		return d.reduction.out, answer
	}
	return d.scratch, scratch
}
