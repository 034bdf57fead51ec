package cpu

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// normTask normalises the runs of rows; a unit is a row.
type normTask struct {
	d      *Device
	dst, x *buffer
	w      *vector
	eps    float32
}

// Norm is RMSNorm over each run of w.Len() elements of a row.
func (d *Device) Norm(b *kernels.Batch, dst, x kernels.Buffer, w kernels.Vector, eps float32) {
	to, from, weights := asBuffer(dst), asBuffer(x), asVector(w)
	n := len(b.Rows)
	needRows("norm", to, n)
	needShape("norm", from, n, to.cols)
	if from.cols%weights.n != 0 {
		panic(fmt.Sprintf("cpu: norm of rows of %d by runs of %d", from.cols, weights.n))
	}
	d.clearBad(n)
	d.normTask = normTask{d: d, dst: to, x: from, w: weights, eps: eps}
	d.parallel(&d.normTask, n, 2*n*from.cols)
	d.report(b, "norm")
}

func (t *normTask) unit(worker, i int) {
	x, y, n := t.x.row(i), t.dst.row(i), t.w.n
	for at := 0; at < len(x); at += n {
		if !t.d.norm(&t.d.scratch[worker].lanes, y[at:at+n], x[at:at+n], t.w.data, t.eps) {
			t.d.markBad(i)
		}
	}
}

// norm normalises one run; false means that its sum is not finite, and y is
// left as it is then.
func (d *Device) norm(lanes *[16]float32, y, x, w []float32, eps float32) bool {
	*lanes = [16]float32{}
	whole := 0
	if d.set.squares != nil {
		whole = len(x) &^ 15
		if whole > 0 {
			d.set.squares(&x[0], lanes, whole)
		}
	}
	for i := whole; i < len(x); i++ {
		lanes[i&15] = arith.FMA(x[i], x[i], lanes[i&15])
	}
	sum := arith.Tree16(lanes)
	if !arith.Finite(sum) {
		return false
	}
	r := float32(1 / arith.Sqrt(float32(float32(sum/float32(len(x)))+eps)))
	if whole > 0 {
		d.set.normMul(&y[0], &x[0], &w[0], r, whole)
	}
	for i := whole; i < len(x); i++ {
		y[i] = arith.Floor(float32(float32(x[i]*r) * w[i]))
	}
	return true
}
