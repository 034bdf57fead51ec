package cpu

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// mapTask applies an operation to each element; a unit is a row. Rows are
// padded alike, so kernels that work on whole vectors may run over the padding.
type mapTask struct {
	d       *Device
	op      mapOp
	dst     *buffer
	x, y    *buffer
	addends []float32 // AddVector
	ids     []int32   // Gather
}

type mapOp uint8

const (
	opAdd mapOp = iota
	opAddVector
	opSiLUMul
	opGather
)

func (t *mapTask) unit(_, i int) {
	switch t.op {
	case opAdd:
		t.d.addRow(t.dst.wide(i), t.x.wide(i), t.y.wide(i))
	case opAddVector:
		t.d.addRow(t.dst.wide(i), t.x.wide(i), t.addends)
	case opSiLUMul:
		t.d.siluRow(t.dst.wide(i), t.x.wide(i), t.y.wide(i))
	case opGather:
		copy(t.dst.row(i), t.x.row(int(t.ids[i])))
	}
}

func (d *Device) addRow(dst, x, y []float32) {
	if k := d.set.add; k != nil {
		k(&dst[0], &x[0], &y[0], len(dst))
		return
	}
	for i := range dst {
		dst[i] = arith.Floor(float32(x[i] + y[i]))
	}
}

func (d *Device) siluRow(dst, gate, up []float32) {
	if k := d.set.siluMul; k != nil {
		k(&dst[0], &gate[0], &up[0], len(dst))
		return
	}
	for i := range dst {
		dst[i] = arith.Floor(float32(arith.SiLU(gate[i]) * up[i]))
	}
}

// AddVector adds v to each row of x.
func (d *Device) AddVector(b *kernels.Batch, x kernels.Buffer, v kernels.Vector) {
	to, w := asBuffer(x), asVector(v)
	needShape("addition", to, len(b.Rows), w.n)
	d.mapTask = mapTask{d: d, op: opAddVector, dst: to, x: to, addends: w.data}
	d.parallel(&d.mapTask, len(b.Rows), len(b.Rows)*to.cols)
}

// Add adds y to x.
func (d *Device) Add(b *kernels.Batch, x, y kernels.Buffer) {
	to, from := asBuffer(x), asBuffer(y)
	needRows("addition", to, len(b.Rows))
	needShape("addition", from, len(b.Rows), to.cols)
	d.mapTask = mapTask{d: d, op: opAdd, dst: to, x: to, y: from}
	d.parallel(&d.mapTask, len(b.Rows), len(b.Rows)*to.cols)
}

// siluWeight is how many plain elements one of SiLU costs.
const siluWeight = 4

// SiLUMul stores SiLU(gate) times up.
func (d *Device) SiLUMul(b *kernels.Batch, dst, gate, up kernels.Buffer) {
	to, g, u := asBuffer(dst), asBuffer(gate), asBuffer(up)
	n := len(b.Rows)
	needRows("silu", to, n)
	needShape("silu", g, n, to.cols)
	needShape("silu", u, n, to.cols)
	d.mapTask = mapTask{d: d, op: opSiLUMul, dst: to, x: g, y: u}
	d.parallel(&d.mapTask, n, siluWeight*n*to.cols)
}

// Gather copies rows of src to rows 0.. of dst.
func (d *Device) Gather(dst, src kernels.Buffer, rows []int32) {
	to, from := asBuffer(dst), asBuffer(src)
	needShape("gather", to, len(rows), from.cols)
	for _, r := range rows {
		if r < 0 || int(r) >= from.rows {
			panic(fmt.Sprintf("cpu: gather of row %d of %d", r, from.rows))
		}
	}
	d.mapTask = mapTask{d: d, op: opGather, dst: to, x: from, ids: rows}
	d.parallel(&d.mapTask, len(rows), len(rows)*to.cols)
	d.mapTask.ids = nil
}

// finiteTask marks rows that hold a value that is not finite; a unit is a row.
type finiteTask struct {
	d *Device
	x *buffer
}

func (t *finiteTask) unit(_, i int) {
	if !t.d.finite(t.x.row(i)) {
		t.d.markBad(i)
	}
}

// finite reports whether all elements of x are finite.
func (d *Device) finite(x []float32) bool {
	whole := 0
	if k := d.set.notFinite; k != nil && len(x) >= 16 {
		whole = len(x) &^ 15
		if k(&x[0], whole) != 0 {
			return false
		}
	}
	return arith.MaxAbsBits(x[whole:]) < 0x7f800000
}

// CheckFinite reports a fault for each row that holds NaN or an infinity.
func (d *Device) CheckFinite(b *kernels.Batch, x kernels.Buffer) {
	from := asBuffer(x)
	needRows("check", from, len(b.Rows))
	d.clearBad(len(b.Rows))
	d.finiteTask = finiteTask{d: d, x: from}
	d.parallel(&d.finiteTask, len(b.Rows), len(b.Rows)*from.cols)
	d.report(b, "logits")
}
