package cpu

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// rotateTask applies rotary embedding; a unit is a row.
type rotateTask struct {
	d       *Device
	x       *buffer
	rows    []kernels.Row
	headDim int
	table   *rope
	mode    kernels.RopeMode
}

// Rotate applies rotary embedding to each head of a row. For a pair (a, b):
// a' = F(RN(RN(a*cos) - RN(b*sin))), b' = F(RN(RN(a*sin) + RN(b*cos))).
func (d *Device) Rotate(b *kernels.Batch, x kernels.Buffer, headDim int, t kernels.Rope, mode kernels.RopeMode) {
	to := asBuffer(x)
	table, ok := t.(*rope)
	if !ok {
		panic(fmt.Sprintf("cpu: foreign rope %T", t))
	}
	needRows("rotation", to, len(b.Rows))
	if headDim < table.dims || to.cols%headDim != 0 {
		panic(fmt.Sprintf("cpu: rotation of %d of heads of %d in rows of %d", table.dims, headDim, to.cols))
	}
	for _, r := range b.Rows {
		if r.Pos < 0 || int(r.Pos) >= table.positions {
			panic(fmt.Sprintf("cpu: rotation at position %d of a table of %d", r.Pos, table.positions))
		}
	}
	d.rotateTask = rotateTask{d: d, x: to, rows: b.Rows, headDim: headDim, table: table, mode: mode}
	d.parallel(&d.rotateTask, len(b.Rows), 2*len(b.Rows)*to.cols)
	d.rotateTask.rows = nil
}

func (t *rotateTask) unit(_, i int) {
	n := t.table.dims / 2
	at := int(t.rows[i].Pos) * n
	cos, sin := t.table.cos[at:at+n], t.table.sin[at:at+n]
	for x := t.x.row(i); len(x) > 0; x = x[t.headDim:] {
		if t.mode == kernels.RopeHalves {
			t.d.rotateHalves(x, cos, sin)
		} else {
			t.d.rotatePairs(x, cos, sin)
		}
	}
}

func rotate(a, b, c, s float32) (float32, float32) {
	return arith.Floor(float32(float32(a*c) - float32(b*s))), arith.Floor(float32(float32(a*s) + float32(b*c)))
}

func (d *Device) rotateHalves(x, cos, sin []float32) {
	n := len(cos)
	if k := d.set.rotateHalves; k != nil && n%16 == 0 {
		k(&x[0], &cos[0], &sin[0], n)
		return
	}
	lo, hi, sin := x[:n], x[n:2*n], sin[:n]
	for i := range lo {
		lo[i], hi[i] = rotate(lo[i], hi[i], cos[i], sin[i])
	}
}

func (d *Device) rotatePairs(x, cos, sin []float32) {
	n := len(cos)
	if k := d.set.rotatePairs; k != nil && n%8 == 0 {
		k(&x[0], &cos[0], &sin[0], n)
		return
	}
	x, sin = x[:2*n], sin[:n]
	for i := range cos {
		x[2*i], x[2*i+1] = rotate(x[2*i], x[2*i+1], cos[i], sin[i])
	}
}
