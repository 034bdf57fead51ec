package conform

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/quant"
)

// Depth is how much of the suite is run.
type Depth uint8

// The depths.
const (
	// Quick tries every operation, weight type and width of activations at a few
	// shapes: what a program can afford before it computes on a device that it has
	// not met before. It takes seconds.
	Quick Depth = iota
	// Short leaves out the largest shapes and the longest contexts.
	Short
	// Full is everything.
	Full
)

// Case is a part of the suite.
type Case struct {
	Name string
	// quick says that the case is part of a Quick check: the others are about
	// misuse, or repeat what cases before them show.
	quick bool
	run   func(*suite)
}

// Cases are the parts of the suite.
func Cases() []Case {
	return []Case{
		{"Products", true, products},
		{"ProductsOfEdgeData", true, productsOfEdgeData},
		{"ProductsAreCutAnywhere", false, productsCutAnywhere},
		{"Embedding", true, embedding},
		{"Experts", true, mixtures},
		{"Norm", true, norms},
		{"Elementwise", true, elementwise},
		{"Rotation", true, rotation},
		{"AttentionShapes", true, attentionShapes},
		{"AttentionLengths", true, attentionLengths},
		{"AttentionBatches", true, attentionBatches},
		{"AttentionHidden", false, attentionHidden},
		{"Reductions", true, reductions},
		{"Faults", true, faults},
		{"Moves", true, moves},
		{"RowsBeyondTheBatch", true, rest},
		{"Repeats", true, repeats},
		{"Misuse", false, misuse},
	}
}

// Run holds devices to one case and tells report of everything that is wrong.
func (c Case) Run(devices []kernels.Device, depth Depth, report func(Difference)) {
	c.run(&suite{name: c.Name, devices: devices, depth: depth, short: depth < Full, report: report, goOn: func() bool { return true }})
}

// Difference is something that a device does otherwise than the contract says.
type Difference struct {
	Case     string // of Cases
	Scenario string // shapes and data
	Device   string
	Err      error // what differs first
}

// Error names the operation, the scenario and the first value that differs.
func (d *Difference) Error() string {
	return fmt.Sprintf("%s, %s: %v", d.Case, d.Scenario, d.Err)
}

// Unwrap gives what the device or the comparison said.
func (d *Difference) Unwrap() error { return d.Err }

