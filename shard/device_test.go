package shard_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/sample"
)

// idleDevice computes nothing: every value it gives is 0. It counts what it has handed out, and can be lost or full.
type idleDevice struct {
	made, freed int
	room        int   // handles it can still make
	lost        error // of the next Sync or Read
	logits      error // of the next read of logits
	vocab       int
	card        bool // logits are reduced where they are
}

type idleHandle struct {
	d          *idleDevice
	rows, cols int
	layout     kernels.KVLayout
}

func (h idleHandle) Shape() (rows, cols int)  { return h.rows, h.cols }
func (h idleHandle) Len() int                 { return h.cols }
func (h idleHandle) Layout() kernels.KVLayout { return h.layout }
func (h idleHandle) Blocks() int              { return h.rows }
func (h idleHandle) Positions() int           { return h.rows }
func (h idleHandle) Dims() int                { return h.cols }
func (h idleHandle) Close() error             { h.d.freed++; return nil }

var errFull = errors.New("device is full")

func (d *idleDevice) handle(rows, cols int) (*idleHandle, error) {
	if d.room == 0 {
		return nil, errFull
	}
	d.room--
	d.made++
	return &idleHandle{d: d, rows: rows, cols: cols}, nil
}

func (d *idleDevice) Name() string { return "idle" }
func (d *idleDevice) NewMatrix(p *quant.Packed) (kernels.Matrix, error) {
	return d.handle(p.Rows, p.Cols)
}

func (d *idleDevice) NewVector(v []float32) (kernels.Vector, error) { return d.handle(1, len(v)) }

func (d *idleDevice) NewBuffer(rows, cols int) (kernels.Buffer, error)    { return d.handle(rows, cols) }
func (d *idleDevice) NewKV(_ kernels.KVLayout, n int) (kernels.KV, error) { return d.handle(n, 0) }
func (d *idleDevice) NewActs(rows, cols int, _ kernels.ActBits) (kernels.Acts, error) {
	return d.handle(rows, cols)
}

func (d *idleDevice) NewRope(_, _ []float32, positions, dims int) (kernels.Rope, error) {
	return d.handle(positions, dims)
}

// idleExperts is a handle of experts.
type idleExperts struct{ *idleHandle }

// Shape gives no shape: nobody asks for one.
func (idleExperts) Shape() kernels.ExpertShape { return kernels.ExpertShape{} }

func (d *idleDevice) NewExperts(s kernels.ExpertShape, rows int, _ kernels.ActBits) (kernels.Experts, error) {
	h, err := d.handle(rows, s.Embd)
	return idleExperts{h}, err
}

func (d *idleDevice) MixExperts(*kernels.Batch, kernels.Buffer, kernels.Experts, kernels.Buffer, kernels.Acts, kernels.ExpertWeights) {
}
func (d *idleDevice) AddGated(*kernels.Batch, kernels.Buffer, kernels.Buffer, kernels.Buffer) {}

func (d *idleDevice) Free(any)                             { d.freed++ }
func (d *idleDevice) Write(kernels.Buffer, int, []float32) {}
func (d *idleDevice) Read(dst []float32, src kernels.Buffer, _ int) error {
	clear(dst)
	if _, cols := src.Shape(); cols == d.vocab && d.logits != nil {
		return d.logits
	}
	return d.lost
}

func (d *idleDevice) HostMemory() bool { return !d.card }

func (d *idleDevice) Reduce(x kernels.Buffer, r *kernels.Reduction) error {
	r.Fit(x.Shape())
	for i := range r.Top {
		r.Top[i] = kernels.Element{Col: int32(i % r.Width)}
	}
	clear(r.Values)
	for i := range r.Sums {
		r.Sums[i] = 1 << 40
	}
	if d.logits != nil {
		return d.logits
	}
	return d.lost
}

func (d *idleDevice) Embed(*kernels.Batch, kernels.Buffer, kernels.Matrix, []int32) {}

func (d *idleDevice) Norm(*kernels.Batch, kernels.Buffer, kernels.Buffer, kernels.Vector, float32) {}

func (d *idleDevice) Prepare(*kernels.Batch, kernels.Acts, kernels.Buffer) {}

func (d *idleDevice) MatMul(*kernels.Batch, kernels.Buffer, kernels.Matrix, kernels.Acts) {}

func (d *idleDevice) AddVector(*kernels.Batch, kernels.Buffer, kernels.Vector) {}

func (d *idleDevice) Rotate(*kernels.Batch, kernels.Buffer, int, kernels.Rope, kernels.RopeMode) {}

func (d *idleDevice) StoreKV(*kernels.Batch, kernels.KV, int, kernels.Buffer, kernels.Buffer) {}

func (d *idleDevice) Attention(*kernels.Batch, kernels.Buffer, kernels.Buffer, kernels.KV, int, kernels.AttnParams) {
}
func (d *idleDevice) SiLUMul(*kernels.Batch, kernels.Buffer, kernels.Buffer, kernels.Buffer) {}
func (d *idleDevice) Add(*kernels.Batch, kernels.Buffer, kernels.Buffer)                     {}
func (d *idleDevice) Gather(kernels.Buffer, kernels.Buffer, []int32)                         {}
func (d *idleDevice) CheckFinite(*kernels.Batch, kernels.Buffer)                             {}
func (d *idleDevice) Sync() error                                                            { return d.lost }

