package opencl_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/quant"
)

// everything makes a handle of each kind and gives all back.
func everything(d *opencl.Device) error {
	var handles []any
	var closers []interface{ Close() error }
	defer func() {
		for _, h := range handles {
			d.Free(h)
			d.Free(h) // as good as once
		}
		for _, c := range closers {
			_ = c.Close()
			_ = c.Close()
		}
	}()
	for _, kind := range []quant.Type{quant.Q4_K, quant.Q8_0, quant.F16} {
		p, err := quant.New(kind, 20, 256)
		if err != nil {
			return err
		}
		m, err := d.NewMatrix(p)
		if err != nil {
			return err
		}
		closers = append(closers, m)
	}
	kv, err := d.NewKV(kernels.KVLayout{Layers: 3, Heads: 2, HeadDim: 16}, 4)
	if err != nil {
		return err
	}
	closers = append(closers, kv)
	for _, make := range []func() (any, error){
		func() (any, error) { return d.NewVector(make([]float32, 7)) },
		func() (any, error) { return d.NewBuffer(3, 9) },
		func() (any, error) { return d.NewActs(3, 64, kernels.Act8) },
		func() (any, error) { return d.NewActs(3, 64, kernels.Act16) },
		func() (any, error) {
			s := kernels.ExpertShape{Count: 5, Used: 2, Embd: 64, FFN: 32, Scale: 1}
			return d.NewExperts(s, 3, kernels.Act8)
		},
		func() (any, error) { return d.NewRope(make([]float32, 32), make([]float32, 32), 8, 8) },
	} {
		h, err := make()
		if err != nil {
			return err
		}
		handles = append(handles, h)
	}
	return nil
}

func TestMemoryThatIsFullIsAnError(t *testing.T) {
	for n := 1; ; n++ {
		card := newFakeCard()
		card.full = n
		d, err := opencl.New(card)
		if err != nil {
			if !errors.Is(err, driver.ErrNoMemory) || card.closed != 1 {
				t.Fatalf("alloc %d: %v, closed %d times", n, err, card.closed)
			}
			continue
		}
		own := len(card.live)
		err = everything(d)
		if len(card.live) != own {
			t.Fatalf("alloc %d: %d pieces of memory are left", n, len(card.live)-own)
		}
		if cerr := d.Sync(); cerr != nil {
			t.Fatalf("alloc %d: the device does not go on: %v", n, cerr)
		}
		if err := d.Close(); err != nil || card.closed != 1 {
			t.Fatalf("close: %v, %d times", err, card.closed)
		}
		if err == nil && card.allocs < n {
			break
		}
		if !errors.Is(err, driver.ErrNoMemory) {
			t.Fatalf("alloc %d: error %v", n, err)
		}
	}
}

// layer runs operations of a layer over two rows and gives what Sync says.
type layer struct {
	d       *opencl.Device
	b       kernels.Batch
	x, y, o kernels.Buffer
	k       kernels.Buffer
	w       kernels.Vector
	table   kernels.Rope
	kv      kernels.KV
	out     []float32
	asked   kernels.Reduction
}

func newLayer(t *testing.T, d *opencl.Device) *layer {
	t.Helper()
	l := &layer{d: d, out: make([]float32, 2*64)}
	l.b = kernels.Batch{Rows: []kernels.Row{{Pos: 3}, {Seq: 1, Pos: 300}}, Seqs: [][]int32{{0}, make([]int32, 20)}}
	for i := range l.b.Seqs[1] {
		l.b.Seqs[1][i] = int32(1 + i)
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	for _, b := range []*kernels.Buffer{&l.x, &l.y, &l.o} {
		*b, err = d.NewBuffer(2, 64)
		must(err)
	}
	l.k, err = d.NewBuffer(2, 32)
	must(err)
	l.w, err = d.NewVector(make([]float32, 64))
	must(err)
	l.table, err = d.NewRope(make([]float32, 16*301), make([]float32, 16*301), 301, 32)
	must(err)
	l.kv, err = d.NewKV(kernels.KVLayout{Layers: 1, Heads: 1, HeadDim: 32}, 21)
	must(err)
	l.asked = kernels.Reduction{Rows: 2, Width: 5, At: []kernels.Place{{Row: 1, Col: 3}}, Weigh: []kernels.Weighing{{Row: 1, Temperature: 1}}}
	return l
}

var lastRow = []int32{1}

func (l *layer) run() error {
	d, b := l.d, &l.b
	b.Faults = b.Faults[:0]
	d.Write(l.x, 0, l.out)
	d.Norm(b, l.y, l.x, l.w, 1e-5)
	d.AddVector(b, l.y, l.w)
	d.Rotate(b, l.y, 32, l.table, kernels.RopeHalves)
	d.StoreKV(b, l.kv, 0, l.k, l.k)
	d.Attention(b, l.o, l.y, l.kv, 0, kernels.AttnParams{Heads: 2, Scale: 1})
	d.Add(b, l.x, l.o)
	d.SiLUMul(b, l.x, l.x, l.y)
	d.CheckFinite(b, l.x)
	d.Gather(l.y, l.x, lastRow)
	if err := d.Reduce(l.x, &l.asked); err != nil {
		return err
	}
	if err := d.Read(l.out, l.x, 0); err != nil {
		return err
	}
	return d.Sync()
}

func TestLostDeviceIsTold(t *testing.T) {
	for name, lose := range map[string]func(*fakeCard){
		"launch": func(c *fakeCard) { c.launch = driver.ErrLost },
		"wait":   func(c *fakeCard) { c.sync = driver.ErrLost },
		"write":  func(c *fakeCard) { c.write = driver.ErrLost },
	} {
		card := newFakeCard()
		d, err := opencl.New(card)
		if err != nil {
			t.Fatal(err)
		}
		l := newLayer(t, d)
		if err := l.run(); err != nil {
			t.Fatal(err)
		}
		lose(card)
		for range 2 { // it stays lost
			if err := l.run(); !errors.Is(err, driver.ErrLost) || !strings.Contains(err.Error(), "fake card") {
				t.Errorf("%s: the layer gives %v", name, err)
			}
			if err := d.Sync(); !errors.Is(err, driver.ErrLost) {
				t.Errorf("%s: the wait gives %v", name, err)
			}
		}
		if err := everything(d); !errors.Is(err, driver.ErrLost) {
			t.Errorf("%s: new memory gives %v", name, err)
		}
		card.sync = nil
		if err := d.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
}

func TestSteadyOperationAllocatesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		card driver.Device
	}{{"fake", newFakeCard()}, {"real", nil}} {
		t.Run(c.name, func(t *testing.T) {
			if c.card == nil {
				c.card = openCard(t, opencl.Source())
			}
			d, err := opencl.New(c.card)
			if err != nil {
				t.Fatal(err)
			}
			l := newLayer(t, d)
			var failed error
			step := func() {
				if err := l.run(); err != nil {
					failed = err
				}
			}
			step()
			if n := testing.AllocsPerRun(100, step); n != 0 && !raced || failed != nil {
				t.Errorf("%v allocations a step, error %v; want none", n, failed)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
