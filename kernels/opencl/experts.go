package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// experts is the room of MixExperts (cl/experts.cl): what the rows chose, and tables of
// places, which are in tiles of expertTile.
type experts struct {
	d     *Device
	shape kernels.ExpertShape
	rows  int

	taken, weight driver.Memory // of each row's choices
	place         driver.Memory // of each choice
	tiles, rowOf  driver.Memory

	in, mid       *acts // of places: what gate and up read, and down
	gate, up, out *buffer
}

const (
	expertTile   = 8
	routeItems   = 64
	arrangeItems = 256
)

// Shape gives the experts' shape.
func (e *experts) Shape() kernels.ExpertShape { return e.shape }

func (e *experts) memories() []driver.Memory {
	var all []driver.Memory
	for _, m := range []driver.Memory{e.taken, e.weight, e.place, e.tiles, e.rowOf} {
		if m != nil {
			all = append(all, m)
		}
	}
	for _, a := range []*acts{e.in, e.mid} {
		if a != nil {
			all = append(all, a.memories()...)
		}
	}
	for _, b := range []*buffer{e.gate, e.up, e.out} {
		if b != nil {
			all = append(all, b.mem)
		}
	}
	return all
}

// tilesOf is how many tiles the choices of so many rows can fill.
func (e *experts) tilesOf(rows int) int {
	choices := rows * e.shape.Used
	return (choices + (expertTile-1)*min(choices, e.shape.Count)) / expertTile
}

// NewExperts makes room for MixExperts.
func (d *Device) NewExperts(s kernels.ExpertShape, rows int, bits kernels.ActBits) (kernels.Experts, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("make experts: %w", err)
	}
	if err := checkTable("experts", rows, s.Used*max(s.Embd, s.FFN)*expertTile); err != nil {
		return nil, err
	}
	e := &experts{d: d, shape: s, rows: rows}
	if err := e.allocate(bits); err != nil {
		for _, m := range e.memories() {
			d.dev.Free(m)
		}
		return nil, fmt.Errorf("make experts for %d rows: %w", rows, err)
	}
	d.live[e] = struct{}{}
	return e, nil
}

// allocate makes what the experts hold, tables of places included: they are given back with
// it, not by themselves.
func (e *experts) allocate(bits kernels.ActBits) (err error) {
	d, choices, tiles := e.d, int64(e.rows*e.shape.Used), e.tilesOf(e.rows)
	for _, m := range []struct {
		dst   *driver.Memory
		bytes int64
	}{{&e.taken, 4 * choices}, {&e.weight, 4 * choices}, {&e.place, 4 * choices}, {&e.tiles, 8 * int64(tiles)}, {&e.rowOf, 4 * expertTile * int64(tiles)}} {
		if *m.dst, err = d.alloc(m.bytes); err != nil {
			return err
		}
	}
	places := expertTile * tiles
	for _, a := range []struct {
		dst  **acts
		cols int
	}{{&e.in, e.shape.Embd}, {&e.mid, e.shape.FFN}} {
		h, err := d.NewActs(places, a.cols, bits)
		if err != nil {
			return err
		}
		*a.dst = d.asActs(h)
		delete(d.live, *a.dst)
	}
	for _, b := range []struct {
		dst  **buffer
		cols int
	}{{&e.gate, e.shape.FFN}, {&e.up, e.shape.FFN}, {&e.out, e.shape.Embd}} {
		h, err := d.NewBuffer(places, b.cols)
		if err != nil {
			return err
		}
		*b.dst = d.asBuffer(h)
		delete(d.live, *b.dst)
	}
	return nil
}

func (d *Device) asExperts(h kernels.Experts) *experts {
	e, ok := h.(*experts)
	if !ok || e.d != d {
		panic(fmt.Sprintf("opencl: foreign experts %T", h))
	}
	return e
}

