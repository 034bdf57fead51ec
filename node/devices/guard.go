package devices

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// ErrHung means that a device has not answered for so long that it never will.
// It is ErrLost as well.
var ErrHung = fmt.Errorf("%w: it does not answer", driver.ErrLost)

// Bounds of a wait for a device.
const (
	// firstWait is for the first waits, and compileWait for those of a driver that
	// compiles a kernel when it is first launched.
	firstWait   = 2 * time.Minute
	compileWait = 10 * time.Minute
	// leastWait is for all others, unless some took long: then they may take
	// waitTimes as long as the longest.
	leastWait = time.Minute
	waitTimes = 20
	// firstWaits is how many waits count as first.
	firstWaits = 16
)

// wait is one call that waits for the device.
type wait struct {
	dst []float32 // of Read
	src kernels.Buffer
	row int
	ask *kernels.Reduction // of Reduce; nil: Sync, or Read where there is a dst
	mem *memory            // of MemoryInfo
}

// memory is what a driver says of its device's memory.
type memory struct {
	free, total uint64
	err         error
}

// guard watches a device: what waits for it ends after a bound, whatever the
// driver does, and once it is lost nothing asks the driver any more.
//
// Waits run on a goroutine of the guard's own, because a call into a driver cannot
// be ended. When the driver never returns, that goroutine is left to it: nobody
// can wait for it. When it returns much later all the same, the device is only lost.
//
// A machine that slept has not waited: some clocks count sleep, and a bound that
// comes long after its time begins anew.
type guard struct {
	Device
	limit func(waits int, longest time.Duration) time.Duration
	now   func() time.Time
	calls chan wait
	done  chan error
	ended sync.WaitGroup

	// Used by the device's one goroutine.
	timer   *time.Timer
	waits   int
	longest time.Duration

	hung atomic.Bool
	late atomic.Bool           // it came back after it was given up
	lost atomic.Pointer[error] // what every wait gives from then on
}

func newGuard(d Device, limit func(int, time.Duration) time.Duration) *guard {
	g := &guard{Device: d, limit: limit, now: time.Now, calls: make(chan wait), done: make(chan error, 1), timer: time.NewTimer(time.Hour)}
	g.timer.Stop()
	g.ended.Go(g.run)
	return g
}

// bounds says how long the next wait for a device may take. Drivers of processors
// compile late.
func bounds(processor bool) func(waits int, longest time.Duration) time.Duration {
	first := firstWait
	if processor {
		first = compileWait
	}
	return func(waits int, longest time.Duration) time.Duration {
		if waits < firstWaits {
			return first
		}
		return max(leastWait, waitTimes*longest)
	}
}

// run does the waits, one after another.
func (g *guard) run() {
	for w := range g.calls {
		g.done <- g.wait(w)
		if g.hung.Swap(false) {
			g.late.Store(true)
		}
	}
}

func (g *guard) wait(w wait) error {
	switch {
	case w.mem != nil:
		w.mem.free, w.mem.total, w.mem.err = g.Device.MemoryInfo()
		return nil // one that does not know can compute all the same
	case w.ask != nil:
		return g.Device.Reduce(w.src, w.ask)
	case w.dst != nil:
		return g.Device.Read(w.dst, w.src, w.row)
	}
	return g.Device.Sync()
}

// Free implements kernels.Device.
func (g *guard) Free(handle any) {
	if !g.Hung() {
		g.Device.Free(handle)
	}
}

// Sync implements kernels.Device.
func (g *guard) Sync() error { return g.await(wait{}) }

// Read implements kernels.Device.
func (g *guard) Read(dst []float32, src kernels.Buffer, row int) error {
	if len(dst) == 0 {
		return g.Sync()
	}
	return g.await(wait{dst: dst, src: src, row: row})
}

// Reduce implements kernels.Device.
func (g *guard) Reduce(x kernels.Buffer, r *kernels.Reduction) error {
	return g.await(wait{src: x, ask: r})
}

// MemoryInfo implements Device. A driver that hangs may do so over this question too.
func (g *guard) MemoryInfo() (free, total uint64, err error) {
	m := &memory{}
	if err := g.await(wait{mem: m}); err != nil {
		return 0, 0, err
	}
	return m.free, m.total, m.err
}

func (g *guard) await(w wait) error {
	if err := g.lost.Load(); err != nil {
		return *err
	}
	begin, bound := g.now(), g.limit(g.waits, g.longest)
	g.timer.Reset(bound)
	g.calls <- w
	for from := begin; ; from = g.now() {
		select {
		case err := <-g.done:
			g.timer.Stop()
			if w.mem == nil {
				g.count(from.Equal(begin), g.now().Sub(begin))
			}
			if err != nil {
				g.fail(err)
			}
			return err
		case <-g.timer.C:
			if g.now().Sub(from) > bound+bound/2 {
				g.timer.Reset(bound) // the machine slept
				continue
			}
			if g.hung.Store(true); len(g.done) > 0 {
				g.hung.Store(false) // it came back just now
				continue
			}
			err := fmt.Errorf("%s: %w for %s", g.Name(), ErrHung, g.now().Sub(begin).Round(time.Second))
			g.fail(err)
			return err
		}
	}
}

// count notes a wait for what the device computes: the bound of the next ones
// depends on them.
func (g *guard) count(awake bool, took time.Duration) {
	if g.waits++; g.waits > firstWaits && awake {
		g.longest = max(g.longest, took)
	}
}

// fail keeps the first failure. A function of its own, so that waits that go well
// allocate nothing.
func (g *guard) fail(err error) { g.lost.CompareAndSwap(nil, &err) }

// Hung says that the driver has not come back so far: nothing may be asked of it,
// not even to give memory back.
func (g *guard) Hung() bool { return g.hung.Load() }

// Close gives the device back, but a hung one is left to its driver, and so is one that
// hung before if it does so again.
func (g *guard) Close() error {
	close(g.calls)
	if g.Hung() {
		return nil
	}
	g.ended.Wait()
	g.fail(errors.New("the device is closed"))
	if !g.late.Load() {
		return g.Device.Close()
	}
	closed := make(chan error, 1)
	go func() { closed <- g.Device.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(leastWait):
		return fmt.Errorf("%s: %w while it is closed", g.Name(), ErrHung)
	}
}
