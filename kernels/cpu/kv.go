package cpu

import (
	"fmt"
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// kvArena is the KV memory: blocks of BlockPositions positions. A block holds
// for each layer and head its keys, dimension-major (16 positions side by
// side, so that a vector's lane is a position), then its values,
// position-major (a lane is a dimension).
type kvArena struct {
	d       *Device
	layout  kernels.KVLayout
	blocks  int
	mem     []byte
	element int // bytes of a number
	plane   int // bytes of the keys (or values) of one head in a block
}

// Layout gives the shape of a block.
func (a *kvArena) Layout() kernels.KVLayout { return a.layout }

// Blocks gives the number of blocks.
func (a *kvArena) Blocks() int { return a.blocks }

// Close gives the memory back.
func (a *kvArena) Close() error {
	if a.d == nil {
		return nil
	}
	delete(a.d.live, a)
	return a.free()
}

func (a *kvArena) free() error {
	mem := a.mem
	a.d, a.mem = nil, nil
	return release(mem)
}

// maxKVBytes bounds an arena.
const maxKVBytes = 1 << 46

// NewKV reserves KV memory.
func (d *Device) NewKV(l kernels.KVLayout, blocks int) (kernels.KV, error) {
	const limit = 1 << 16
	if l.Type > kernels.KVF32 || l.Layers < 1 || l.Heads < 1 || l.HeadDim < 1 || l.Layers > limit || l.Heads > limit || l.HeadDim > 1<<12 {
		return nil, fmt.Errorf("make KV memory: layout %+v: want a known type, 1 to %d layers and heads, and 1 to %d elements a head", l, limit, 1<<12)
	}
	if blocks < 1 || int64(blocks) > maxKVBytes/l.BlockBytes() {
		return nil, fmt.Errorf("make KV memory of %d blocks of %d bytes: want at least one and %d bytes in all", blocks, l.BlockBytes(), int64(maxKVBytes))
	}
	a := &kvArena{d: d, layout: l, blocks: blocks, element: 2}
	if l.Type == kernels.KVF32 {
		a.element = 4
	}
	a.plane = a.element * kernels.BlockPositions * l.HeadDim
	mem, err := reserve(int(l.BlockBytes()) * blocks)
	if err != nil {
		return nil, fmt.Errorf("make KV memory of %d blocks: %w", blocks, err)
	}
	preferLargePages(mem)
	a.mem = mem
	d.live[a] = struct{}{}
	return a, nil
}

// place is where the keys of one head in a block begin; its values follow them.
func (a *kvArena) place(block int32, layer, head int) int {
	return ((int(block)*a.layout.Layers+layer)*a.layout.Heads + head) * 2 * a.plane
}

// head gives the keys and values of one head in a block.
func (a *kvArena) head(block int32, layer, head int) (keys, values []byte) {
	at := a.place(block, layer, head)
	return a.mem[at : at+a.plane : at+a.plane], a.mem[at+a.plane : at+2*a.plane : at+2*a.plane]
}

func (d *Device) asKV(h kernels.KV) *kvArena {
	a, ok := h.(*kvArena)
	if !ok || a.d != d {
		panic(fmt.Sprintf("cpu: foreign or closed KV memory %T", h))
	}
	return a
}

// checkKV panics unless each row's position lies in a block of its sequence.
func (a *kvArena) checkKV(b *kernels.Batch, layer int) {
	if err := b.CheckKV(a.layout, a.blocks, layer); err != nil {
		panic("cpu: " + err.Error())
	}
}

// storeTask puts keys and values in place; a unit is a row.
type storeTask struct {
	d     *Device
	b     *kernels.Batch
	kv    *kvArena
	layer int
	k, v  *buffer
}

// StoreKV rounds keys and values to the KV type and puts them at the rows'
// positions. A value that rounding makes infinite is a fault.
func (d *Device) StoreKV(b *kernels.Batch, kv kernels.KV, layer int, k, v kernels.Buffer) {
	a, keys, values := d.asKV(kv), asBuffer(k), asBuffer(v)
	width := a.layout.Heads * a.layout.HeadDim
	needShape("storing keys", keys, len(b.Rows), width)
	needShape("storing values", values, len(b.Rows), width)
	a.checkKV(b, layer)
	d.clearBad(len(b.Rows))
	d.storeTask = storeTask{d: d, b: b, kv: a, layer: layer, k: keys, v: values}
	d.parallel(&d.storeTask, len(b.Rows), 4*len(b.Rows)*width)
	d.storeTask.b = nil
	d.report(b, "kv")
}

func (t *storeTask) unit(worker, i int) {
	r := t.b.Rows[i]
	block := t.b.Seqs[r.Seq][r.Pos/kernels.BlockPositions]
	slot := int(r.Pos % kernels.BlockPositions)
	dim := t.kv.layout.HeadDim
	ok := true
	for h := range t.kv.layout.Heads {
		k, v := t.k.row(i)[h*dim:(h+1)*dim], t.v.row(i)[h*dim:(h+1)*dim]
		keys, values := t.kv.head(block, t.layer, h)
		if t.kv.layout.Type == kernels.KVF32 {
			ok = storeF32(floats(keys)[slot:], floats(values)[slot*dim:], k, v) && ok
		} else {
			ok = t.d.storeF16(&t.d.scratch[worker].halves, halves(keys)[slot:], halves(values)[slot*dim:], k, v) && ok
		}
	}
	if !ok {
		t.d.markBad(i)
	}
}

func storeF32(keys, values, k, v []float32) bool {
	bad := false
	for j := range k {
		keys[j*kernels.BlockPositions], values[j] = arith.Floor(k[j]), arith.Floor(v[j])
		bad = bad || math.Float32bits(k[j])&0x7fffffff >= 0x7f800000 || math.Float32bits(v[j])&0x7fffffff >= 0x7f800000
	}
	return !bad
}

func (d *Device) storeF16(some *[64]uint16, keys, values []uint16, k, v []float32) bool {
	toHalf := d.set.toHalf
	if toHalf == nil || len(v)%16 != 0 {
		return storeF16Portable(keys, values, k, v)
	}
	bad := toHalf(&values[0], &v[0], len(v))
	for at := 0; at < len(k); at += len(some) {
		n := min(len(some), len(k)-at)
		bad |= toHalf(&some[0], &k[at], n)
		for j, h := range some[:n] {
			keys[(at+j)*kernels.BlockPositions] = h
		}
	}
	return bad == 0
}

func storeF16Portable(keys, values []uint16, k, v []float32) bool {
	bad := false
	for j := range k {
		a, b := arith.F32ToF16(k[j]), arith.F32ToF16(v[j])
		keys[j*kernels.BlockPositions], values[j] = a, b
		bad = bad || a&0x7c00 == 0x7c00 || b&0x7c00 == 0x7c00
	}
	return !bad
}