// MixExperts stores the weighted sum of what each row's experts make of it.
func (d *Device) MixExperts(b *kernels.Batch, dst kernels.Buffer, room kernels.Experts, logits kernels.Buffer, x kernels.Acts, w kernels.ExpertWeights) {
	e, to, l, a := d.asExperts(room), d.asBuffer(dst), d.asBuffer(logits), d.asActs(x)
	s, n := e.shape, len(b.Rows)
	needShape("experts", to, n, s.Embd)
	needShape("experts", l, n, s.Count)
	if err := w.Check(s); err != nil {
		panic("opencl: experts: " + err.Error())
	}
	if n > e.rows || n > a.n || a.cols != s.Embd || a.bits != e.in.bits {
		panic(fmt.Sprintf("opencl: experts for %d rows of %d columns, of %d prepared rows of %d columns", e.rows, s.Embd, a.n, a.cols))
	}
	if n == 0 {
		return
	}
	gate, up, down := d.asMatrix(w.Gate), d.asMatrix(w.Up), d.asMatrix(w.Down)
	tiles, even := e.tilesOf(n), 0
	if s.Renormalise {
		even = 1
	}
	faults, first, word := d.faultArgs(b, faultRouter)
	d.run("route", groupsOf(routeItems, n, 1, 1), driver.Mem(l.mem), driver.Mem(e.taken), driver.Mem(e.weight), driver.Int(s.Count),
		driver.Int(s.Used), driver.Int(even), driver.Float(s.Scale), faults, first, word)
	d.run("arrange", groupsOf(arrangeItems, 1, 1, 1), driver.Mem(e.taken), driver.Mem(e.tiles), driver.Mem(e.rowOf), driver.Mem(e.place),
		driver.Int(s.Count), driver.Int(s.Used), driver.Int(n*s.Used), driver.Int(tiles))
	e.collect(b, a, expertTile*tiles, gate, up)
	e.product(e.gate, gate, e.in, tiles)
	e.product(e.up, up, e.in, tiles)
	e.activate(b, expertTile*tiles, down)
	e.product(e.out, down, e.mid, tiles)
	d.run("mix_experts", each(n*s.Embd), driver.Mem(to.mem), driver.Mem(e.out.mem), driver.Mem(e.place), driver.Mem(e.weight), driver.Int(s.Used),
		driver.Int(s.Embd), driver.Int(n*s.Embd))
}

// collect copies the rows of the places in the form that gate and up read.
func (e *experts) collect(b *kernels.Batch, a *acts, places int, gate, up *matrix) {
	d := e.d
	if !gate.kind.Float() || !up.kind.Float() {
		if !a.hasRecords {
			d.quantise(a)
		}
		faults, first, word := d.faultArgs(b, faultQuantise)
		n := places * (a.cols / 32) * 8
		d.run("collect_records", each(n), driver.Mem(a.records), driver.Mem(e.in.records), driver.Mem(a.bad[a.turn]), driver.Mem(e.rowOf),
			driver.Int(a.cols/32), driver.Int(int(a.bits)), driver.Int(n), faults, first, word)
	}
	if gate.kind.Float() || up.kind.Float() {
		if !a.hasCopy {
			d.copyFloats(a)
		}
		if err := e.in.allocateFloats(); err != nil {
			d.fail("experts", err)
		}
		if d.err != nil {
			return
		}
		n := places * a.stride
		d.run("collect_floats", each(n), driver.Mem(a.floats), driver.Mem(e.in.floats), driver.Mem(e.rowOf), driver.Int(a.stride), driver.Int(n))
	}
}

// activate makes of gate and up what down reads.
func (e *experts) activate(b *kernels.Batch, places int, down *matrix) {
	d := e.d
	n := places * e.shape.FFN
	d.run("activate", each(n), driver.Mem(e.gate.mem), driver.Mem(e.up.mem), driver.Mem(e.rowOf), driver.Int(e.shape.FFN), driver.Int(n))
	if down.kind.Float() {
		return
	}
	e.mid.source, e.mid.n = e.gate, places
	d.quantise(e.mid)
	faults, first, word := d.faultArgs(b, faultQuantise)
	d.run("report_places", each(places), driver.Mem(e.mid.bad[e.mid.turn]), driver.Mem(e.rowOf), driver.Int(places), faults, first, word)
}

// product multiplies each tile with its expert's part of m. Float matrices read what gate
// and up made where it is.
func (e *experts) product(dst *buffer, m *matrix, a *acts, tiles int) {
	d, log := e.d, min(groupSegs, segmentsLog(m.cols))
	if d.err != nil {
		return
	}
	rows := dst.cols
	g := groupsOf(productItems, ceil(rows, productItems>>log), tiles, 1)
	quants, halves, bytes := m.views()
	if m.kind.Float() {
		x := a.floats
		if a == e.mid {
			x = e.gate.mem
		}
		d.run(m.kernels[kernelExpert][0], g, quants, halves, bytes, driver.Mem(x), driver.Mem(dst.mem), driver.Mem(e.tiles), driver.Int(rows),
			driver.Int(m.cols), driver.Uint(uint32(m.groupElements())), driver.Int(m.cols/4), driver.Int(log))
		return
	}
	d.run(m.kernels[kernelExpert][int(a.bits)/8-1], g, quants, halves, bytes, driver.Mem(a.records), driver.Mem(dst.mem), driver.Mem(e.tiles),
		driver.Int(rows), driver.Int(m.cols/32), driver.Uint(uint32(m.sStride)), driver.Int(log))
}

// AddGated adds y times the sigmoid of gate to x.
func (d *Device) AddGated(b *kernels.Batch, x, y, gate kernels.Buffer) {
	to, from, g := d.asBuffer(x), d.asBuffer(y), d.asBuffer(gate)
	needRows("gated addition", to, len(b.Rows))
	needShape("gated addition", from, len(b.Rows), to.cols)
	needShape("gated addition", g, len(b.Rows), 1)
	n := len(b.Rows) * to.cols
	d.run("add_gated", each(n), driver.Mem(to.mem), driver.Mem(from.mem), driver.Mem(g.mem), driver.Int(to.cols), driver.Int(n))
}
