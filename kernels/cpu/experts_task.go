package cpu

import (
	"fmt"
	"slices"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// expertTask is the part of MixExperts that is no product.
type expertTask struct {
	d         *Device
	e         *experts
	op        expertOp
	a         *acts
	dst       *buffer
	logits    *buffer
	quantised bool // the products that come next read records
	floats    bool // gate or up reads floats
	quantise  prepareTask
}

type expertOp uint8

const (
	opRoute     expertOp = iota // a row chooses its experts
	opCollect                   // a place gets its row
	opSpreadIn                  // a panel of what gate and up read is filled
	opActivate                  // a place's gate and up become what down reads
	opSpreadMid                 // a panel of that is filled
	opMix                       // a row adds up what its experts made
)

func (t *expertTask) run(op expertOp, units, elements int) {
	t.op = op
	t.d.parallel(t, units, elements)
}

func (t *expertTask) unit(worker, i int) {
	switch t.op {
	case opRoute:
		t.route(&t.d.scratch[worker].lanes, i)
	case opCollect:
		t.collect(i)
	case opSpreadIn, opSpreadMid:
		j := t.e.jobs[i]
		v := &t.e.views[j.view]
		a := &v.in
		if t.op == opSpreadMid {
			a = &v.mid
		}
		a.spread(t.d.set.matrix.spread[a.lines-1], int(j.first), min(v.n, int(j.first)+panelTokens))
	case opActivate:
		gate := t.e.gate.wide(i)
		t.d.siluRow(gate, gate, t.e.up.wide(i))
		if t.quantised {
			t.quantise.row(i)
		}
	case opMix:
		t.mix(&t.d.scratch[worker].lanes, i)
	}
}

// route chooses row i's experts and their weights. A row with a logit that is
// not finite is marked, and takes the first ones with weight +0.
func (t *expertTask) route(lanes *[16]float32, i int) {
	s, l := &t.e.shape, t.logits.row(i)
	taken, weight := t.e.taken[i*s.Used:(i+1)*s.Used], t.e.weight[i*s.Used:(i+1)*s.Used]
	if !t.d.finite(l) {
		t.d.markBad(i)
		for j := range taken {
			taken[j], weight[j] = int32(j), 0
		}
		return
	}
	chooseLargest(l, taken)
	best := l[taken[0]]
	slices.Sort(taken)
	var sum float32
	if s.Renormalise {
		for _, e := range taken {
			sum = float32(sum + arith.Exp(float32(l[e]-best)))
		}
	} else {
		*lanes = [16]float32{}
		for e, v := range l {
			lanes[e&15] = float32(lanes[e&15] + arith.Exp(float32(v-best)))
		}
		sum = arith.Tree16(lanes)
	}
	for j, e := range taken {
		p := arith.Exp(float32(l[e] - best))
		weight[j] = arith.Floor(float32(float32(p/sum) * s.Scale))
	}
}

// chooseLargest fills taken with the places of the largest of l, the largest first and
// of equal ones the lower place.
func chooseLargest(l []float32, taken []int32) {
	for e, v := range l {
		n := min(e, len(taken))
		at := n
		for at > 0 && v > l[taken[at-1]] {
			at--
		}
		if at == len(taken) {
			continue
		}
		copy(taken[at+1:], taken[at:n])
		taken[at] = int32(e)
	}
}

// collect copies the input of place p: its row as gate and up read it.
func (t *expertTask) collect(p int) {
	a, in, row := t.a, t.e.in, int(t.e.row[p])
	if t.quantised {
		copy(in.token(p), a.token(row))
	}
	if t.floats {
		copy(in.copy.row(p), a.floatRow(row))
	}
}

// mix stores the weighted sum of what row i's experts made of it.
func (t *expertTask) mix(factors *[16]float32, i int) {
	used, to := t.e.shape.Used, t.dst.wide(i)
	clear(to)
	for j := i * used; j < (i+1)*used; j++ {
		t.d.addScaled(factors, to, t.e.out.wide(int(t.e.place[j])), t.e.weight[j])
	}
}

// addScaled stores F(FMA(x, w, to)), a positive multiple of 16 elements.
func (d *Device) addScaled(factors *[16]float32, to, x []float32, w float32) {
	if k := d.set.fold; k != nil {
		factors[0], factors[1] = 1, w
		k(&to[0], &x[0], &factors[0], &factors[1], 1, len(to))
		return
	}
	for k := range to {
		to[k] = arith.Floor(arith.FMA(x[k], w, to[k]))
	}
}

// expertProducts are the products of all experts that are taken: one task, as
// each alone may be too small to share out.
type expertProducts struct {
	tasks []matmulTask
	ends  []int // of each task: units up to its end
}

func (q *expertProducts) reset() { q.tasks, q.ends = q.tasks[:0], q.ends[:0] }

// add adds the product of m with the first n rows of a, one of so many. The more
// there are the fewer units each is cut into.
func (q *expertProducts) add(d *Device, m *matrix, a *acts, to *buffer, n, products int) {
	q.tasks = q.tasks[:len(q.tasks)+1]
	q.tasks[len(q.tasks)-1].set(d, m, a, to, n, max(1, d.pool.workers/products))
}

func (q *expertProducts) run(d *Device) {
	units, elements := 0, 0
	for i := range q.tasks {
		t := &q.tasks[i]
		units += t.split.units
		elements += t.n * t.w.rows * t.w.cols / 16
		q.ends = append(q.ends, units)
	}
	d.parallel(q, units, elements)
}

// unit runs a unit of one of the products.
func (q *expertProducts) unit(worker, u int) {
	i, _ := slices.BinarySearch(q.ends, u+1)
	if i > 0 {
		u -= q.ends[i-1]
	}
	q.tasks[i].unit(worker, u)
}

// gatedTask adds rows times their gates; a unit is a row.
type gatedTask struct {
	d           *Device
	x, y, gates *buffer
}

func (t *gatedTask) unit(worker, i int) {
	g := arith.Floor(arith.Sigmoid(t.gates.row(i)[0]))
	t.d.addScaled(&t.d.scratch[worker].lanes, t.x.wide(i), t.y.wide(i), g)
}

// AddGated adds y times the sigmoid of gate to x.
func (d *Device) AddGated(b *kernels.Batch, x, y, gate kernels.Buffer) {
	to, from, g := asBuffer(x), asBuffer(y), asBuffer(gate)
	n := len(b.Rows)
	needRows("gated addition", to, n)
	needShape("gated addition", from, n, to.cols)
	needShape("gated addition", g, n, 1)
	if to == from || to == g {
		panic(fmt.Sprintf("cpu: gated addition of a buffer of %d columns to itself", to.cols))
	}
	d.gatedTask = gatedTask{d: d, x: to, y: from, gates: g}
	d.parallel(&d.gatedTask, n, n*to.cols)
}
