// Package devicestest is a library of graphics processors for tests: its cards
// compute on the processor, count their memory as a card does, and fail on demand.
// It serves tests alone. Start at Backend.
package devicestest

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/node/devices"
)

// Backend knows some cards.
type Backend struct {
	Kind  string // "opencl" or "cuda"; default "opencl"
	Cards []*Card
	Err   error // of Devices

	Asked, Opened atomic.Int64 // calls of Devices and Open
}

// Card is one card. What it does may be changed while it is used.
type Card struct {
	Info   driver.Info
	Memory int64 // bytes that it has
	Says   int64 // bytes that its driver says it has; 0: Memory
	Tier   string
	Wrong  bool          // norms are off by a bit
	Slow   time.Duration // of each product

	onWait atomic.Pointer[func(n int64) error]
	onOpen atomic.Pointer[func()]
	onInfo atomic.Pointer[func()]

	Waits atomic.Int64
	used  atomic.Int64
	Open  atomic.Int64 // devices that are open
}

// OnWait has f called before each wait with the number of waits so far; its error is
// the wait's. Nil calls nothing.
func (c *Card) OnWait(f func(n int64) error) {
	if f == nil {
		c.onWait.Store(nil)
		return
	}
	c.onWait.Store(&f)
}

// OnInfo has f called before the card says what memory it has.
func (c *Card) OnInfo(f func()) { c.onInfo.Store(&f) }

// OnOpen has f called before the card is opened.
func (c *Card) OnOpen(f func()) { c.onOpen.Store(&f) }

// Used is how much of the card's memory is taken.
func (c *Card) Used() int64 { return c.used.Load() }

// Name implements devices.Backend.
func (b *Backend) Name() string {
	if b.Kind == "" {
		return "opencl"
	}
	return b.Kind
}

// Devices implements devices.Backend.
func (b *Backend) Devices() ([]driver.Info, error) {
	b.Asked.Add(1)
	if b.Err != nil {
		return nil, b.Err
	}
	var out []driver.Info
	for i, c := range b.Cards {
		info := c.Info
		info.Index, info.Memory = i, uint64(max(c.Memory, c.Says))
		if info.DriverVersion == "" {
			info.DriverVersion = "1.0"
		}
		out = append(out, info)
	}
	return out, nil
}

// Program implements devices.Backend.
func (b *Backend) Program() string { return "test" }

// Open implements devices.Backend.
func (b *Backend) Open(index int) (devices.Device, error) {
	b.Opened.Add(1)
	c := b.Cards[index]
	if f := c.onOpen.Load(); f != nil {
		(*f)()
	}
	d, err := cpu.New(cpu.Options{Threads: 1, Tier: c.Tier})
	if err != nil {
		return nil, err
	}
	c.Open.Add(1)
	return &device{Device: d, card: c, sizes: map[any]int64{}}, nil
}

// device is an open card.
type device struct {
	kernels.Device
	card *Card

	mu    sync.Mutex // guards sizes
	sizes map[any]int64

	moved opencl.Transfers
}

// Transfers counts as a card does: what is read, and what comes of logits.
func (d *device) Transfers() opencl.Transfers { return d.moved }

type matrix struct {
	kernels.Matrix
	d     *device
	bytes int64
}

func (m *matrix) Close() error {
	m.d.card.used.Add(-m.bytes)
	return m.Matrix.Close()
}

type memory struct {
	kernels.KV
	d     *device
	bytes int64
}

func (m *memory) Close() error {
	m.d.card.used.Add(-m.bytes)
	return m.KV.Close()
}

func (d *device) Name() string { return "test " + d.card.Info.Name }

func (d *device) take(bytes int64) error {
	if d.card.used.Add(bytes) > d.card.Memory {
		d.card.used.Add(-bytes)
		return fmt.Errorf("%s: %d bytes: %w", d.Name(), bytes, driver.ErrNoMemory)
	}
	return nil
}

