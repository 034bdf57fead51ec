package speed

import (
	"crypto/sha256"
	"encoding/hex"
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

const (
	// copies of the matrix lie on a card, so that its caches do not hold what is
	// read again; fewer where it is small.
	copies = 6
	// burst is how many products are asked for before the card is waited for.
	burst = 12
)

// MeasureCard times a device with memory of its own: the weights that it takes and
// reads, and its products at a prefill's width. Products are asked for in bursts,
// as a layer does, so that the time to reach the card weighs as little as there.
func MeasureCard(dev kernels.Device) (Speed, error) { return measureCard(dev, rows, cols, small) }

func measureCard(dev kernels.Device, rows, cols int, layer model.Config) (Speed, error) {
	p, err := weights(rows, cols)
	if err != nil {
		return Speed{}, err
	}
	fill(p)
	layers, err := step(dev, p, layer, cardLayers)
	if err != nil {
		return Speed{}, err
	}
	var list []kernels.Matrix
	defer func() {
		for _, m := range list {
			_ = m.Close()
		}
	}()
	var s Speed
	for range copies {
		begin := time.Now()
		m, err := dev.NewMatrix(p)
		if err != nil && len(list) == 0 {
			return Speed{}, fmt.Errorf("measure speed: %w", err)
		}
		if err != nil {
			break // a small card
		}
		list = append(list, m)
		if err := dev.Sync(); err != nil {
			return Speed{}, fmt.Errorf("measure speed: %w", err)
		}
		s.UploadBps = max(s.UploadBps, float64(p.Bytes())/max(time.Since(begin), time.Microsecond).Seconds())
	}
	one, err := bursts(dev, list, rows, cols, 1, 4)
	if err != nil {
		return Speed{}, err
	}
	s.DecodeBps = float64(p.Bytes()) / one.Seconds()
	s.Layer = layers.rest(s.DecodeBps)
	few, err := top(p, max(quant.GroupRows, rows/16))
	if err != nil {
		return Speed{}, err
	}
	part, err := dev.NewMatrix(few)
	if err != nil {
		return Speed{}, fmt.Errorf("measure speed: %w", err)
	}
	defer func() { _ = part.Close() }()
	many, err := bursts(dev, []kernels.Matrix{part}, few.Rows, cols, width, 3)
	if err != nil {
		return Speed{}, err
	}
	s.PrefillOps = float64(few.Rows) * float64(cols) * width / many.Seconds()
	if many > quickProduct {
		return s, nil
	}
	// So little does not fill a large card: a prefill's chunk of all rows.
	whole, err := bursts(dev, list, rows, cols, 4*width, 2)
	if err != nil {
		return Speed{}, err
	}
	s.PrefillOps = max(s.PrefillOps, float64(rows)*float64(cols)*4*width/whole.Seconds())
	return s, nil
}

// quickProduct is the time of a product below which a card is measured with a larger one.
const quickProduct = 2 * time.Millisecond

// bursts is the shortest time of a product among a few bursts over the matrices.
func bursts(dev kernels.Device, list []kernels.Matrix, rows, cols, width, rounds int) (time.Duration, error) {
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
	for i := range rounds + 1 {
		n := burst
		if i == 0 {
			n = 1 // drivers compile at the first one
		}
		begin := time.Now()
		dev.Prepare(b, a, x)
		for k := range n {
			dev.MatMul(b, y, list[k%len(list)], a)
		}
		if err := dev.Sync(); err != nil {
			return 0, fmt.Errorf("measure speed: %w", err)
		}
		if i > 0 {
			shortest = min(shortest, max(time.Since(begin)/burst, time.Nanosecond))
		}
		if i > 0 && time.Since(begin) > slowBurst {
			break
		}
	}
	return shortest, nil
}

// slowBurst is from when on one burst is enough.
const slowBurst = 500 * time.Millisecond

// cardFile is where a card's figures are kept.
func cardFile(dir, key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(dir, "speed-"+hex.EncodeToString(sum[:6])+".json")
}

// ForgetCard has CachedCard measure anew.
func ForgetCard(dir, key string) { _ = os.Remove(cardFile(dir, key)) }

// CachedCard gives the figures that were measured before under key (device, driver
// and build), or measures and keeps them in dir.
func CachedCard(dir, key string, dev kernels.Device) (Speed, error) {
	path := cardFile(dir, key)
	var c cached
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &c) == nil && c.Key == key && c.Speed.whole() {
		return c.Speed, nil
	}
	s, err := MeasureCard(dev)
	machine.ReturnMemory()
	if err != nil {
		return Speed{}, err
	}
	if b, err := json.MarshalIndent(cached{key, s}, "", "  "); err == nil {
		tmp := path + ".tmp"
		if os.WriteFile(tmp, b, 0o600) == nil {
			_ = os.Rename(tmp, path)
		}
	}
	return s, nil
}
