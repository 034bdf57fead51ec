package cpu

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// rotateTask applies rotary embedding; a unit is a row.
type rotateTask struct {
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
	d.rotateTask = rotateTask{x: to, rows: b.Rows, headDim: headDim, table: table, mode: mode}
	d.parallel(&d.rotateTask, len(b.Rows), 2*len(b.Rows)*to.cols)
	d.rotateTask.rows = nil
}

func (t *rotateTask) unit(_, i int) {
	n := t.table.dims / 2
	at := int(t.rows[i].Pos) * n
	cos, sin := t.table.cos[at:at+n], t.table.sin[at:at+n]
	for x := t.x.row(i); len(x) > 0; x = x[t.headDim:] {
		if t.mode == kernels.RopeHalves {
			rotateHalves(x[:n], x[n:2*n], cos, sin)
		} else {
			rotatePairs(x[:2*n], cos, sin)
		}
	}
}

func rotate(a, b, c, s float32) (float32, float32) {
	return arith.Floor(float32(float32(a*c) - float32(b*s))), arith.Floor(float32(float32(a*s) + float32(b*c)))
}

func rotateHalves(lo, hi, cos, sin []float32) {
	hi, cos, sin = hi[:len(lo)], cos[:len(lo)], sin[:len(lo)]
	for i := range lo {
		lo[i], hi[i] = rotate(lo[i], hi[i], cos[i], sin[i])
	}
}

func rotatePairs(x, cos, sin []float32) {
	sin = sin[:len(cos)]
	for i := range cos {
		x[2*i], x[2*i+1] = rotate(x[2*i], x[2*i+1], cos[i], sin[i])
	}
}
