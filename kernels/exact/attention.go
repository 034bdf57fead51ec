package exact

import (
	"fmt"
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// memory keeps keys and values in float32, block by block; a block's slice is
// made when it is first written.
type memory struct {
	layout kernels.KVLayout
	blocks [][]float32
}

// Layout is what the memory was made with.
func (m *memory) Layout() kernels.KVLayout { return m.layout }

// Blocks is the number of blocks.
func (m *memory) Blocks() int { return len(m.blocks) }

// Close forgets the memory.
func (m *memory) Close() error { m.blocks = nil; return nil }

// NewKV makes KV memory of float32, whatever the layout's type.
func (d *Device) NewKV(l kernels.KVLayout, blocks int) (kernels.KV, error) {
	if blocks <= 0 || l.Layers <= 0 || l.Heads <= 0 || l.HeadDim <= 0 {
		return nil, fmt.Errorf("make kv memory of %d blocks, %d layers, %d heads of %d: want positive sizes", blocks, l.Layers, l.Heads, l.HeadDim)
	}
	return &memory{l, make([][]float32, blocks)}, nil
}

// head gives the keys (which 0) or values (1) of one head of one block:
// BlockPositions rows of HeadDim. A block never written reads as zeros.
func (m *memory) head(block int32, layer, which, head int) []float32 {
	l := m.layout
	size := kernels.BlockPositions * l.HeadDim
	if m.blocks[block] == nil {
		m.blocks[block] = make([]float32, 2*l.Layers*l.Heads*size)
	}
	at := ((layer*2+which)*l.Heads + head) * size
	return m.blocks[block][at : at+size]
}

// StoreKV puts keys and values at the rows' positions.
func (d *Device) StoreKV(b *kernels.Batch, kv kernels.KV, layer int, k, v kernels.Buffer) {
	m := as[*memory](kv)
	dim := m.layout.HeadDim
	kb, vb := table(k, len(b.Rows), m.layout.Heads*dim, "store"), table(v, len(b.Rows), m.layout.Heads*dim, "store")
	need(layer >= 0 && layer < m.layout.Layers, "store")
	for i, row := range b.Rows {
		block, at := b.Seqs[row.Seq][row.Pos/kernels.BlockPositions], int(row.Pos%kernels.BlockPositions)*dim
		for h := range m.layout.Heads {
			copy(m.head(block, layer, 0, h)[at:at+dim], kb.row(i)[h*dim:])
			copy(m.head(block, layer, 1, h)[at:at+dim], vb.row(i)[h*dim:])
		}
		if max(arith.MaxAbsBits(kb.row(i)), arith.MaxAbsBits(vb.row(i))) >= 0x7f800000 {
			note(b, i, "kv")
		}
	}
}

// Attention stores each row's attention over its sequence's positions.
func (d *Device) Attention(b *kernels.Batch, dst, q kernels.Buffer, kv kernels.KV, layer int, p kernels.AttnParams) {
	m := as[*memory](kv)
	dim := m.layout.HeadDim
	out, in := table(dst, len(b.Rows), p.Heads*dim, "attention"), table(q, len(b.Rows), p.Heads*dim, "attention")
	need(p.Heads%m.layout.Heads == 0 && layer >= 0 && layer < m.layout.Layers, "attention")
	for _, row := range b.Rows { // so that blocks are not made by several goroutines
		for _, block := range b.Seqs[row.Seq][:row.Pos/kernels.BlockPositions+1] {
			m.head(block, layer, 0, 0)
		}
	}
	bad := make([]bool, len(b.Rows)*p.Heads)
	d.parallel(len(bad), func(from, to int) {
		for i := from; i < to; i++ {
			row, h := b.Rows[i/p.Heads], i%p.Heads
			a := attention{m: m, table: b.Seqs[row.Seq], layer: layer, head: h / (p.Heads / m.layout.Heads), last: int(row.Pos)}
			if p.Window > 0 {
				a.first = max(0, a.last-p.Window+1)
			}
			at := i / p.Heads * out.cols
			bad[i] = !a.attend(out.data[at+h*dim:at+(h+1)*dim], in.data[at+h*dim:at+(h+1)*dim], p)
		}
	})
	for i, is := range bad {
		if is {
			note(b, i/p.Heads, "attention")
		}
	}
}

// attention is one head of one row.
type attention struct {
	m           *memory
	table       []int32
	layer, head int
	first, last int // visible positions
}

// element gives the key or value of a position.
func (a *attention) element(which, pos int) []float32 {
	dim := a.m.layout.HeadDim
	at := pos % kernels.BlockPositions * dim
	return a.m.head(a.table[pos/kernels.BlockPositions], a.layer, which, a.head)[at : at+dim]
}

// attend reports whether all scores are finite.
func (a *attention) attend(dst, q []float32, p kernels.AttnParams) bool {
	scores := make([]float64, a.last-a.first+1)
	top := math.Inf(-1)
	for i := range scores {
		var s float64
		for k, key := range a.element(0, a.first+i) {
			s += float64(float64(q[k]) * float64(key))
		}
		s *= float64(p.Scale)
		if !(math.Abs(s) <= math.MaxFloat32) {
			return false
		}
		if p.Softcap != 0 {
			s = float64(p.Softcap) * math.Tanh(s/float64(p.Softcap))
		}
		scores[i] = s
		top = max(top, s)
	}
	var sum float64
	acc := make([]float64, len(dst))
	for i, s := range scores {
		e := math.Exp(s - top)
		sum += e
		for k, v := range a.element(1, a.first+i) {
			acc[k] += float64(e * float64(v))
		}
	}
	for k, v := range acc {
		dst[k] = store(v / sum)
	}
	return true
}
