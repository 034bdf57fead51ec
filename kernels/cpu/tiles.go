package cpu

import (
	"unsafe"

	"github.com/weft-mesh/weft/kernels/quant"
)

// matmulKernel multiplies one, two or four groups of 16 rows with a number of
// tokens. x is the first token's record (or floats), y its output; strides are
// bytes. blocks counts blocks of 32 columns (float types: columns).
type matmulKernel func(q, s *byte, qStride, sStride int, x *byte, xStride int, y *float32, yStride int, blocks int)

// tile is a kernel and the shape it covers.
type tile struct {
	groups, tokens int
	least          int // tokens of a batch from which on it is used
	bytes          int // of a group's quants from which on it is used
	run            matmulKernel
}

// fits reports whether the kernel is for products like t.
func (k *tile) fits(t *matmulTask) bool { return k.least <= t.n && k.bytes <= t.w.qStride }

// tiles lists the kernels of a weight type, in the order in which they are
// tried: the largest first. The last has one group and one token, so that any
// shape can be covered.
type tiles []tile

// matmulTable holds a tier's tiles by weight type and activation lines - 1.
type matmulTable [2]map[quant.Type]tiles

// tilesFor finds the kernels for m with a's activations; nil is portable.
func (d *Device) tilesFor(m *matrix, a *acts) tiles {
	lines := a.lines
	if m.kind.Float() {
		lines = 1
	}
	return d.set.matmul[lines-1][m.kind]
}

// tiled covers groups first to last-1 of the tokens from token on with tiles. Tokens are the
// outer loop: a tile's activations stay in the first-level cache while the
// unit's weights, read from the second, pass over them.
func (t *matmulTask) tiled(token, first, last int) {
	for token < t.n {
		width := t.width(t.n-token, last-first)
		for g := first; g < last; {
			k := t.pick(width, last-g)
			t.call(k, g, token)
			g += k.groups
		}
		token += width
	}
}

// width chooses how many tokens the next column of tiles has.
func (t *matmulTask) width(tokens, groups int) int {
	for i := range t.table {
		if k := &t.table[i]; k.tokens <= tokens && k.groups <= groups && k.fits(t) {
			return k.tokens
		}
	}
	return 1
}

// pick chooses the tile of that width that covers most of the groups left.
func (t *matmulTask) pick(width, groups int) *tile {
	for i := range t.table {
		if k := &t.table[i]; k.tokens == width && k.groups <= groups && k.fits(t) {
			return k
		}
	}
	panic("cpu: no kernel of one group for this number of tokens")
}

func (t *matmulTask) call(k *tile, g, token int) {
	m, a := t.w, t.a
	x, xStride := unsafe.Pointer(nil), 0
	blocks := a.blocks()
	if m.kind.Float() {
		source := a.source
		if a.hasCopy {
			source = &a.copy
		}
		x, xStride = unsafe.Pointer(&source.data[token*source.stride]), 4*source.stride
		blocks = m.cols
	} else {
		x, xStride = unsafe.Pointer(&a.recs[token*a.stride]), a.stride
	}
	var s *byte
	if len(m.scales) > 0 {
		s = &m.scales[g*m.sStride]
	}
	y := &t.dst.data[token*t.dst.stride+16*g]
	k.run(&m.quants[g*m.qStride], s, m.qStride, m.sStride, (*byte)(x), xStride, y, 4*t.dst.stride, blocks)
}
