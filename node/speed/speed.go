// Package speed measures how fast a device computes: bytes of weights per
// second at width 1 (decode is bound by memory) and multiply-adds per second
// at a prefill's width. The figures go into the node's capacity record, and the
// planner divides by them; they are kept per machine and build, because
// measuring them at every start would make starts slow.
//
// It knows nothing of models: it multiplies a matrix of its own. Start reading
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
)

// Speed is what was measured.
type Speed struct {
	DecodeBps  float64 `json:"decode_bytes_per_s"`
	PrefillOps float64 `json:"prefill_multiply_adds_per_s"`
	// UploadBps is how fast a device with memory of its own takes weights, in bytes a
	// second; 0 for the processor, which reads them where they are.
	UploadBps float64 `json:"upload_bytes_per_s,omitempty"`
}

// The matrix: larger than most last-level caches, of the commonest size of type.
const (
	rows  = 20480
	cols  = 4096
	width = 64
)

// Measure times the device for about a tenth of a second and gives the best of
// a few rounds, the machine's speed when nobody disturbs it. It uses about
// 50 MB while it runs.
func Measure(dev kernels.Device) (Speed, error) {
	s, _, err := measure(dev, rows, cols)
	return s, err
}

func measure(dev kernels.Device, rows, cols int) (Speed, use, error) {
	p, err := quant.New(quant.Q4_0, rows, cols)
	if err != nil {
		return Speed{}, use{}, fmt.Errorf("measure speed: %w", err)
	}
	for i := range p.Quants {
		p.Quants[i] = byte(i * 37)
	}
	for i := 0; i+1 < len(p.Scales); i += 2 {
		p.Scales[i+1] = 0x20 // 2^-7 as f16
	}
	m, err := dev.NewMatrix(p)
	if err != nil {
		return Speed{}, use{}, fmt.Errorf("measure speed: %w", err)
	}
	defer func() { _ = m.Close() }()
	var s Speed
	few := rows / 16
	one, first, err := best(dev, m, rows, cols, 1, 6)
	if err != nil {
		return Speed{}, use{}, err
	}
	s.DecodeBps = float64(p.Bytes()) / one.Seconds()
	part, err := slice(dev, p, few)
	if err != nil {
		return Speed{}, use{}, err
	}
	defer func() { _ = part.Close() }()
	many, second, err := best(dev, part, few, cols, width, 3)
	if err != nil {
		return Speed{}, use{}, err
	}
	s.PrefillOps = float64(few) * float64(cols) * width / many.Seconds()
	return s, first.add(second), nil
}

// slice is a matrix of the first rows of p.
func slice(dev kernels.Device, p *quant.Packed, rows int) (kernels.Matrix, error) {
	part, err := quant.New(p.Type, rows, p.Cols)
	if err != nil {
		return nil, fmt.Errorf("measure speed: %w", err)
	}
	copy(part.Quants, p.Quants)
	copy(part.Scales, p.Scales)
	m, err := dev.NewMatrix(part)
	if err != nil {
		return nil, fmt.Errorf("measure speed: %w", err)
	}
	return m, nil
}

// best is the shortest of a few products at a width, and what all of them had of
// the processors.
func best(dev kernels.Device, m kernels.Matrix, rows, cols, width, rounds int) (time.Duration, use, error) {
	x, err := dev.NewBuffer(width, cols)
	if err != nil {
		return 0, use{}, fmt.Errorf("measure speed: %w", err)
	}
	defer dev.Free(x)
	y, err := dev.NewBuffer(width, rows)
	if err != nil {
		return 0, use{}, fmt.Errorf("measure speed: %w", err)
	}
	defer dev.Free(y)
	a, err := dev.NewActs(width, cols, kernels.Act8)
	if err != nil {
		return 0, use{}, fmt.Errorf("measure speed: %w", err)
	}
	defer dev.Free(a)
	in := make([]float32, width*cols)
	for i := range in {
		in[i] = float32(i%17) - 8
	}
	dev.Write(x, 0, in)
	b := &kernels.Batch{Rows: make([]kernels.Row, width)}
	shortest := time.Duration(1<<63 - 1)
	used := watch()
	for range rounds + 1 { // the first also touches the pages
		begin := time.Now()
		dev.Prepare(b, a, x)
		dev.MatMul(b, y, m, a)
		if err := dev.Sync(); err != nil {
			return 0, use{}, fmt.Errorf("measure speed: %w", err)
		}
		shortest = min(shortest, max(time.Since(begin), time.Nanosecond))
	}
	return shortest, used(), nil
}

type cached struct {
	Key   string `json:"key"`
	Speed Speed  `json:"speed"`
}

// Cached gives the figures measured before under key (machine, device, build),
// or measures and keeps them in dir. A file that cannot be read or written
// costs a measurement, nothing else. Figures of a machine that was busy with
// something else are used and not kept: the next start measures again. threads
// is how many the device computes with.
func Cached(dir, key string, threads int, dev kernels.Device) (Speed, error) {
	return cachedBy(dir, key, threads, func() (Speed, use, error) {
		s, u, err := measure(dev, rows, cols)
		machine.ReturnMemory() // the matrix would stay resident beside an idle node
		return s, u, err
	})
}

func cachedBy(dir, key string, threads int, measure func() (Speed, use, error)) (Speed, error) {
	path := filepath.Join(dir, "speed.json")
	var c cached
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &c) == nil && c.Key == key && c.Speed.DecodeBps > 0 && c.Speed.PrefillOps > 0 {
		return c.Speed, nil
	}
	var s Speed
	quiet := false
	for range tries {
		once, u, err := measure()
		if err != nil {
			return Speed{}, err
		}
		s.DecodeBps, s.PrefillOps = max(s.DecodeBps, once.DecodeBps), max(s.PrefillOps, once.PrefillOps)
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
