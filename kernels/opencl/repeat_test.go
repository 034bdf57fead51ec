package opencl_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/kernelstest"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/quant"
)

// listening is a card that lists its launches.
type listening struct {
	*fakeCard
	heard []string
}

func (c *listening) Launch(k driver.Kernel, groups, local [3]int, args ...driver.Arg) error {
	s := fmt.Sprint(k.Name(), groups, local)
	for _, a := range args {
		s += fmt.Sprintf(" %p+%d %x", a.Memory, a.Offset, a.Bits)
	}
	c.heard = append(c.heard, s)
	return c.fakeCard.Launch(k, groups, local, args...)
}

// Steps of the same shape are the same launches, to the last argument, every second time:
// drivers may keep them as one.
func TestStepsAreTheSameLaunchesAgain(t *testing.T) {
	card := &listening{fakeCard: newFakeCard()}
	d, err := opencl.New(card)
	if err != nil {
		t.Fatal(err)
	}
	l := newLayer(t, d)
	p, err := quant.New(quant.Q4_K, 64, 256)
	if err != nil {
		t.Fatal(err)
	}
	w, err := d.NewMatrix(p)
	if err != nil {
		t.Fatal(err)
	}
	in, err := d.NewBuffer(2, 256)
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.NewActs(2, 256, kernels.Act8)
	if err != nil {
		t.Fatal(err)
	}
	shape := kernels.ExpertShape{Count: 4, Used: 2, Embd: 256, FFN: 16, Scale: 1}
	room, err := d.NewExperts(shape, 2, kernels.Act8)
	if err != nil {
		t.Fatal(err)
	}
	logits, err := d.NewBuffer(2, 4)
	if err != nil {
		t.Fatal(err)
	}
	down, err := quant.New(quant.F16, 4*256, 16)
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.NewMatrix(down)
	if err != nil {
		t.Fatal(err)
	}
	var steps [][]string
	for i := range 6 {
		card.heard = nil
		l.b.Rows[0].Pos, l.b.Rows[1].Pos = int32(i), int32(280+i)
		d.Prepare(&l.b, a, in)
		d.MatMul(&l.b, l.y, w, a)
		d.MixExperts(&l.b, in, room, logits, a, kernels.ExpertWeights{Gate: w, Up: w, Down: v})
		if err := l.run(); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, card.heard)
	}
	for i := 4; i < 6; i++ {
		for j := range steps[i] {
			if steps[i][j] != steps[i-2][j] {
				t.Errorf("step %d launches\n%s\ntwo before it was\n%s", i, steps[i][j], steps[i-2][j])
			}
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// A row that could not be quantised once is no fault of a later row in its place, whatever
// was prepared in between.
func TestRefusedRowsAreForgotten(t *testing.T) {
	d := newDevice(t)
	const rows, cols = 70, 64
	p, err := quant.New(quant.Q8_0, 16, cols)
	if err != nil {
		t.Fatal(err)
	}
	bad := make([]float32, rows*cols)
	for i := range bad {
		bad[i] = float32(math.Inf(1))
	}
	for _, between := range [][]int{{}, {1}, {0}, {1, 0}, {0, 1, 1}, {3, 69}} {
		for _, dev := range []kernels.Device{d, kernelstest.Naive()} {
			w, err := dev.NewMatrix(p)
			if err != nil {
				t.Fatal(err)
			}
			x, _ := dev.NewBuffer(rows, cols)
			good, _ := dev.NewBuffer(rows, cols)
			out, _ := dev.NewBuffer(rows, 16)
			a, err := dev.NewActs(rows, cols, kernels.Act8)
			if err != nil {
				t.Fatal(err)
			}
			dev.Write(x, 0, bad)
			batch := func(n int) *kernels.Batch { return &kernels.Batch{Rows: make([]kernels.Row, n)} }
			first, last := batch(rows), batch(rows)
			dev.Prepare(first, a, x)
			for _, n := range between {
				dev.Prepare(batch(n), a, good)
			}
			dev.Prepare(last, a, good)
			dev.MatMul(last, out, w, a)
			if err := dev.Sync(); err != nil || len(last.Faults) != 0 {
				t.Errorf("%s, %v in between: %d faults, error %v", dev.Name(), between, len(last.Faults), err)
			}
			dev.Prepare(first, a, x)
			dev.MatMul(first, out, w, a)
			if err := dev.Sync(); err != nil || len(first.Faults) != rows {
				t.Errorf("%s, %v in between: %d faults of %d bad rows, error %v", dev.Name(), between, len(first.Faults), rows, err)
			}
			_ = w.Close()
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
