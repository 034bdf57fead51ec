package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// kvArena is the KV memory: one piece for each layer, since devices bound the size of a
// piece. kv.cl says how keys and values lie in a block.
type kvArena struct {
	d      *Device
	layout kernels.KVLayout
	blocks int
	layers []driver.Memory
}

// Layout gives the shape of a block.
func (a *kvArena) Layout() kernels.KVLayout { return a.layout }

// Blocks gives the number of blocks.
func (a *kvArena) Blocks() int { return a.blocks }

func (a *kvArena) memories() []driver.Memory { return a.layers }

// Close gives the memory back.
func (a *kvArena) Close() error {
	if a.d != nil {
		a.d.release(a)
		a.d = nil
	}
	return nil
}

// Bounds of a layout: the host's arithmetic and the kernels' stay far from overflow.
const (
	maxKVCount = 1 << 16
	maxHeadDim = 1 << 12
	maxKVBytes = 1 << 46
)

// NewKV makes KV memory. The card gives all of it at once.
func (d *Device) NewKV(l kernels.KVLayout, blocks int) (kernels.KV, error) {
	if l.Type > kernels.KVF32 || l.Layers < 1 || l.Heads < 1 || l.HeadDim < 1 || l.Layers > maxKVCount || l.Heads > maxKVCount || l.HeadDim > maxHeadDim {
		return nil, fmt.Errorf("make KV memory: layout %+v: want a known type, 1 to %d layers and heads, and 1 to %d elements a head", l, maxKVCount, maxHeadDim)
	}
	if blocks < 1 || int64(blocks) > maxKVBytes/l.BlockBytes() || blocks > 1<<30 {
		return nil, fmt.Errorf("make KV memory of %d blocks of %d bytes: want at least one and %d bytes in all", blocks, l.BlockBytes(), int64(maxKVBytes))
	}
	a := &kvArena{d: d, layout: l, blocks: blocks}
	bytes := layerBlockBytes(l) * int64(blocks)
	for range l.Layers {
		m, err := d.alloc(bytes)
		if err != nil {
			for _, m := range a.layers {
				d.dev.Free(m)
			}
			return nil, fmt.Errorf("make KV memory of %d blocks: %w", blocks, err)
		}
		a.layers = append(a.layers, m)
	}
	d.live[a] = struct{}{}
	return a, nil
}

// layerBlockBytes is the size of a block in one layer: keys are padded to eight dimensions.
func layerBlockBytes(l kernels.KVLayout) int64 {
	padded := l
	padded.Layers, padded.HeadDim = 1, (l.HeadDim+7)&^7+l.HeadDim
	return padded.BlockBytes() / 2
}

func (d *Device) asKV(h kernels.KV) *kvArena {
	a, ok := h.(*kvArena)
	if !ok || a.d != d {
		panic(fmt.Sprintf("opencl: foreign or closed KV memory %T", h))
	}
	return a
}

// checkKV panics unless each row's position lies in a block of its sequence.
func (a *kvArena) checkKV(b *kernels.Batch, layer int) {
	if err := b.CheckKV(a.layout, a.blocks, layer); err != nil {
		panic("opencl: " + err.Error())
	}
}

// kvKernels are a kernel's names by KV type.
type kvKernels [2]string

var storeKernels = kvKernels{kernels.KVF16: "store_f16", kernels.KVF32: "store_f32"}

// StoreKV rounds keys and values to the KV type and puts them at the rows' positions.
func (d *Device) StoreKV(b *kernels.Batch, kv kernels.KV, layer int, k, v kernels.Buffer) {
	a, keys, values := d.asKV(kv), d.asBuffer(k), d.asBuffer(v)
	width := a.layout.Heads * a.layout.HeadDim
	needShape("storing keys", keys, len(b.Rows), width)
	needShape("storing values", values, len(b.Rows), width)
	a.checkKV(b, layer)
	if len(b.Rows) == 0 {
		return
	}
	n := len(b.Rows) * width
	d.rows.put(d, b)
	table, first, word := d.faultArgs(b, faultKV)
	d.run(storeKernels[a.layout.Type], each(n), driver.Mem(a.layers[layer]), driver.Mem(keys.mem), driver.Mem(values.mem), driver.Mem(d.rows.mem),
		driver.Int(a.layout.Heads), driver.Int(a.layout.HeadDim), driver.Int(n), table, first, word)
}
