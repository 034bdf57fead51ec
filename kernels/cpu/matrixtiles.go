package cpu

import (
	"unsafe"

	"github.com/weft-mesh/weft/kernels/quant"
)

// matrixTiles is what a tier with matrix tiles of 8-bit integers brings. They
// sum products exactly, and so do not show in a result, but want both factors
// in a form of their own: weights as signed integers, which are unpacked for a
// few groups of rows at a time, and activations in panels of 16 tokens, which
// Prepare leaves beside the records.
//
// A block of weights of a group is 512 bytes of integers, 16 rows by 4 columns
// in each 64, then 16 scales of each sub-block as f32, then in types that have
// them the minimums. A block of a panel is 512 bytes of integers, 32 of each
// token, at 16 bits those of the low plane and then those of the high one; then
// 16 each of d, s, and s of the first and last 16 columns.
type matrixTiles struct {
	spread   [2]spreadKernel // by lines - 1
	unpack   map[quant.Type]unpackKernel
	products [2][2][2]productKernel // by lines - 1, halves - 1, and 1 with minimums
}

// spreadKernel copies a token's records to its places in a panel.
type spreadKernel func(rec, q, d *byte, blocks int)

// unpackKernel unpacks a group of 16 rows.
type unpackKernel func(q, s, dst *byte, blocks int)

// productKernel multiplies groups, whose unpacked weights lie in a row, with
// tokens, whose panels are xStride bytes apart.
type productKernel func(w, x *byte, xStride int, y *float32, yStride int, blocks, groups, tokens int, room *byte)

const (
	// panelTokens is the number of tokens of a panel.
	panelTokens  = 16
	panelQuants  = panelTokens * 32
	panelScalars = 4 * 4 * panelTokens

	// matrixLeast is the number of tokens from which on matrix tiles are used.
	// Those that are too few for a panel of their own then, less than
	// panelLeast, are left to the other kernels: both limits were measured.
	matrixLeast = 24
	panelLeast  = 9
	// matrixBytes is about how much unpacked weight passes by a panel, which
	// stays in the first-level cache: it must leave room in the second.
	matrixBytes = 256 << 10

	// matrixRoom is a kernel's room for integer sums, of two blocks with up to two
	// sub-blocks and two planes, and for the totals of a group and a panel. It
	// is aligned to matrixAlign.
	matrixAlign = 2 * 4 * 1024
	matrixRoom  = matrixAlign + 1024
)

// panelBytes is the size of a block of a panel.
func panelBytes(lines int) int { return lines*panelQuants + panelScalars }

// unpackedBytes is the size of an unpacked block of 16 rows.
func (m *matrix) unpackedBytes() int {
	n := panelQuants + 64*m.format.halves
	if hasMin(m.kind) {
		n += 64 * m.format.halves
	}
	return n
}

// matrixGroups is the number of groups that are unpacked at a time.
func (m *matrix) matrixGroups() int {
	return max(1, matrixBytes/(m.cols/32*m.unpackedBytes()))
}

// spread copies the records of tokens first to last-1 into their panels.
func (a *acts) spread(k spreadKernel, first, last int) {
	for i := first; i < last; i++ {
		panel := a.panels[i/panelTokens*a.panelStride:]
		place := i % panelTokens
		k(&a.recs[i*a.stride], &panel[32*place], &panel[a.lines*panelQuants+4*place], a.blocks())
	}
}

// matrixProduct finds the kernels for the products of w and a, nil if the
// device has no matrix tiles or the batch is too narrow for them.
func (t *matmulTask) matrixProduct() (unpackKernel, productKernel) {
	tiles, m := t.d.set.matrix, t.w
	if tiles == nil || m.kind.Float() || t.n < matrixLeast || !t.a.hasPanels {
		return nil, nil
	}
	minimum := 0
	if hasMin(m.kind) {
		minimum = 1
	}
	return tiles.unpack[m.kind], tiles.products[t.a.lines-1][m.format.halves-1][minimum]
}

// matrix computes groups first to last-1 of the tokens that fill panels, and
// gives their number.
func (t *matmulTask) matrix(room *matrixScratch, first, last int) (tokens int) {
	tokens = t.n
	if rest := t.n % panelTokens; rest < panelLeast {
		tokens -= rest
	}
	m, a := t.w, t.a
	blocks, step := a.blocks(), m.matrixGroups()
	size := blocks * m.unpackedBytes()
	for g := first; g < last; g += step {
		groups := min(step, last-g)
		for i := range groups {
			t.unpack(&m.quants[(g+i)*m.qStride], &m.scales[(g+i)*m.sStride], &room.weights[i*size], blocks)
		}
		t.product(&room.weights[0], &a.panels[0], a.panelStride, &t.dst.data[16*g], 4*t.dst.stride, blocks, groups, tokens, &room.sums[0])
	}
	return tokens
}

// matrixScratch is a worker's memory for matrix tiles.
type matrixScratch struct {
	sums    []byte // matrixRoom
	weights []byte // unpacked ones, of what matrix needs most
}

// makeRoom gives each worker the memory that products of m need.
func (d *Device) makeRoom(m *matrix) {
	if d.set.matrix == nil || m.kind.Float() {
		return
	}
	size := min(m.groups, m.matrixGroups()) * (m.cols / 32) * m.unpackedBytes()
	for i := range d.scratch {
		s := &d.scratch[i].matrix
		if s.sums == nil {
			s.sums = aligned(matrixRoom, matrixAlign)
			clear(s.sums) // a load that a mask leaves nothing of is slow where a page has never been written
		}
		if len(s.weights) < size {
			s.weights = aligned(size, 64)
		}
	}
}

// aligned gives size bytes at an address that is a multiple of align, a power
// of two.
func aligned(size, align int) []byte {
	b := make([]byte, size+align)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & uintptr(align-1))
	return b[skip : skip+size : skip+size]
}
