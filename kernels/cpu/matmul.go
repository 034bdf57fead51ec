package cpu

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/quant"
)

// segment is the number of columns that are summed in one chain.
const segment = 256

// matmulTask multiplies a matrix with the rows of acts. A unit is a run of
// row groups, so that every output is computed by one worker in one order.
type matmulTask struct {
	d     *Device
	w     *matrix
	a     *acts
	dst   *buffer
	n     int // tokens
	split split
	table tiles
	// unpack and product are of matrix tiles, nil where these are not used.
	unpack  unpackKernel
	product productKernel
}

// unitBytes is about how much of a matrix a unit covers: it stays in the
// second-level cache while the tiles of tokens pass over it.
const unitBytes = 192 << 10

// MatMul stores w times each row of x.
func (d *Device) MatMul(b *kernels.Batch, dst kernels.Buffer, w kernels.Matrix, x kernels.Acts) {
	m, a, to := asMatrix(w), asActs(x), asBuffer(dst)
	n := len(b.Rows)
	needShape("product", to, n, m.rows)
	if m.cols != a.cols || n > a.n {
		panic(fmt.Sprintf("cpu: product of a matrix of %d columns with %d of %d prepared rows of %d", m.cols, n, a.n, a.cols))
	}
	d.products.clear(d, to, a)
	d.serveActs(b, m, a)
	d.products.add().set(d, m, a, to, n, d.pool.workers)
	if d.pool.workers == 1 {
		d.flush()
	}
}

// set makes t the product of m with the first n rows of a, cut into units for so
// many workers.
func (t *matmulTask) set(d *Device, m *matrix, a *acts, to *buffer, n, workers int) {
	*t = matmulTask{d: d, w: m, a: a, dst: to, n: n, table: d.tilesFor(m, a)}
	t.unpack, t.product = t.matrixProduct()
	most := max(1, unitBytes/(m.qStride+m.sStride))
	if n == 1 { // reads each weight once, from wherever it is
		most = max(most, kernelGroups)
	}
	t.split = splitGroups(m.groups, most, workers)
}

// serveActs makes sure that acts have the form that m reads, and reports their
// quantisation faults the first time that it is the quantised one.
func (d *Device) serveActs(b *kernels.Batch, m *matrix, a *acts) {
	if m.kind.Float() {
		return
	}
	if !a.hasRecs {
		d.quantise(a)
	}
	if a.anyBad && !a.quantErr {
		d.bad = append(d.bad[:0], a.bad[:a.n]...)
		d.report(b, "quantise")
		a.quantErr = true
	}
}

// floatRow gives the f32 input of row i.
func (a *acts) floatRow(i int) []float32 {
	if a.hasCopy {
		return a.copy.wide(i)
	}
	return a.source.wide(i)
}

func (t *matmulTask) unit(worker, u int) {
	first, last := t.split.unit(u)
	switch {
	case t.unpack != nil:
		t.tiled(t.matrix(&t.d.scratch[worker].matrix, first, last), first, last)
	case t.table != nil:
		t.tiled(0, first, last)
	case t.w.kind.Float():
		for g := first; g < last; g++ {
			t.portableFloat(g)
		}
	default:
		for g := first; g < last; g++ {
			t.portable(&t.d.scratch[worker].panel, g)
		}
	}
}

// portableTokens is how many tokens share one unpacking of a block.
const portableTokens = 8

// portable computes one group in plain Go.
func (t *matmulTask) portable(p *panel, g int) {
	for first := 0; first < t.n; first += portableTokens {
		t.portableTile(p, g, first, min(t.n, first+portableTokens))
	}
}

func (t *matmulTask) portableTile(p *panel, g, first, last int) {
	var acc, total [portableTokens][16]float32
	lineBytes := t.a.lines * recordBytes
	for b := range t.a.blocks() {
		if b%(segment/32) == 0 && b > 0 {
			foldSegment(&acc, &total)
		}
		t.w.unpack(p, g, b, 0, 16)
		for i := first; i < last; i++ {
			rec := t.a.token(i)[b*lineBytes : (b+1)*lineBytes]
			t.portableBlock(p, rec, &acc[i-first])
		}
	}
	foldSegment(&acc, &total)
	for i := first; i < last; i++ {
		t.store(g, i, &total[i-first])
	}
}

// foldSegment adds the chains to the totals and starts new ones.
func foldSegment(acc, total *[portableTokens][16]float32) {
	for i := range acc {
		for r := range acc[i] {
			total[i][r] = float32(total[i][r] + acc[i][r])
			acc[i][r] = 0
		}
	}
}

// store writes a group's outputs for a token through the floor.
func (t *matmulTask) store(g, token int, sums *[16]float32) {
	out := t.dst.wide(token)[16*g : 16*g+16]
	for r, v := range sums {
		out[r] = arith.Floor(v)
	}
}

// portableBlock adds a block's terms to the chains of 16 rows.
func (t *matmulTask) portableBlock(p *panel, rec []byte, acc *[16]float32) {
	d, low := recFloat(rec, recD), int8s(rec)
	halves := t.w.format.halves
	width := 32 / halves
	minimum := hasMin(t.w.kind)
	for h := range halves {
		s := recFloat(rec, recS)
		if halves == 2 {
			s = recFloat(rec, recSHalf+4*h)
		}
		for r := range 16 {
			w := p.w[r][h*width : h*width+width]
			sum := dot(w, low[h*width:])
			if t.a.lines == 2 {
				sum += 128 * dot(w, int8s(rec[recordBytes:])[h*width:])
			}
			v := arith.FMA(float32(p.scale[h][r]*d), float32(sum), acc[r])
			if minimum {
				v = arith.FMA(p.min[h][r], s, v)
			}
			acc[r] = v
		}
	}
}

func dot(w, q []int8) (sum int32) {
	q = q[:len(w)]
	for i, v := range w {
		sum += int32(v) * int32(q[i])
	}
	return sum
}

// portableFloat computes one group of float weights in plain Go.
func (t *matmulTask) portableFloat(g int) {
	for token := range t.n {
		x := t.a.floatRow(token)[:t.w.cols]
		var acc, total [16]float32
		var w [16]float32
		for k, v := range x {
			if k%segment == 0 && k > 0 {
				for r := range acc {
					total[r] = float32(total[r] + acc[r])
					acc[r] = 0
				}
			}
			t.w.column(&w, g, k)
			for r := range acc {
				acc[r] = arith.FMA(w[r], v, acc[r])
			}
		}
		for r := range acc {
			total[r] = float32(total[r] + acc[r])
		}
		t.store(g, token, &total)
	}
}

// column reads column k of a group of float weights through the floor.
func (m *matrix) column(w *[16]float32, g, k int) {
	q := m.quants[g*m.qStride+k*m.format.quants:][:m.format.quants]
	le := binary.LittleEndian
	for r := range w {
		switch m.kind {
		case quant.F32:
			w[r] = arith.Floor(math.Float32frombits(le.Uint32(q[4*r:])))
		case quant.F16:
			w[r] = arith.F16ToF32(le.Uint16(q[2*r:]))
		default:
			w[r] = arith.Floor(arith.BF16ToF32(le.Uint16(q[2*r:])))
		}
	}
}
