package cpu

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// embedTask unpacks rows of a matrix; a unit is a row of the batch.
type embedTask struct {
	d   *Device
	w   *matrix
	dst *buffer
	ids []int32
}

// Embed stores the rows ids of w, one per batch row.
func (d *Device) Embed(b *kernels.Batch, dst kernels.Buffer, w kernels.Matrix, ids []int32) {
	m, to := asMatrix(w), asBuffer(dst)
	n := len(b.Rows)
	needShape("embedding", to, n, m.cols)
	if len(ids) != n {
		panic(fmt.Sprintf("cpu: embedding of %d ids for %d rows", len(ids), n))
	}
	for _, id := range ids {
		if id < 0 || int(id) >= m.rows {
			panic(fmt.Sprintf("cpu: embedding of id %d of %d", id, m.rows))
		}
	}
	d.embedTask = embedTask{d: d, w: m, dst: to, ids: ids}
	d.parallel(&d.embedTask, n, 2*n*m.cols)
	d.embedTask.ids = nil
}

func (t *embedTask) unit(worker, i int) {
	id := int(t.ids[i])
	g, r := id/16, id%16
	out := t.dst.row(i)
	if t.w.kind.Float() {
		var w [16]float32
		for k := range out {
			t.w.column(&w, g, k)
			out[k] = arith.Floor(w[r])
		}
		return
	}
	p := &t.d.scratch[worker].panel
	width := 32 / t.w.format.halves
	for b := range t.w.cols / 32 {
		t.w.unpack(p, g, b, r, r+1)
		for k := range 32 {
			h := k / width
			out[32*b+k] = weight(p.scale[h][r], p.w[r][k], p.min[h][r], hasMin(t.w.kind))
		}
	}
}

// weight is the number that a stored weight stands for: F(RN(S*q)), with a
// minimum F(FMA(S, q, M)).
func weight(scale float32, q int8, minimum float32, has bool) float32 {
	if has {
		return arith.Floor(arith.FMA(scale, float32(q), minimum))
	}
	return arith.Floor(float32(scale * float32(q)))
}