// Check holds one device to the contract and stops at the first difference,
// which is a *Difference. tell, when not nil, hears of each case before it runs.
// Check blocks, and ends early with ctx's error. What it made on the device is
// given back.
func Check(ctx context.Context, d kernels.Device, depth Depth, tell func(name string)) error {
	var first *Difference
	for _, c := range Cases() {
		if depth == Quick && !c.quick {
			continue
		}
		if tell != nil {
			tell(c.Name)
		}
		c.run(&suite{
			name: c.Name, devices: []kernels.Device{d}, depth: depth, short: depth < Full,
			report: func(x Difference) {
				if first == nil {
					first = &x
				}
			},
			goOn: func() bool { return first == nil && ctx.Err() == nil },
		})
		if first != nil {
			return first
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// suite is one case at work.
type suite struct {
	name    string
	devices []kernels.Device
	depth   Depth
	short   bool
	report  func(Difference)
	goOn    func() bool // false: scenarios that are left are passed over
}

// failed reports a difference.
func (s *suite) failed(scenario, device string, err error) {
	s.report(Difference{Case: s.name, Scenario: scenario, Device: device, Err: err})
}

// trace runs a scenario on one device and keeps what can be seen of it.
type trace struct {
	d       kernels.Device
	b       *kernels.Batch
	values  []reading
	handles []any
}

type reading struct {
	name string
	cols int
	data []float32
}

// failure carries an error of the device out of a scenario.
type failure struct{ err error }

func must[T any](v T, err error) T {
	if err != nil {
		panic(failure{err})
	}
	return v
}

func (t *trace) buffer(rows, cols int, data []float32) kernels.Buffer {
	b := must(t.d.NewBuffer(rows, cols))
	t.handles = append(t.handles, b)
	if data != nil {
		t.d.Write(b, 0, data)
	}
	return b
}

func (t *trace) vector(v []float32) kernels.Vector {
	h := must(t.d.NewVector(v))
	t.handles = append(t.handles, h)
	return h
}

func (t *trace) acts(rows, cols int, bits kernels.ActBits) kernels.Acts {
	h := must(t.d.NewActs(rows, cols, bits))
	t.handles = append(t.handles, h)
	return h
}

func (t *trace) rope(cos, sin []float32, positions, dims int) kernels.Rope {
	h := must(t.d.NewRope(cos, sin, positions, dims))
	t.handles = append(t.handles, h)
	return h
}

// read notes the first rows of x.
func (t *trace) read(name string, x kernels.Buffer, rows int) {
	_, cols := x.Shape()
	data := make([]float32, rows*cols)
	if err := t.d.Read(data, x, 0); err != nil {
		panic(failure{err})
	}
	t.values = append(t.values, reading{name, cols, data})
}

// close gives back what the scenario made.
func (t *trace) close() {
	for _, h := range t.handles {
		t.d.Free(h)
	}
}

// play runs a scenario on d with a fresh batch of the given rows.
func play(d kernels.Device, b kernels.Batch, scenario func(*trace)) (t *trace, err error) {
	b.Faults = nil
	t = &trace{d: d, b: &b}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.err
		default:
			err = fmt.Errorf("panic: %v", r)
		}
		t.close()
	}()
	scenario(t)
	return t, d.Sync()
}

// same runs the scenario on the oracle and on every device and compares what
// was read, bit for bit, and the faults.
func (s *suite) same(name string, b kernels.Batch, scenario func(*trace)) {
	if !s.goOn() {
		return
	}
	want, err := play(Naive(), b, scenario)
	if err != nil {
		s.failed(name, "the oracle", err)
		return
	}
	for _, d := range s.devices {
		got, err := play(d, b, scenario)
		if err == nil {
			err = differ(got, want)
		}
		if err != nil {
			s.failed(name, d.Name(), err)
		}
	}
}

// differ describes the first difference between two traces. What faulted rows
// hold is not compared, nor the payload of a NaN.
func differ(got, want *trace) error {
	byRow := func(a, b kernels.Fault) int { return a.Row - b.Row }
	g, w := slices.Clone(got.b.Faults), slices.Clone(want.b.Faults)
	slices.SortFunc(g, byRow)
	slices.SortFunc(w, byRow)
	if !slices.Equal(g, w) {
		return fmt.Errorf("faults %+v, want %+v", g, w)
	}
	if len(got.values) != len(want.values) {
		return fmt.Errorf("%d readings, want %d", len(got.values), len(want.values))
	}
	for i, r := range want.values {
		for k, x := range r.data {
			y := got.values[i].data[k]
			if math.Float32bits(x) == math.Float32bits(y) || x != x && y != y {
				continue
			}
			if slices.ContainsFunc(w, func(f kernels.Fault) bool { return f.Row == k/r.cols }) {
				continue
			}
			return fmt.Errorf("%s: row %d element %d is %g (%08x), want %g (%08x)", r.name, k/r.cols, k%r.cols,
				y, math.Float32bits(y), x, math.Float32bits(x))
		}
	}
	return nil
}

// rows makes a batch of n rows of one sequence, positions from 0.
func rows(n int) kernels.Batch {
	b := kernels.Batch{Rows: make([]kernels.Row, n), Layer: 7}
	for i := range b.Rows {
		b.Rows[i].Pos = int32(i)
	}
	return b
}

// packed packs GGUF bytes.
func packed(t quant.Type, rows, cols int, src []byte) *quant.Packed {
	p := must(quant.New(t, rows, cols))
	if err := p.Pack(src, 0, p.Groups()); err != nil {
		panic(failure{err})
	}
	return p
}

// table is a RoPE table of plain frequencies.
func table(positions, dims int) (cos, sin []float32) {
	cos, sin, err := arith.RopeTable(arith.RopeParams{Dims: dims, Base: 10000}, positions)
	if err != nil {
		panic(failure{err})
	}
	return cos, sin
}