func (d *idleDevice) Close() error { return nil }

// idleStage is a stage of a tiny model on an idle device.
func idleStage(t *testing.T, d *idleDevice, file string) (*shard.Stage, error) {
	t.Helper()
	w := open(t, file)
	d.vocab = w.cfg.Vocab
	return shard.New(context.Background(), shard.Options{
		Model: w.cfg, Profile: f32Profile(w.cfg, 2048), Range: w.cfg.All(), Source: w, Device: d, Blocks: 1024,
	})
}

func TestSteadyDecodeAllocatesNothing(t *testing.T) {
	for _, card := range []bool{false, true} {
		steadyDecode(t, card)
	}
}

func steadyDecode(t *testing.T, card bool) {
	t.Helper()
	s, err := idleStage(t, &idleDevice{room: 1000, card: card}, tiny)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var runs []shard.Run
	for i := range 3 {
		id := shard.SessionID{byte(i)}
		params := sample.Params{
			Temperature: 0.8, TopP: 0.9, TopK: 50, Repeat: 1.1, Logprobs: true, TopLogprobs: 5, Seed: uint64(i),
		}
		if _, err := s.Open(shard.SessionSpec{ID: id, Positions: 1000, Sampling: params}); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(id, 0, 0); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, shard.Run{Session: id, Tokens: []int32{int32(40 + i)}, Sample: shard.SampleAll, States: true})
	}
	decode := decoding(t, s, runs)
	for range 10 {
		decode()
	}
	if n := testing.AllocsPerRun(500, decode); n != 0 {
		t.Errorf("%v allocations a step, logits on a card %v; want none", n, card)
	}
}

// decoding gives a step of runs that each go on with the token that they drew.
func decoding(t *testing.T, s *shard.Stage, runs []shard.Run) func() {
	return func() {
		res, err := s.Step(runs)
		if err != nil {
			t.Fatal(err)
		}
		for i := range res {
			if res[i].Err != nil {
				t.Fatal(res[i].Err)
			}
			runs[i].Base++
			runs[i].Tokens[0] = res[i].Tokens[0].ID
		}
	}
}

func TestSteadyDecodeOnTheCPUAllocatesNothing(t *testing.T) {
	for _, file := range []string{tiny, tinyExperts} {
		t.Run(file, func(t *testing.T) { decodeWithoutAllocations(t, file) })
	}
}

func decodeWithoutAllocations(t *testing.T, file string) {
	s := soloOf(t, open(t, file), pipeOptions{})
	runs := []shard.Run{{Session: shard.SessionID{1}, Tokens: []int32{40}, Sample: shard.SampleAll}}
	if _, err := s.Open(shard.SessionSpec{ID: runs[0].Session, Positions: 128}); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(runs[0].Session, 0, 0); err != nil {
		t.Fatal(err)
	}
	decode := decoding(t, s, runs)
	for range 20 {
		decode()
	}
	if n := testing.AllocsPerRun(80, decode); n > 0 {
		t.Errorf("%v allocations a step; want none", n)
	}
}

func TestLostDeviceEndsTheStage(t *testing.T) {
	lost := errors.New("device fell off the bus")
	for name, lose := range map[string]func(*idleDevice){
		"in the layers":      func(d *idleDevice) { d.lost = lost },
		"in the logits":      func(d *idleDevice) { d.logits = lost },
		"in a card's logits": func(d *idleDevice) { d.logits, d.card = lost, true },
	} {
		d := &idleDevice{room: 1000}
		s, err := idleStage(t, d, tiny)
		if err != nil {
			t.Fatal(err)
		}
		id := opened(t, s, 1)
		lose(d)
		run := shard.Run{Session: id, Tokens: []int32{1}, Sample: shard.SampleLast}
		if _, err := s.Step([]shard.Run{run}); !errors.Is(err, lost) || !strings.Contains(err.Error(), "layers 0 to 1") {
			t.Errorf("%s: %v; want the device's error with the stage's layers", name, err)
		}
		d.lost, d.logits = nil, nil
		_, err = s.Step([]shard.Run{run})
		wantErr(t, err, lost)
		_, err = s.Open(shard.SessionSpec{ID: shard.SessionID{2}, Positions: 1})
		wantErr(t, err, lost)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if d.freed != d.made {
			t.Errorf("%s: %d of %d handles were given back", name, d.freed, d.made)
		}
	}
}

func TestFullDeviceGetsEverythingBack(t *testing.T) {
	for _, file := range []string{tiny, tinyExperts} {
		t.Run(file, func(t *testing.T) { fillDevice(t, file) })
	}
}

func fillDevice(t *testing.T, file string) {
	for room := 0; ; room++ {
		d := &idleDevice{room: room}
		s, err := idleStage(t, d, file)
		if err == nil {
			if err := s.Close(); err != nil || d.freed != d.made || room < 30 {
				t.Errorf("with room for %d handles: %v, %d of %d given back", room, err, d.freed, d.made)
			}
			return
		}
		wantErr(t, err, errFull)
		if s != nil || d.freed != d.made {
			t.Errorf("with room for %d handles: %d of %d given back", room, d.freed, d.made)
		}
	}
}
