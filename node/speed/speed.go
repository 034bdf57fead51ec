// Package speed measures how fast a device computes: bytes of weights per
// second at width 1 (decode is bound by memory), what a layer takes beside them,
// and multiply-adds per second at a prefill's width. The figures go into the node's capacity record, and the
// planner divides by them; they are kept per machine and build, because
// measuring them at every start would make starts slow.
//
// It needs no model: its matrices and layers are made up. Start reading
// at Measure.
package speed

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/shard/model"
)

// Speed is what was measured.
type Speed struct {
	DecodeBps float64 `json:"decode_bytes_per_s"`
	// FarBps is the decode rate where a step reads five times as much, of which a
	// last-level cache holds a smaller part; 0 where memory was too little to tell,
	// and for a card.
	FarBps float64 `json:"far_bytes_per_s,omitempty"`
	// Layer is what a layer of a decode step takes beside reading its weights.
	Layer      time.Duration `json:"layer_ns"`
	PrefillOps float64       `json:"prefill_multiply_adds_per_s"`
	// UploadBps is how fast a device with memory of its own takes weights, in bytes a
	// second; 0 for the processor, which reads them where they are.
	UploadBps float64 `json:"upload_bytes_per_s,omitempty"`
}

// The matrix: 47 MB (scheduler.NearBytes), of the commonest size of type.
const (
	rows  = 20480
	cols  = 4096
	width = 64
	// far is how many of them lie behind each other where caches hold less.
	far = 5
	// roomy is which multiple of what a measurement takes has to be free for it.
	roomy = 8
)

// Measure times the device for about three tenths of a second and gives the best
// of a few rounds, the machine's speed when nobody disturbs it. It uses about
// 240 MB while it runs, or 50 MB where less than 2 GB of memory are free.
func Measure(dev kernels.Device, free int64) (Speed, error) {
	b, err := newBed(size{rows, cols, small, free})
	if err != nil {
		return Speed{}, err
	}
	s, _, err := b.measure(dev, 0)
	return s, err
}

// size is of what is measured, and the bytes of memory that are free.
type size struct {
	rows, cols int
	layer      model.Config
	free       int64
}

// bed is what is measured with.
type bed struct {
	size
	near *quant.Packed
	all  *quant.Packed // begins with near; nil where memory is too little for it
}

// newBed has the near pages in memory.
func newBed(z size) (*bed, error) {
	all, err := weights(z.rows*far, z.cols)
	if err != nil {
		return nil, err
	}
	b := &bed{size: z, all: all}
	if b.near, err = top(all, z.rows); err != nil {
		return nil, err
	}
	if all.Bytes() > z.free/roomy {
		b.all = nil
	}
	fill(b.near)
	return b, nil
}

// measure leaves out what takes longest, the far rate, where others computed
// meanwhile and threads says that another try follows: 0 says that none does.
func (b *bed) measure(dev kernels.Device, threads int) (s Speed, u use, err error) {
	used := watch()
	one, err := product(dev, b.near, 1, 6)
	if err != nil {
		return Speed{}, use{}, err
	}
	s.DecodeBps = float64(b.near.Bytes()) / one.Seconds()
	layers, err := step(dev, b.near, b.layer, b.rows)
	if err != nil {
		return Speed{}, use{}, err
	}
	s.Layer = layers.rest(s.DecodeBps)
	few, err := top(b.near, max(quant.GroupRows, b.rows/16))
	if err != nil {
		return Speed{}, use{}, err
	}
	many, err := product(dev, few, width, 3)
	if err != nil {
		return Speed{}, use{}, err
	}
	s.PrefillOps = float64(few.Rows) * float64(b.cols) * width / many.Seconds()
	if u = used(); b.all == nil || threads > 0 && !u.quiet(threads) {
		return s, u, nil
	}
	touch(b.all)
	if one, err = product(dev, b.all, 1, 1); err != nil {
		return Speed{}, use{}, err
	}
	s.FarBps = float64(b.all.Bytes()) / one.Seconds()
	return s, used(), nil
}

// weights is a matrix of zeros that takes no memory yet.
func weights(rows, cols int) (*quant.Packed, error) {
	p, err := quant.New(quant.Q4_0, rows, cols)
	if err != nil {
		return nil, fmt.Errorf("measure speed: %w", err)
	}
	return p, nil
}

// top is a matrix of the first rows of p, whose bytes it shares.
func top(p *quant.Packed, rows int) (*quant.Packed, error) {
	quants, scales, err := quant.PackedSize(p.Type, rows, p.Cols)
	if err != nil {
		return nil, fmt.Errorf("measure speed: %w", err)
	}
	return &quant.Packed{Type: p.Type, Rows: rows, Cols: p.Cols, Quants: p.Quants[:quants], Scales: p.Scales[:scales]}, nil
}