// keep takes memory for a handle that Free gives back.
func keep[T any](d *device, bytes int64, make func() (T, error)) (T, error) {
	var none T
	if err := d.take(bytes); err != nil {
		return none, err
	}
	h, err := make()
	if err != nil {
		d.card.used.Add(-bytes)
		return none, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sizes[h] = bytes
	return h, nil
}

func (d *device) Free(handle any) {
	d.mu.Lock()
	d.card.used.Add(-d.sizes[handle])
	delete(d.sizes, handle)
	d.mu.Unlock()
	d.Device.Free(handle)
}

func (d *device) NewMatrix(p *quant.Packed) (kernels.Matrix, error) {
	if err := d.take(p.Bytes()); err != nil {
		return nil, err
	}
	m, err := d.Device.NewMatrix(p)
	if err != nil {
		d.card.used.Add(-p.Bytes())
		return nil, err
	}
	return &matrix{m, d, p.Bytes()}, nil
}

func (d *device) NewKV(l kernels.KVLayout, blocks int) (kernels.KV, error) {
	bytes := l.BlockBytes() * int64(blocks)
	if err := d.take(bytes); err != nil {
		return nil, err
	}
	m, err := d.Device.NewKV(l, blocks)
	if err != nil {
		d.card.used.Add(-bytes)
		return nil, err
	}
	return &memory{m, d, bytes}, nil
}

func (d *device) NewBuffer(rows, cols int) (kernels.Buffer, error) {
	return keep(d, int64(4*rows*cols), func() (kernels.Buffer, error) { return d.Device.NewBuffer(rows, cols) })
}

func (d *device) NewActs(rows, cols int, bits kernels.ActBits) (kernels.Acts, error) {
	return keep(d, int64(4*rows*cols), func() (kernels.Acts, error) { return d.Device.NewActs(rows, cols, bits) })
}

func (d *device) NewExperts(s kernels.ExpertShape, rows int, bits kernels.ActBits) (kernels.Experts, error) {
	bytes := int64(4 * rows * s.Used * (s.Embd + 2*s.FFN))
	return keep(d, bytes, func() (kernels.Experts, error) { return d.Device.NewExperts(s, rows, bits) })
}

func (d *device) MixExperts(b *kernels.Batch, dst kernels.Buffer, e kernels.Experts, l kernels.Buffer, x kernels.Acts, w kernels.ExpertWeights) {
	time.Sleep(d.card.Slow)
	w = kernels.ExpertWeights{Gate: w.Gate.(*matrix).Matrix, Up: w.Up.(*matrix).Matrix, Down: w.Down.(*matrix).Matrix}
	d.Device.MixExperts(b, dst, e, l, x, w)
}

func (d *device) Embed(b *kernels.Batch, dst kernels.Buffer, w kernels.Matrix, ids []int32) {
	d.Device.Embed(b, dst, w.(*matrix).Matrix, ids)
}

func (d *device) MatMul(b *kernels.Batch, dst kernels.Buffer, w kernels.Matrix, x kernels.Acts) {
	time.Sleep(d.card.Slow)
	d.Device.MatMul(b, dst, w.(*matrix).Matrix, x)
}

func (d *device) StoreKV(b *kernels.Batch, kv kernels.KV, layer int, k, v kernels.Buffer) {
	d.Device.StoreKV(b, kv.(*memory).KV, layer, k, v)
}

func (d *device) Attention(b *kernels.Batch, dst, q kernels.Buffer, kv kernels.KV, layer int, p kernels.AttnParams) {
	d.Device.Attention(b, dst, q, kv.(*memory).KV, layer, p)
}

func (d *device) Norm(b *kernels.Batch, dst, x kernels.Buffer, w kernels.Vector, eps float32) {
	d.Device.Norm(b, dst, x, w, eps)
	if rows, cols := dst.Shape(); d.card.Wrong && rows > 0 {
		row := make([]float32, cols)
		if d.Device.Read(row, dst, 0) == nil {
			row[cols/2] = math.Float32frombits(math.Float32bits(row[cols/2]) ^ 1)
			d.Device.Write(dst, 0, row)
		}
	}
}

// wait is before each wait.
func (d *device) wait() error {
	n := d.card.Waits.Add(1)
	if f := d.card.onWait.Load(); f != nil {
		return (*f)(n)
	}
	return nil
}

func (d *device) Sync() error {
	if err := d.wait(); err != nil {
		return err
	}
	return d.Device.Sync()
}

func (d *device) Read(dst []float32, src kernels.Buffer, row int) error {
	if err := d.wait(); err != nil {
		return err
	}
	d.moved.Down += int64(4 * len(dst))
	return d.Device.Read(dst, src, row)
}

// HostMemory is false, as of a card.
func (d *device) HostMemory() bool { return false }

func (d *device) Reduce(x kernels.Buffer, r *kernels.Reduction) error {
	if err := d.wait(); err != nil {
		return err
	}
	err := d.Device.Reduce(x, r)
	d.moved.Down += int64(8*len(r.Top) + 4*len(r.Values) + 8*len(r.Sums))
	return err
}

// MemoryInfo implements devices.Device.
func (d *device) MemoryInfo() (free, total uint64, err error) {
	if f := d.card.onInfo.Load(); f != nil {
		(*f)()
	}
	all := d.card.Memory
	if d.card.Says > 0 {
		all = d.card.Says
	}
	return uint64(max(0, all-d.card.Used())), uint64(all), nil
}

func (d *device) Close() error {
	d.card.Open.Add(-1)
	return d.Device.Close()
}
