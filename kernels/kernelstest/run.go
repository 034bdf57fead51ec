package kernelstest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/quant"
)

// Run holds a device to the contract. newDevice makes one with the given number
// of threads (a device without threads of its own ignores it); the suite closes
// it. With -short fewer shapes and shorter contexts are tried.
func Run(t *testing.T, newDevice func(threads int) kernels.Device) {
	t.Helper()
	devices := []kernels.Device{newDevice(1), newDevice(3)}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.run(&suite{tb: t, devices: devices, short: testing.Short()})
		})
	}
	for _, d := range devices {
		if err := d.Close(); err != nil {
			t.Errorf("close %s: %v", d.Name(), err)
		}
	}
}

// cases are the parts of the suite.
var cases = []struct {
	name string
	run  func(*suite)
}{
	{"Products", products},
	{"ProductsOfEdgeData", productsOfEdgeData},
	{"ProductsAreCutAnywhere", productsCutAnywhere},
	{"Embedding", embedding},
	{"Norm", norms},
	{"Elementwise", elementwise},
	{"Rotation", rotation},
	{"AttentionShapes", attentionShapes},
	{"AttentionLengths", attentionLengths},
	{"AttentionBatches", attentionBatches},
	{"AttentionHidden", attentionHidden},
	{"Faults", faults},
	{"Moves", moves},
	{"RowsBeyondTheBatch", rest},
	{"Misuse", misuse},
}

// reporter is what the suite needs of a *testing.T.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// suite is one case at work.
type suite struct {
	tb      reporter
	devices []kernels.Device
	short   bool
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
	s.tb.Helper()
	want, err := play(Naive(), b, scenario)
	if err != nil {
		s.tb.Errorf("%s: the oracle failed: %v", name, err)
		return
	}
	for _, d := range s.devices {
		got, err := play(d, b, scenario)
		if err == nil {
			err = differ(got, want)
		}
		if err != nil {
			s.tb.Errorf("%s on %s: %v", name, d.Name(), err)
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