// fill gives quants that differ, and scales of 2^-7.
func fill(p *quant.Packed) {
	var quants, scales [4096]byte
	for i := range quants {
		quants[i] = byte(i * 37)
	}
	for i := 1; i < len(scales); i += 2 {
		scales[i] = 0x20 // of an f16
	}
	for i := 0; i < len(p.Quants); i += len(quants) {
		copy(p.Quants[i:], quants[:])
	}
	for i := 0; i < len(p.Scales); i += len(scales) {
		copy(p.Scales[i:], scales[:])
	}
}

// touch has the pages of a matrix lie in memory, which is all that a rate needs.
func touch(p *quant.Packed) {
	const page = 4096
	for _, b := range [][]byte{p.Quants, p.Scales} {
		for i := 0; i < len(b); i += page {
			b[i] |= 1
		}
	}
}

// product is the shortest of a few products of p at a width.
func product(dev kernels.Device, p *quant.Packed, width, rounds int) (time.Duration, error) {
	m, err := dev.NewMatrix(p)
	if err != nil {
		return 0, fmt.Errorf("measure speed: %w", err)
	}
	defer func() { _ = m.Close() }()
	return best(dev, m, p.Rows, p.Cols, width, rounds)
}

// best is the shortest of a few products at a width.
func best(dev kernels.Device, m kernels.Matrix, rows, cols, width, rounds int) (time.Duration, error) {
	x, err := dev.NewBuffer(width, cols)
	if err != nil {
		return 0, fmt.Errorf("measure speed: %w", err)
	}
	defer dev.Free(x)
	y, err := dev.NewBuffer(width, rows)
	if err != nil {
		return 0, fmt.Errorf("measure speed: %w", err)
	}
	defer dev.Free(y)
	a, err := dev.NewActs(width, cols, kernels.Act8)
	if err != nil {
		return 0, fmt.Errorf("measure speed: %w", err)
	}
	defer dev.Free(a)
	dev.Write(x, 0, wave(width*cols))
	b := &kernels.Batch{Rows: make([]kernels.Row, width)}
	shortest := time.Duration(1<<63 - 1)
	for range rounds + 1 { // the first also touches the pages
		begin := time.Now()
		dev.Prepare(b, a, x)
		dev.MatMul(b, y, m, a)
		if err := dev.Sync(); err != nil {
			return 0, fmt.Errorf("measure speed: %w", err)
		}
		shortest = min(shortest, max(time.Since(begin), time.Nanosecond))
	}
	return shortest, nil
}

// whole says whether everything was measured that a device is planned with.
func (s Speed) whole() bool { return s.DecodeBps > 0 && s.PrefillOps > 0 && s.Layer > 0 }

// better has the better of each figure, and the layer's that belongs to the better
// rate: what a step took beside too low a rate is too little.
func (s Speed) better(o Speed) Speed {
	if o.DecodeBps > s.DecodeBps {
		s, o = o, s
	}
	s.FarBps, s.PrefillOps, s.UploadBps = max(s.FarBps, o.FarBps), max(s.PrefillOps, o.PrefillOps), max(s.UploadBps, o.UploadBps)
	return s
}

type cached struct {
	Key   string `json:"key"`
	Speed Speed  `json:"speed"`
}

// Cached gives the figures measured before under key (machine, device, build),
// or measures and keeps them in dir. A file that cannot be read or written
// costs a measurement, nothing else. Figures of a machine that was busy with
// something else are used and not kept: the next start measures again. threads
// is how many the device computes with, free the bytes of memory that are free.
func Cached(dir, key string, threads int, free int64, dev kernels.Device) (Speed, error) {
	var b *bed
	left := tries
	defer func() {
		if b != nil {
			b = nil
			machine.ReturnMemory() // the matrix would stay resident beside an idle node
		}
	}()
	return cachedBy(dir, key, threads, func() (s Speed, u use, err error) {
		if b == nil {
			if b, err = newBed(size{rows, cols, small, free}); err != nil {
				return Speed{}, use{}, err
			}
		}
		if left--; left == 0 {
			return b.measure(dev, 0)
		}
		return b.measure(dev, threads)
	})
}

func cachedBy(dir, key string, threads int, measure func() (Speed, use, error)) (Speed, error) {
	path := filepath.Join(dir, "speed.json")
	var c cached
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &c) == nil && c.Key == key && c.Speed.whole() {
		return c.Speed, nil
	}
	var s Speed
	quiet := false
	for range tries {
		once, u, err := measure()
		if err != nil {
			return Speed{}, err
		}
		s = s.better(once)
		if quiet = u.quiet(threads); quiet {
			break
		}
	}
	if !quiet {
		return s, nil
	}
	if b, err := json.MarshalIndent(cached{key, s}, "", "  "); err == nil {
		tmp := path + ".tmp"
		if os.WriteFile(tmp, b, 0o600) == nil {
			_ = os.Rename(tmp, path)
		}
	}
	return s, nil
}
