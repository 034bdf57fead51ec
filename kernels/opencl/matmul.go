package opencl

import (
	"fmt"
	"math/bits"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// The shapes of products (cl/products.cl).
const (
	productItems = 256 // of a work-group
	fewTokens    = 8   // of a work-item, where there are few
	tileRows     = 128 // of a group, where there are many tokens
	tileTokens   = 32
	groupSegs    = 4 // a group of few tokens takes up to 2^4 segments side by side

	// fewLimit is the widest batch that reads the weights once for each fewTokens tokens:
	// they come from the card's cache then, and there are more work-items than in tiles.
	fewLimit = 16

	// Of the kernels that multiply small matrices: those for few tokens take up to 2^3
	// segments and tensorFew tokens, the others tileRows by tensorTokens. For fewer tokens
	// than tensorLeast the others are faster, for more than tensorWide the tiles, if there
	// are enough of them for three quarters of the card's units, or if so few rows that it
	// hardly matters: the conformance suite has small matrices alone and must meet them.
	tensorSegs   = 3
	tensorFew    = 16
	tensorTokens = 64
	tensorLeast  = 5
	tensorWide   = 32
	tensorRows   = 64
)

// MatMul stores w times each row of x.
func (d *Device) MatMul(b *kernels.Batch, dst kernels.Buffer, w kernels.Matrix, x kernels.Acts) {
	m, a, to := d.asMatrix(w), d.asActs(x), d.asBuffer(dst)
	n := len(b.Rows)
	needShape("product", to, n, m.rows)
	if m.cols != a.cols || n > a.n {
		panic(fmt.Sprintf("opencl: product of a matrix of %d columns with %d of %d prepared rows of %d", m.cols, n, a.n, a.cols))
	}
	if n == 0 {
		return
	}
	g, shape, log := productGrid(m.rows, m.cols, n, d.tensorUnits(m))
	quants, halves, bytes := m.views()
	if m.kind.Float() {
		if !a.hasCopy {
			d.copyFloats(a)
		}
		if d.err != nil {
			return
		}
		d.run(m.kernels[shape][0], g, quants, halves, bytes, driver.Mem(a.floats), driver.Mem(to.mem), driver.Int(m.rows),
			driver.Int(m.cols), driver.Uint(uint32(m.groupElements())), driver.Int(a.stride/4), driver.Int(n), driver.Int(log))
		return
	}
	if !a.hasRecords {
		d.quantise(a)
	}
	faults, first, word := d.faultArgs(b, faultQuantise)
	d.run(m.kernels[shape][int(a.bits)/8-1], g, quants, halves, bytes, driver.Mem(a.records), driver.Mem(to.mem), driver.Mem(a.bad[a.turn]),
		driver.Int(m.rows), driver.Int(m.cols/32), driver.Uint(uint32(m.sStride)), driver.Int(n), driver.Int(log),
		faults, first, word)
}

// productGrid chooses a product's kernel and its groups; log says how many segments a group
// of few tokens takes side by side. units is 0 for cards and types that have no products of
// small matrices.
func productGrid(rows, cols, n, units int) (g grid, shape, log int) {
	side := segmentsLog(cols)
	tiles := ceil(rows, tileRows) * ceil(n, tensorTokens)
	switch {
	case n == 1:
		log = min(groupSegs, side)
		return groupsOf(productItems, ceil(rows, productItems>>log), 1, 1), kernelOne, log
	case units > 0 && n > tensorWide && (rows <= tensorRows || 4*tiles >= 3*units):
		return groupsOf(productItems, ceil(rows, tileRows), ceil(n, tensorTokens), 1), kernelTensor, 0
	case units > 0 && n >= tensorLeast:
		log = min(tensorSegs, side)
		return groupsOf(productItems, ceil(rows, 16<<tensorSegs>>log), ceil(n, tensorFew), 1), kernelTensorFew, log
	case n <= fewLimit:
		log = min(groupSegs, side)
		return groupsOf(productItems, ceil(rows, productItems>>log), ceil(n, fewTokens), 1), kernelFew, log
	}
	return groupsOf(productItems, ceil(rows, tileRows), ceil(n, tileTokens), 1), kernelTile, 0
}

// segmentsLog is the logarithm of the number of segments, rounded up.
func segmentsLog(cols int) int { return bits.Len(uint(segments(cols) - 1)) }

// tensorUnits is the number of units that have products of small matrices for m.
func (d *Device) tensorUnits(m *matrix) int {
	if !d.tensor || m.kind.Float() {
		return 0
	}
	return max(1, d.units)
}

func ceil(n, by int) int { return (n + by - 1) / by }
