package cpu

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
)

// experts is the room of MixExperts. A row and an expert that it takes are a
// place; places are in the order of experts, so that each expert's rows lie in a
// row and go through its matrices together.
type experts struct {
	shape kernels.ExpertShape
	rows  int

	taken  []int32   // Used a row: experts, by ascending index
	weight []float32 // of those
	place  []int32   // of those
	row    []int32   // of each place
	begin  []int32   // of each expert its first place, and the number of places

	in, mid       *acts   // of places: what gate and up read, and down
	gate, up, out *buffer // of places

	views []expertView // of the experts that are taken, n of them
	n     int
	jobs  []panelJob

	products expertProducts
}

// expertView is one expert's part of the room: headers that share its memory.
type expertView struct {
	n             int // places
	in, mid       acts
	gate, up, out buffer
	gateW, upW    matrix
	downW         matrix
}

// panelJob is a panel of an expert's rows that is to be filled.
type panelJob struct{ view, first int32 }

// Shape gives the experts' shape.
func (e *experts) Shape() kernels.ExpertShape { return e.shape }

func (e *experts) free() error {
	var first error
	for _, mem := range [][]byte{e.in.mem, e.mid.mem, e.gate.mem, e.up.mem, e.out.mem} {
		if err := release(mem); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// NewExperts makes room for MixExperts. Its pages cost memory when first used.
func (d *Device) NewExperts(s kernels.ExpertShape, rows int, bits kernels.ActBits) (kernels.Experts, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("make experts: %w", err)
	}
	if err := checkTable("experts", rows, s.Used); err != nil {
		return nil, err
	}
	places := rows * s.Used
	most := min(places, s.Count) // experts that a batch can take
	e := &experts{
		shape: s, rows: rows,
		taken: make([]int32, places), weight: make([]float32, places), place: make([]int32, places), row: make([]int32, places),
		begin: make([]int32, s.Count+1),
		views: make([]expertView, most), jobs: make([]panelJob, 0, places/panelTokens+most),
		products: expertProducts{tasks: make([]matmulTask, 0, 2*most), ends: make([]int, 0, 2*most)},
	}
	if err := e.reserve(d, places, bits); err != nil {
		return nil, fmt.Errorf("make experts for %d rows: %w", rows, err)
	}
	d.live[e] = struct{}{}
	return e, nil
}

// reserve makes the tables of places. They belong to the experts, not to the
// device.
func (e *experts) reserve(d *Device, places int, bits kernels.ActBits) (err error) {
	var made []closer
	defer func() {
		for _, h := range made {
			delete(d.live, h)
			if err != nil {
				_ = h.free()
			}
		}
	}()
	// Only experts with matrixLeast rows have panels; each begins a new one.
	panels := places/panelTokens + min(e.shape.Count, places/matrixLeast)
	for _, a := range []struct {
		dst  **acts
		cols int
	}{{&e.in, e.shape.Embd}, {&e.mid, e.shape.FFN}} {
		if *a.dst, err = d.newActs(places, a.cols, bits, panels); err != nil {
			return err
		}
		made = append(made, *a.dst)
	}
	for _, b := range []struct {
		dst  **buffer
		cols int
	}{{&e.gate, e.shape.FFN}, {&e.up, e.shape.FFN}, {&e.out, e.shape.Embd}} {
		h, err := d.NewBuffer(places, b.cols)
		if err != nil {
			return err
		}
		*b.dst = asBuffer(h)
		made = append(made, *b.dst)
	}
	return nil
}

func asExperts(h kernels.Experts) *experts {
	e, ok := h.(*experts)
	if !ok {
		panic(fmt.Sprintf("cpu: foreign experts %T", h))
	}
	return e
}

// MixExperts stores the weighted sum of what each row's experts make of it.
func (d *Device) MixExperts(b *kernels.Batch, dst kernels.Buffer, room kernels.Experts, logits kernels.Buffer, x kernels.Acts, w kernels.ExpertWeights) {
	e, to, l, a := asExperts(room), asBuffer(dst), asBuffer(logits), asActs(x)
	n := len(b.Rows)
	needShape("experts", to, n, e.shape.Embd)
	needShape("experts", l, n, e.shape.Count)
	if err := w.Check(e.shape); err != nil {
		panic("cpu: experts: " + err.Error())
	}
	if n > e.rows || n > a.n || a.cols != e.shape.Embd || a.lines != e.in.lines {
		panic(fmt.Sprintf("cpu: experts for %d rows of %d columns, of %d prepared rows of %d columns", e.rows, e.shape.Embd, a.n, a.cols))
	}
	gate, up, down := asMatrix(w.Gate), asMatrix(w.Up), asMatrix(w.Down)
	t := &d.expertTask
	*t = expertTask{d: d, e: e, a: a, dst: to, logits: l, quantised: !gate.kind.Float() || !up.kind.Float(), floats: gate.kind.Float() || up.kind.Float()}

	d.clearBad(n)
	t.run(opRoute, n, n*e.shape.Count)
	d.report(b, "router")
	e.sort(n)
	e.in.hasCopy, e.mid.source = t.floats, e.gate
	d.serveActs(b, gate, a)
	d.serveActs(b, up, a)
	places := n * e.shape.Used
	t.run(opCollect, places, places*a.cols/4)
	e.cut(d, gate, up, down)
	if t.quantised && e.in.hasPanels {
		t.run(opSpreadIn, len(e.jobs), len(e.jobs)*panelTokens*a.cols)
	}
	e.gateAndUp(d)

	t.quantised = !down.kind.Float()
	t.quantise = prepareTask{d: d, a: e.mid}
	t.run(opActivate, places, siluWeight*places*e.shape.FFN)
	if t.quantised {
		e.reportMid(b, d, n)
		if e.mid.hasPanels {
			t.run(opSpreadMid, len(e.jobs), len(e.jobs)*panelTokens*e.shape.FFN)
		}
	}
	e.down(d)
	t.run(opMix, n, places*to.cols)
}

// gateAndUp multiplies each expert's rows with its gate and up matrices.
func (e *experts) gateAndUp(d *Device) {
	e.products.reset()
	for i := range e.views[:e.n] {
		v := &e.views[i]
		e.products.add(d, &v.gateW, &v.in, &v.gate, v.n, 2*e.n)
		e.products.add(d, &v.upW, &v.in, &v.up, v.n, 2*e.n)
	}
	e.products.run(d)
}

// down multiplies what they gave with its down matrix.
func (e *experts) down(d *Device) {
	e.products.reset()
	for i := range e.views[:e.n] {
		v := &e.views[i]
		e.products.add(d, &v.downW, &v.mid, &v.out, v.n, e.n)
	}
	e.products.run(d)
}

// sort gives each expert's rows their places, rows in ascending order.
func (e *experts) sort(n int) {
	clear(e.begin)
	used := n * e.shape.Used
	for _, x := range e.taken[:used] {
		e.begin[x+1]++
	}
	for x := range e.shape.Count {
		e.begin[x+1] += e.begin[x]
	}
	for i, x := range e.taken[:used] {
		e.place[i] = e.begin[x]
		e.row[e.begin[x]] = int32(i / e.shape.Used)
		e.begin[x]++
	}
	// Every border has moved to the next one.
	copy(e.begin[1:], e.begin[:e.shape.Count])
	e.begin[0] = 0
}

// cut makes the views of the experts that are taken, and the jobs of their
// panels.
func (e *experts) cut(d *Device, gate, up, down *matrix) {
	e.n, e.jobs = 0, e.jobs[:0]
	panels := 0
	e.in.hasPanels, e.mid.hasPanels = false, false
	for x := range e.shape.Count {
		first, n := int(e.begin[x]), int(e.begin[x+1]-e.begin[x])
		if n == 0 {
			continue
		}
		v := &e.views[e.n]
		v.n = n
		v.gate, v.up, v.out = e.gate.from(first), e.up.from(first), e.out.from(first)
		wide := d.set.matrix != nil && n >= matrixLeast
		v.in, v.mid = e.in.from(first, panels, wide), e.mid.from(first, panels, wide)
		v.mid.source = &v.gate
		v.gateW, v.upW = gate.part(x*e.shape.FFN, e.shape.FFN), up.part(x*e.shape.FFN, e.shape.FFN)
		v.downW = down.part(x*e.shape.Embd, e.shape.Embd)
		if wide {
			e.in.hasPanels, e.mid.hasPanels = true, true
			for at := 0; at < n; at += panelTokens {
				e.jobs = append(e.jobs, panelJob{int32(e.n), int32(at)})
				panels++
			}
		}
		e.n++
	}
}

// from gives the rows of b from first on, as a buffer.
func (b *buffer) from(first int) buffer {
	return buffer{rows: b.rows - first, cols: b.cols, stride: b.stride, data: b.data[first*b.stride:]}
}

// from gives the rows of a from first on, with panels from panel on where they
// are used.
func (a *acts) from(first, panel int, panels bool) acts {
	v := *a
	v.mem, v.source, v.bad = nil, nil, nil
	v.rows, v.n = a.rows-first, a.rows-first
	v.recs = a.recs[first*a.stride:]
	v.copy = a.copy.from(first)
	v.hasRecs, v.hasCopy, v.hasPanels = true, a.hasCopy, panels
	v.panels = nil
	if panels {
		v.panels = a.panels[panel*a.panelStride:]
	}
	return v
}

// part gives rows first to first+rows-1, both multiples of 16, as a matrix.
func (m *matrix) part(first, rows int) matrix {
	p := *m
	g := first / 16
	p.rows, p.groups = rows, rows/16
	p.quants = m.quants[g*m.qStride : (g+p.groups)*m.qStride]
	p.scales = m.scales[g*m.sStride : (g+p.groups)*m.sStride]
	return p
}

// reportMid notes the rows of places whose gated values cannot be quantised.
func (e *experts) reportMid(b *kernels.Batch, d *Device, n int) {
	any := false
	d.clearBad(n)
	for p, bad := range e.mid.bad[:n*e.shape.Used] {
		if bad != 0 {
			d.bad[e.row[p]], any = 1, true
		}
	}
	if any {
		d.report(b, "quantise")
	}
}
