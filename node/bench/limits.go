package bench

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// Sizes of what is measured: memory that no cache holds, and a matrix that the
// second-level cache of most cores does.
const (
	readBytes   = 512 << 20
	productSize = 1024
	productRows = 128
)

// limitTime is how long one of the machine's limits is measured.
const limitTime = 400 * time.Millisecond

// readSpeed is the best rate, in bytes a second, at which so many goroutines
// read memory once from end to end, each a part of its own. They search for a
// byte that is not there, which the standard library does with vectors.
func readSpeed(size, threads int, limit time.Duration) float64 {
	buf := bytes.Repeat([]byte{1}, size)
	part := size / threads
	shortest := time.Duration(math.MaxInt64)
	for end := time.Now().Add(limit); ; {
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range threads {
			wg.Go(func() {
				if bytes.IndexByte(buf[i*part:(i+1)*part], 2) >= 0 {
					panic("bench: a byte that was never written")
				}
			})
		}
		wg.Wait()
		shortest = min(shortest, max(time.Since(begin), 1))
		if time.Now().After(end) {
			return float64(part*threads) / shortest.Seconds()
		}
	}
}

// productSpeed is the best rate, in operations a second, of the device's
// products on a hot matrix of a few common types.
func productSpeed(dev kernels.Device, size int, limit time.Duration) (float64, error) {
	most := 0.0
	types := []quant.Type{quant.Q4_0, quant.Q8_0, quant.Q4_K}
	for _, t := range types {
		rate, err := productSpeedOf(dev, t, size, limit/time.Duration(len(types)))
		if err != nil {
			return 0, fmt.Errorf("measure products: %w", err)
		}
		most = max(most, rate)
	}
	return most, nil
}

func productSpeedOf(dev kernels.Device, t quant.Type, size int, limit time.Duration) (float64, error) {
	p, err := quant.New(t, size, size)
	if err != nil {
		return 0, err
	}
	for i := range p.Quants {
		p.Quants[i] = byte(i * 37)
	}
	for i := 1; i < len(p.Scales); i += 2 {
		p.Scales[i] = 0x20 // 2^-7 as f16
	}
	m, err := dev.NewMatrix(p)
	if err != nil {
		return 0, err
	}
	defer func() { _ = m.Close() }()
	x, err := dev.NewBuffer(productRows, size)
	if err != nil {
		return 0, err
	}
	defer dev.Free(x)
	y, err := dev.NewBuffer(productRows, size)
	if err != nil {
		return 0, err
	}
	defer dev.Free(y)
	a, err := dev.NewActs(productRows, size, kernels.Act8)
	if err != nil {
		return 0, err
	}
	defer dev.Free(a)
	in := make([]float32, productRows*size)
	for i := range in {
		in[i] = float32(i%17) - 8
	}
	dev.Write(x, 0, in)
	b := &kernels.Batch{Rows: make([]kernels.Row, productRows)}
	dev.Prepare(b, a, x)
	shortest := time.Duration(math.MaxInt64)
	for end := time.Now().Add(limit); ; {
		begin := time.Now()
		dev.MatMul(b, y, m, a)
		if err := dev.Sync(); err != nil {
			return 0, err
		}
		shortest = min(shortest, max(time.Since(begin), 1))
		if time.Now().After(end) {
			return 2 * float64(size) * float64(size) * productRows / shortest.Seconds(), nil
		}
	}
}

// summary gives mean, sample standard deviation and median.
func summary(v []float64) (mean, deviation, median float64) {
	for _, x := range v {
		mean += x
	}
	n := len(v)
	mean /= float64(n)
	for _, x := range v {
		deviation += (x - mean) * (x - mean)
	}
	if n > 1 {
		deviation = math.Sqrt(deviation / float64(n-1))
	}
	s := slices.Sorted(slices.Values(v))
	return mean, deviation, (s[(n-1)/2] + s[n/2]) / 2
}
